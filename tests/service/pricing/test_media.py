"""Bounds and estimates for non-text parts, before and after a request."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spanledger.pricing.media import (
    FILE_TOKENS,
    HIDDEN_TOKENS,
    IMAGE_TOKENS,
    LIKELY_FILE_TOKENS,
    LIKELY_IMAGE_TOKENS,
    LOW_DETAIL_TOKENS,
    SPOKEN_TOKENS,
    WINDOW_TOKENS,
    InputBound,
    bound_input,
    likely_media,
)


def bound(messages: object, **body: object) -> int:
    """The bound of a request with these messages, less the part that every request has."""
    fields = {"messages": messages, **body}
    raws = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    size = sum(len(memoryview(raw)) for raw in raws.values())
    return bound_input(size, raws).tokens - HIDDEN_TOKENS - size


def user(*parts: object) -> list[object]:
    """A user's message of content parts."""
    return [{"role": "user", "content": list(parts)}]


DATA = "data:image/png;base64," + "A" * 400_000
SOUND = "data:audio/mp3;base64," + "A" * 7_978
LONG_TEXT = {"type": "text", "text": 'a "quoted" "image_url" and ' + DATA}


def test_text_is_bound_by_its_bytes() -> None:
    """Text counts its bytes, also if it mentions images or contains a data URL."""
    assert bound([{"role": "user", "content": "naïve 日本語 🎉"}]) == 0
    assert bound(user(LONG_TEXT), tools=[{"type": "function"}]) == 0
    assert bound_input(1000) == InputBound(1000 + HIDDEN_TOKENS)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": "https://x/y.png"}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": DATA}}, IMAGE_TOKENS - len(DATA)),
        (
            {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}},
            LOW_DETAIL_TOKENS - len(DATA),
        ),
        (
            {"type": "image", "source": {"type": "base64", "data": "A" * 400_000}},
            IMAGE_TOKENS - 400_000,
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "A" * 80_000, "format": "mp3"}},
            10_000 - 80_000,
        ),
        ({"type": "file", "file": {"file_data": DATA}}, FILE_TOKENS),
        ({"type": "file", "file": {"file_id": "file-1"}}, FILE_TOKENS),
        ({"type": "document", "source": {"type": "url", "url": "https://x/y"}}, FILE_TOKENS),
        ({"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}, WINDOW_TOKENS),
        ({"type": "audio_url", "audio_url": {"url": "https://x/y.mp3"}}, WINDOW_TOKENS),
        ({"audio_url": {"url": SOUND}}, len(SOUND) // 8 - len(SOUND)),
        ({"role": "assistant", "audio": {"id": "audio_1"}}, SPOKEN_TOKENS),
        ({"type": "image_url", "image_url": {"url": "gs://bucket/film"}}, WINDOW_TOKENS),
        ({"type": "image_url", "image_url": "https://x/y.PDF?page=1"}, WINDOW_TOKENS),
        ({"type": "image_url", "image_url": {"url": SOUND}}, WINDOW_TOKENS),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y", "format": "video/mp4"}},
            WINDOW_TOKENS,
        ),
        ({"role": "assistant", "audio": None}, 0),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_media_count_by_kind(part: dict[str, Any], expected: int) -> None:
    """Non-text parts count by kind, not by their base64; text next to them still counts."""
    assert bound(user(part)) == expected
    assert bound(user(part, LONG_TEXT, part)) == 2 * expected
    nested = {"type": "tool_result", "content": [{"anything": {"deep": [part]}}]}
    assert bound(user(nested)) == expected


def test_an_escaped_key_hides_no_image() -> None:
    """JSON may escape any letter of a key; the image counts all the same."""
    raw = b'[{"role":"user","content":[{"type":"image\\u005furl","image\\u005Furl":{"url":"x"}}]}]'

    tokens = bound_input(len(raw), {"messages": msgspec.Raw(raw)}).tokens

    assert tokens >= IMAGE_TOKENS


def test_an_unreadable_body_is_bound_high() -> None:
    """If media are named and cannot be parsed, the bound does not drop."""
    raw = b'["image_url",' + b"[" * 100_000

    bound = bound_input(len(raw), {"messages": msgspec.Raw(raw)})

    assert bound.tokens > len(raw) + IMAGE_TOKENS
    assert bound.sound


@pytest.mark.parametrize(
    ("part", "sound"),
    [
        ({"type": "image_url", "image_url": {"url": DATA}}, False),
        ({"type": "text", "text": "input_audio"}, False),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}, True),
        ({"type": "file", "file": {"file_id": "file-1"}}, True),
        ({"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}, True),
        ({"role": "assistant", "audio": {"id": "audio_1"}}, True),
    ],
)
def test_what_may_be_sound_is_told(part: dict[str, Any], sound: bool) -> None:
    """Audio is priced separately, and files and videos may contain some."""
    raw = msgspec.Raw(json.dumps(user(part)).encode())

    assert bound_input(100, {"messages": raw}).sound is sound


@pytest.mark.parametrize(
    ("part", "likely"),
    [
        ({"type": "text", "text": "image"}, (0, 0)),
        ({"type": "image_url", "image_url": {"url": DATA}}, (LIKELY_IMAGE_TOKENS, 0)),
        ({"type": "image_url", "image_url": {"url": "x", "detail": "low"}}, (85, 0)),
        ({"type": "file", "file": {"file_data": "A" * 40_000}}, (10_000, 0)),
        ({"type": "file", "file": {"file_id": "file-1"}}, (LIKELY_FILE_TOKENS, 0)),
        ({"type": "input_audio", "input_audio": {"data": "A" * 51_200}}, (100, 100)),
        ({"type": "video_url", "video_url": {"url": "https://x/y"}}, (LIKELY_FILE_TOKENS, 0)),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_an_estimate_has_what_is_no_text(part: dict[str, Any], likely: tuple[int, int]) -> None:
    """A file or audio whose answer nobody saw is not free, and costs less than its bound."""
    assert likely_media(user(part)) == likely
    assert likely[0] <= max(0, bound(user(part)) + len(json.dumps(user(part))))


@pytest.mark.parametrize(
    ("raw", "repeated"),
    [
        (
            b'[{"content":[{"type":"image_url","image_url":"https://x/y.png"}],"content":"x"}]',
            "content",
        ),
        (
            b'[{"content":"x","content":[{"type":"image_url","image_url":"https://x/y"}]}]',
            "content",
        ),
        (b'[{"c":[{"type":"text","type":"image_url","image_url":"https://x/y"}]}]', "type"),
        (b'[{"content":[{"type":"input_audio"}],"con\\u0074ent":"x"}]', "content"),
        (b'[{"content":[{"type":"image_url","image_url":"https://x/y"}]},{"content":"x"}]', ""),
    ],
)
def test_equal_keys_are_noticed(raw: bytes, repeated: str) -> None:
    """If there are non-text parts, an object with a duplicate key is not judged by its last
    value."""
    assert bound_input(len(raw), {"messages": msgspec.Raw(raw)}).repeated == repeated
