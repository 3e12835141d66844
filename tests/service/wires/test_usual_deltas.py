"""Deltas that are passed on without waking the reader are what the reader would have made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.errors import ProviderError
from spanledger.wires.anthropic.native import EventReader
from spanledger.wires.base import Frame, ReadsUsual
from tests.service.providers.scripted import deployment
from tests.service.wires.test_responses import reader as response_reader

SERVER = deployment(None)
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word"}}
DELTAS = {
    "text": TEXT,
    "thinking": {**TEXT, "delta": {"type": "thinking_delta", "thinking": "word"}},
    "input": {**TEXT, "delta": {"type": "input_json_delta", "partial_json": "word"}},
    "signature": {**TEXT, "delta": {"type": "signature_delta", "signature": "word"}},
    "responses": {
        "type": "response.output_text.delta",
        "sequence_number": 7,
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "word",
        "logprobs": [],
        "obfuscation": "aB3",
    },
    "arguments": {
        "delta": "word",
        "item_id": "fc_1",
        "type": "response.function_call_arguments.delta",
    },
}
INSERTED = [
    b',"type":"message_stop"',
    b',"type":"error"',
    b',"object":"error"',
    b',"error":{"message":"x"}',
    b',"response":{"id":"resp_1"}',
    b',"delta":null',
    b',"delta":{"text":"more"}',
    b',"usage":{"output_tokens":2}',
    b'"',
    b"\\",
    b"\\ud83d",
    b"\xff",
    b"}",
    b"\n",
]


class Reader(ReadsUsual, Protocol):
    """What reads a stream, and knows its usual events."""

    def read(self, payload: bytes) -> Frame | None: ...


def fresh(name: str) -> Reader:
    """What reads a stream that has had no content yet, so that it knows no usual event."""
    if name in ("responses", "arguments"):
        made = response_reader()
        assert isinstance(made, ReadsUsual)
        return made
    return EventReader(SERVER, "req-1")


def begun(name: str) -> Reader:
    """The same, behind a first delta."""
    made = fresh(name)
    first = TEXT if name not in ("responses", "arguments") else DELTAS["responses"]
    assert made.read(bare(first)) is not None
    return made


def bare(data: object) -> bytes:
    """JSON as providers write it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def told(read: Callable[[bytes], Frame | None], payload: bytes) -> Frame | str | None:
    """What is made of a payload: a frame, or the kind of its error."""
    try:
        return read(payload)
    except ProviderError as error:
        return error.kind


@pytest.mark.parametrize("name", DELTAS)
def test_a_delta_behind_the_first(name: str) -> None:
    """It is known, and the first one is not: that has what is to be noted of the whole stream."""
    payload = bare(DELTAS[name])
    assert fresh(name).usual(payload) is None

    frame = begun(name).usual(payload)

    assert frame is not None
    assert frame.usual
    assert frame.output_bytes == (0 if name == "signature" else 4)
    assert frame == fresh(name).read(payload)


@pytest.mark.parametrize("name", DELTAS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_is_seen(name: str, data: st.DataObject) -> None:
    """However the bytes of an event are changed, it is read as it would be in its turn, or left to
    that."""
    payload = bytearray(bare(DELTAS[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload)))
        cut = data.draw(st.integers(0, 8))
        payload[at : at + cut] = data.draw(st.binary(max_size=4) | st.sampled_from(INSERTED))
    changed = bytes(payload)

    frame = begun(name).usual(changed)

    assert frame is None or frame == told(fresh(name).read, changed)


@pytest.mark.parametrize(
    "payload",
    [
        bare({"type": "message_stop"}),
        bare({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}),
        bare({"type": "response.completed", "response": {"id": "resp_1", "output": []}}),
        bare({"type": "response.output_item.done", "item": {"type": "x.delta"}}),
        bare({"type": "error", "error": {"type": "overloaded_error", "message": ".delta"}}),
        b"[DONE]",
    ],
)
def test_what_is_no_delta(payload: bytes) -> None:
    """Every other event takes its turn."""
    assert begun("text").usual(payload) is None
    assert begun("responses").usual(payload) is None
