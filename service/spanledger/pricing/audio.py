"""How long an audio file is: the most that it can be, for a hold, and what it likely is.

Nobody decodes audio here. Uncompressed audio says how many bytes a second it has, and its decoder
believes it. Of compressed audio, the length is bounded by the lowest bit rate that its format has or
is used at, and by the length that the file itself states, whichever is longer: silence takes next to
no bytes in FLAC, and in Opus with DTX. So FLAC that states no length has no bound. A file forged to
have a lower bit rate than any in use, and to state a length below its own, overruns its hold.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from spanledger.clock import NANOS

LEAST_BYTES_PER_SECOND = 750
"""6 kbit/s, the lowest that Opus (RFC 6716) and codecs for speech are used at."""
LIKELY_BYTES_PER_SECOND = 8_000
"""64 kbit/s: common for speech in MP3 and AAC."""
LIKELY_OPUS_BYTES_PER_SECOND = 4_000
MAX_SECONDS = 10_000_000
"""What garbage is bounded to."""
_PLAIN = frozenset({1, 3, 6, 7})
"""WAV's formats with a fixed size of samples: integers, floats, A-law, µ-law."""
_EXTENSIBLE = 0xFFFE
_MP3_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
"""By whether it is MPEG 1, and the index in a frame's header (ISO/IEC 11172-3, 13818-3)."""


class Length(NamedTuple):
    """Seconds of audio, rounded up.

    Attributes:
        most: a bound.
        likely: what it has probably; for uncompressed audio, what it has.
    """

    most: int
    likely: int


def length_of(head: bytes, tail: bytes, size: int) -> Length | None:
    """The length of an audio file, by its beginning, its end and its size in bytes; None if it is in
    no format that we know."""
    kind = head[:4]
    if kind in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _wav(head, size)
    if kind == b"fLaC":
        stated = _flac_seconds(head)
        return _compressed(size, stated) if stated else None
    if kind == b"OggS":
        return _compressed(size, _ogg_seconds(head, tail), LIKELY_OPUS_BYTES_PER_SECOND)
    if kind == b"\x1a\x45\xdf\xa3":  # Matroska and WebM
        return _webm(head, tail, size)
    if head[4:8] == b"ftyp":
        return _compressed(size, _mp4_seconds(head, tail))
    frame = head[_id3_size(head) :][:4] if head[:3] == b"ID3" else head[:4]
    if len(frame) > 3 and frame[0] == 0xFF and frame[1] & 0xE0 == 0xE0:  # MP3, and AAC in ADTS
        return _mp3(frame, size)
    return _compressed(size, 0) if head[:3] == b"ID3" else None


def _compressed(
    size: int,
    stated: int,
    rate: int = LIKELY_BYTES_PER_SECOND,
    least: int = LEAST_BYTES_PER_SECOND,
) -> Length:
    most = max(_up(size, least), stated)
    return Length(most, min(stated or _up(size, rate), most))


def _wav(head: bytes, size: int) -> Length | None:
    at = 12
    while at + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, at)
        if name != b"fmt ":
            at += 8 + length + (length & 1)
            continue
        if length < 16 or at + 8 + length > len(head):
            return None
        form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
        if form == _EXTENSIBLE and length >= 26:
            (form,) = struct.unpack_from("<H", head, at + 32)
        each = channels * rate * bits
        if form not in _PLAIN or bits not in (8, 16, 24, 32, 64) or not each:
            return None
        data = _wav_data(head, at + 8 + length + (length & 1), size)
        return Length(_up(size * 8, each), _up(data * 8, each))
    return None


def _wav_data(head: bytes, at: int, size: int) -> int:
    """Bytes of samples; the rest of the file where it was written as a stream."""
    while at + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, at)
        if name == b"data":
            return int(min(length, size - at - 8))
        at += 8 + length + (length & 1)
    return size - min(at, size)


