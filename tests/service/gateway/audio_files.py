"""Audio files of a known length, made byte by byte."""

from __future__ import annotations

import io
import struct
import wave


def wav(seconds: float, rate: int = 8_000, width: int = 2, fill: bytes = b"\0") -> bytes:
    """Uncompressed audio."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(fill * int(seconds * rate) * width)
    return buffer.getvalue()


def mp3(seconds: float, kbits: int = 64) -> bytes:
    """Frames of MPEG 2, layer III, at 22,050 Hz, all of one bit rate."""
    index = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160).index(kbits)
    size = 72 * kbits * 1_000 // 22_050
    frame = bytes((0xFF, 0xF3, index << 4, 0xC4)) + bytes(size - 4)
    return frame * max(1, round(seconds * kbits * 125 / size))


def ogg(seconds: float, size: int = 4_000) -> bytes:
    """Two pages of Opus, the last of which has the position of its end."""
    head = b"OggS\0\x02" + struct.pack("<q", 0) + bytes(13) + b"OpusHead"
    last = b"OggS\0\x04" + struct.pack("<q", int(seconds * 48_000)) + bytes(13)
    return head + bytes(max(0, size - len(head) - len(last))) + last
