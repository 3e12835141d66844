"""How long an audio file can be, and how long it likely is."""

from __future__ import annotations

import struct

import pytest

from spanledger.pricing.audio import Length, length_of
from tests.service.gateway.audio_files import mp3, ogg, wav


def measured(data: bytes) -> Length | None:
    """The length of a whole file."""
    return length_of(data[:4_096], data[-65_536:], len(data))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("seconds", [0.5, 1, 7.25])
def test_uncompressed_audio_is_known_to_the_second(rate: int, width: int, seconds: float) -> None:
    """WAV says how many bytes a second it has."""
    found = measured(wav(seconds, rate, width))

    assert found is not None
    assert found.likely == -int(-seconds // 1)
    assert found.likely <= found.most <= found.likely + 1


def test_a_stream_of_wav_has_no_length_of_its_own() -> None:
    """Programs that write to a pipe say that the data is as long as can be."""
    data = bytearray(wav(9))
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    assert measured(bytes(data)) == (10, 9)


@pytest.mark.parametrize("kbits", [8, 16, 64, 160])
def test_mp3_is_bounded_at_every_bit_rate(kbits: int) -> None:
    """And likely as long as its first frame says."""
    found = measured(mp3(30, kbits))

    assert found is not None
    assert found.most >= 30
    assert abs(found.likely - 30) <= 1


def test_mp3_of_the_first_version_begins_at_32_kbits() -> None:
    """So it is bounded more closely; also behind a tag, unless that is a long one."""
    frame = b"\xff\xfb\x90\xc4" + bytes(413)  # 128 kbit/s
    audio = frame * 400
    tag = b"ID3\x04\0\0" + bytes((0, 0, 1, 0)) + bytes(128)
    long_tag = b"ID3\x04\0\0" + bytes((0, 1, 0, 0)) + bytes(16_384)

    assert measured(audio) == (42, 11)
    assert measured(tag + audio) == (42, 11)
    assert measured(long_tag + audio) == (245, 23)


@pytest.mark.parametrize("size", [500, 100_000])
def test_a_container_says_how_long_it_is(size: int) -> None:
    """Where it is longer than its size makes likely, that counts."""
    assert measured(ogg(600, size)) == (600, 600)


def test_flac_and_mp4_say_it_too() -> None:
    """At their beginning, or their end."""
    packed = (16_000 << 44) | (16_000 * 90)
    flac = b"fLaC\0\0\0\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(5_000)
    header = b"mvhd" + bytes(12) + struct.pack(">II", 1_000, 75_500)
    mp4 = b"\0\0\0\x18ftypM4A " + bytes(70_000) + header + bytes(100)

    assert measured(flac) == (90, 90)
    assert measured(mp4) == (94, 76)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!AMR\n" + bytes(500),
        b"RIFF\0\0\0\0AVI " + bytes(500),
        wav(1).replace(b"\x01\x00\x01\x00", b"\x55\x00\x01\x00", 1),  # MP3 inside a WAV
        wav(1)[:30],
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + bytes(500),
        b"fLaC\0\0\0\x22" + bytes(10) + (16_000 << 44).to_bytes(8, "big") + bytes(5_000),
    ],
)
def test_what_nobody_can_tell_has_no_length(data: bytes) -> None:
    """So that it is refused where a budget blocks."""
    assert measured(data) is None


WEBM = b"\x1a\x45\xdf\xa3" + bytes(40)
CLUSTER = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7


def test_webm_is_bounded_by_its_size() -> None:
    """Browsers that record do not write how long it became."""
    assert measured(WEBM + bytes(75_000 - len(WEBM))) == (100, 19)


@pytest.mark.parametrize(
    ("head", "tail", "likely"),
    [
        (b"\x44\x89\x88" + struct.pack(">d", 90_500.0), b"", 91),
        (b"\x44\x89\x84" + struct.pack(">f", 90_500.0), b"", 91),
        (b"\x2a\xd7\xb1\x83\x98\x96\x80\x44\x89\x84" + struct.pack(">f", 9_050.0), b"", 91),
        (b"", CLUSTER + b"\xe7\x83\x01\x61\x84", 91),
        (b"", CLUSTER + b"\xbf\x84abcd\xe7\x83\x01\x61\x84", 91),
        (b"\x44\x89\x84" + struct.pack(">f", float("nan")), b"", 1),
        (b"\x44\x89\x84" + struct.pack(">f", -5.0), CLUSTER, 1),
        (b"\x44\x89", b"\x1f\x43\xb6\x75", 1),
    ],
)
def test_webm_with_pauses(head: bytes, tail: bytes, likely: int) -> None:
    """Silence may take no bytes: what the file says of its length, or the time of its last cluster, is
    longer than its size makes likely."""
    found = measured(WEBM + head + bytes(500) + tail + bytes(99 if tail else 0))

    assert found is not None
    assert found.likely == likely
    assert found.most > found.likely
