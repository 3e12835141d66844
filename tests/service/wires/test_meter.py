"""Usage in answers of endpoints that nobody knows, found as they pass."""

from __future__ import annotations

import json

import pytest

from spanledger.wires.meter import MAX_METERED_BYTES, Meter

CHAT = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def metered(kind: str, body: bytes, *, anthropic: bool = False, step: int = 5) -> Meter:
    """The meter after a body that came in pieces."""
    meter = Meter(kind, anthropic=anthropic)
    for start in range(0, len(body), step):
        meter.feed(body[start : start + step])
    meter.end()
    return meter


def events(*payloads: object) -> bytes:
    """A stream of events."""
    return b"".join(b"data: " + json.dumps(p).encode() + b"\n\n" for p in payloads)


@pytest.mark.parametrize("place", ["", "response", "x_groq"])
def test_places(place: str) -> None:
    """Usage is found where the known APIs have it, whole and in events."""
    told = {"model": "m", "usage": CHAT}
    body = {place: told} if place else told
    for kind, data in (
        ("application/json; charset=utf-8", json.dumps(body).encode()),
        ("text/event-stream", events({"model": "m", "usage": None}, body)),
    ):
        meter = metered(kind, data)
        assert meter.usage is not None
        assert (meter.usage.input_tokens, meter.usage.output_tokens, meter.model) == (7, 3, "m")


def test_anthropics_stream() -> None:
    """The counts of Anthropic's events add up to one usage."""
    start = {
        "type": "message_start",
        "message": {"model": "c", "usage": {"input_tokens": 5, "output_tokens": 1}},
    }
    delta = {"type": "message_delta", "usage": {"output_tokens": 9}}
    meter = metered("text/event-stream", events(start, delta), anthropic=True)
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens, meter.model) == (5, 9, "c")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b'{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}'),
        ("application/json", b'{"usage": "none"'),
        ("application/json", b'{"usage": "none", "model": 7}'),
        ("application/json", b"[1]"),
        ("application/json", b'{"usage": {"bytes": 3}}'),
    ],
)
def test_what_is_not_usage(kind: str, body: bytes) -> None:
    """Other bodies, and garbage, have none."""
    assert metered(kind, body).usage is None


def test_a_large_body_is_not_kept() -> None:
    """A body over the limit is neither kept nor searched."""
    told = json.dumps({"usage": CHAT, "data": "x" * MAX_METERED_BYTES}).encode()
    for kind, body in (
        ("application/json", told),
        ("text/event-stream", b"data: " + told + b"\n\n"),
    ):
        assert metered(kind, body, step=65_536).usage is None
