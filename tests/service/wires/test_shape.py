"""Chunks that are passed on undecoded are read as the full reader would read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.errors import ProviderError
from spanledger.wires.base import Frame
from spanledger.wires.openai.answer import read_chunk
from spanledger.wires.openai.outbound import ChatReader
from spanledger.wires.openai.shape import MAX_SHAPES, UsualReader
from tests.service.providers.scripted import deployment

SERVER = deployment(None)


def chunk(text: object = "word", **more: Any) -> dict[str, Any]:
    """A chunk as OpenAI sends it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": [
            {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        ],
        **more,
    }


def bare(data: object, *, spaces: bool = False) -> bytes:
    """JSON as servers write it."""
    separators = None if spaces else (",", ":")
    return json.dumps(data, ensure_ascii=False, separators=separators).encode(
        "utf-8", "surrogatepass"
    )


def full(payload: bytes) -> Frame:
    """The reader that decodes."""
    return read_chunk(SERVER, payload, "req-1", began=True)


def told(payload: bytes) -> Frame | str:
    """What the full reader makes of a payload: a frame, or the kind of its error."""
    try:
        return full(payload)
    except ProviderError as error:
        return error.kind


def taught(payload: bytes) -> UsualReader:
    """A reader that has seen this chunk."""
    usual = UsualReader(full)
    usual.learn(payload, full(payload))
    return usual


SHAPES = {
    "openai": bare(chunk(usage=None, obfuscation="aB3")),
    "plain": bare(chunk()),
    "spaces": bare(chunk(), spaces=True),
    "role": bare(
        chunk() | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]}
    ),
    "reasoning": bare(
        chunk() | {"choices": [{"index": 0, "delta": {"content": None, "reasoning_content": "Hm"}}]}
    ),
    "arguments": bare(
        chunk()
        | {
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
                }
            ]
        }
    ),
}
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "é", "\n", '"', "\\", "\\\\", '\\"', "a/b", "\x7f", "\u2028", "\ud83d", "😀", '","x":"']
)


@pytest.mark.parametrize("name", SHAPES)
def test_another_text_needs_no_decoding(name: str) -> None:
    """Of each usual shape, a chunk with another text is read without the full reader."""
    usual = taught(SHAPES[name])
    text = {"arguments": b'"{"', "reasoning": b'"Hm"', "role": b'"Hi"'}.get(name, b'"word"')

    other = SHAPES[name].replace(text, '"é, \\n\\"x\\\\"'.encode())
    frame = usual.read(other)

    assert frame == full(other)
    assert frame is not None
    assert frame.usual
    assert frame.output_bytes == 8


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=200, deadline=None)
@given(text=TEXTS, ascii_only=st.booleans(), padding=st.text("aZ09", max_size=4))
def test_any_text_is_counted_alike(name: str, text: str, ascii_only: bool, padding: str) -> None:
    """Whatever a text is and however it is written, a frame is the full reader's."""
    usual = taught(SHAPES[name])
    quoted = json.dumps(text, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    before = {"arguments": b'"{"', "reasoning": b'"Hm"', "role": b'"Hi"'}.get(name, b'"word"')
    payload = SHAPES[name].replace(before, quoted).replace(b'"aB3"', b'"%b"' % padding.encode())

    frame = usual.read(payload)

    assert frame is None or frame == told(payload)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_any_change_is_seen(name: str, data: st.DataObject) -> None:
    """However the bytes of a chunk are changed, it is read as by the full reader or passed to it."""
    base = SHAPES[name]
    usual = taught(base)
    payload = bytearray(base)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload)))
        cut = data.draw(st.integers(0, 8))
        piece = data.draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [
                    b'"finish_reason":"stop"',
                    b',"error":{"message":"x"}',
                    b',"usage":{"prompt_tokens":1,"completion_tokens":2}',
                    b',"content":"more"',
                    b'"',
                    b"\\",
                    b"\\u0041",
                    b"\xff",
                    b"}",
                    b"]",
                    b"\n",
                ]
            )
        )
        payload[at : at + cut] = piece
    changed = bytes(payload)

    frame = usual.read(changed)

    assert frame is None or frame == told(changed)


@pytest.mark.parametrize(
    "payload",
    [
        bare(chunk() | {"choices": [*chunk()["choices"], *chunk("two")["choices"]]}),
        bare(chunk(choices=[{"index": 0, "delta": {"content": "a", "reasoning": "b"}}])),
        bare(chunk(choices=[{"index": 0, "delta": {"reasoning": "b"}, "x": {"content": "b"}}])),
        bare(chunk(usage={"prompt_tokens": 1, "completion_tokens": 1})),
        bare(chunk(choices=[{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}])),
        b'{"choices":[{"delta":{"content":"a","content":"b"}}],"x":{"content":"b"}}',
        b'{"choices":[{"delta":{"content":[{"type":"text","content":"b"}]}}]}',
    ],
    ids=["two", "both", "elsewhere", "usage", "end", "twice", "parts"],
)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_what_is_no_usual_chunk(payload: bytes, text: str) -> None:
    """Of a chunk with more than one text, with an end or with usage, nothing false is learnt."""
    usual = taught(payload)
    quoted = json.dumps(text).encode()

    for old in (b'"a"', b'"b"', b'"word"', b'"two"'):
        changed = payload.replace(old, quoted, 1)
        frame = usual.read(changed)
        assert frame is None or frame == told(changed)


def test_a_stream_of_changing_shapes_is_not_learnt_forever() -> None:
    """A stream whose chunks have nothing in common is read by the full reader alone, after a few
    tries."""
    asked = 0

    def counted(payload: bytes) -> Frame:
        nonlocal asked
        asked += 1
        return full(payload)

    usual = UsualReader(counted)
    for number in range(100):
        payload = bare(chunk(created=number))
        assert usual.read(payload) is None
        usual.learn(payload, full(payload))

    assert asked == 2 * MAX_SHAPES


def test_a_stream_counts_the_same_in_all() -> None:
    """A stream read by shape has the frames that it has when each chunk is decoded."""
    reader = ChatReader(SERVER, {}, "req-1")
    payloads = [
        bare(
            chunk("") | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        ),
        *(bare(chunk(f"{n}", usage=None, obfuscation="x" * (n % 5))) for n in range(40)),
        bare(chunk() | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        bare(chunk(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 40})),
    ]

    frames = [reader.read(payload) for payload in payloads]

    assert frames == [full(payload) for payload in payloads]
    assert sum(frame is not None and frame.usual for frame in frames) == 39
    assert reader.read(b"[DONE]") is None
    assert reader.ended
    reader.last()