def _flac_seconds(head: bytes) -> int:
    """By its first block, STREAMINFO (RFC 9639, section 8.2)."""
    if len(head) < 26:
        return 0
    packed = int.from_bytes(head[18:26], "big")
    rate, samples = packed >> 44, packed & (2**36 - 1)
    return _up(samples, rate)


def _ogg_seconds(head: bytes, tail: bytes) -> int:
    """By the position of the last page; Opus counts in 48 kHz (RFC 7845, section 4)."""
    last = tail.rfind(b"OggS")
    rate = 48_000
    vorbis = head.find(b"\x01vorbis")
    if 0 <= vorbis <= len(head) - 16:
        (rate,) = struct.unpack_from("<I", head, vorbis + 12)
    if last < 0 or len(tail) < last + 14:
        return 0
    (position,) = struct.unpack_from("<q", tail, last + 6)
    return _up(max(position, 0), rate)


def _webm(head: bytes, tail: bytes, size: int) -> Length:
    """By the duration near the beginning and the time of the last cluster, whichever is later (RFC 9559,
    sections 5.1.2 and 5.1.3). Browsers that record write no duration."""
    scale_ns = _ebml_number(head, b"\x2a\xd7\xb1") or 1_000_000
    at = tail.rfind(b"\x1f\x43\xb6\x75")
    last = 0 if at < 0 else _ebml_number(tail[at + 4 : at + 36], b"\xe7")
    length = max(_ebml_duration(head, b"\x44\x89"), last)
    stated = _up(length * scale_ns, NANOS)
    # A cluster's blocks are at most 32,767 ticks later than it.
    most = max(_up(size, LEAST_BYTES_PER_SECOND), _up((length + 32_767) * scale_ns, NANOS))
    return Length(most, min(stated or _up(size, LIKELY_OPUS_BYTES_PER_SECOND), most))


def _ebml_number(data: bytes, name: bytes) -> int:
    """The first element of a name that is a number of up to 8 bytes; 0 without one."""
    at = data.find(name) + len(name)
    if at < len(name) or not 0x81 <= data[at : at + 1].ljust(1, b"\0")[0] <= 0x88:
        return 0
    return int.from_bytes(data[at + 1 : at + 1 + (data[at] & 0x0F)], "big")


def _ebml_duration(data: bytes, name: bytes) -> int:
    """The same for a float, rounded up."""
    at = data.find(name) + len(name)
    form = {b"\x84": ">f", b"\x88": ">d"}.get(data[at : at + 1]) if at >= len(name) else None
    if form is None or len(data) < at + 1 + struct.calcsize(form):
        return 0
    (value,) = struct.unpack_from(form, data, at + 1)
    return math.ceil(value) if 0 <= value < 10**15 else 0


def _mp4_seconds(head: bytes, tail: bytes) -> int:
    """By the movie's header, near the beginning or the end (ISO/IEC 14496-12, 8.2.2)."""
    for part in (head, tail):
        at = part.rfind(b"mvhd") + 4
        if at < 4:
            continue
        form, skip = (">IQ", 20) if part[at : at + 1] == b"\x01" else (">II", 12)
        if len(part) < at + skip + struct.calcsize(form):
            continue
        scale, duration = struct.unpack_from(form, part, at + skip)
        return _up(duration, scale)
    return 0


def _id3_size(head: bytes) -> int:
    """Bytes of an ID3 tag before the audio; seven bits of each of four are its length."""
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10


def _mp3(frame: bytes, size: int) -> Length:
    """By the header of the first frame. One MPEG version has one lowest bit rate."""
    if frame[1] & 0x06 != 0x02:
        return _compressed(size, 0)
    rates = _MP3_KBITS[frame[1] & 0x18 == 0x18]
    kbits = rates[frame[2] >> 4] or rates[1]
    return _compressed(size, 0, kbits * 125, rates[1] * 125)


def _up(amount: int, per_second: int) -> int:
    """Whole seconds, rounded up; none where the rate makes no sense."""
    return min(-(-amount // per_second), MAX_SECONDS) if per_second else 0
