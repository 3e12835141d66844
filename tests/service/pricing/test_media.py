"""Bounds and estimates for what is no text, before and after a request."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spanledger.pricing.media import (
    FILE_TOKENS,
    HIDDEN_TOKENS,
    IMAGE_TOKENS,
    LOW_DETAIL_TOKENS,
    bound_input,
)


def bound(messages: object, **body: object) -> int:
    """The bound of a request with these messages, less what is there for every request."""
    fields = {"messages": messages, **body}
    raws = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    size = sum(len(memoryview(raw)) for raw in raws.values())
    return bound_input(size, raws).tokens - HIDDEN_TOKENS - size


def user(*parts: object) -> list[object]:
    """A user's message of content parts."""
    return [{"role": "user", "content": list(parts)}]


DATA = "data:image/png;base64," + "A" * 400_000
LONG_TEXT = {"type": "text", "text": 'a "quoted" "image_url" and ' + DATA}


def test_text_is_bound_by_its_bytes() -> None:
    """Text counts its bytes, also where it talks of images or has a data URL in it."""
    assert bound([{"role": "user", "content": "naïve 日本語 🎉"}]) == 0
    assert bound(user(LONG_TEXT), tools=[{"type": "function"}]) == 0
    assert bound_input(1000) == (1000 + HIDDEN_TOKENS, False)


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
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_media_count_by_kind(part: dict[str, Any], expected: int) -> None:
    """What is no text counts by its kind, not by its base64; text beside it still counts."""
    assert bound(user(part)) == expected
    assert bound(user(part, LONG_TEXT, part)) == 2 * expected
    nested = {"type": "tool_result", "content": [part]}
    assert bound(user(nested)) == expected


def test_an_escaped_key_hides_no_image() -> None:
    """JSON may write any letter of a key as an escape; the image counts all the same."""
    raw = b'[{"role":"user","content":[{"type":"image\\u005furl","image\\u005Furl":{"url":"x"}}]}]'

    tokens, _ = bound_input(len(raw), {"messages": msgspec.Raw(raw)})

    assert tokens >= IMAGE_TOKENS


def test_an_unreadable_body_is_bound_high() -> None:
    """Where media are named and nothing can be read, the bound does not fall."""
    raw = b'["image_url",' + b"[" * 100_000

    bound = bound_input(len(raw), {"messages": msgspec.Raw(raw)})

    assert bound.tokens > len(raw) + IMAGE_TOKENS
    assert bound.sound
