"""Answers as providers publish or were recorded sending them: `corpus/index.json` has each one's source
and what it must be read as, by the documentation of its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic.types
import msgspec
import openai.types.chat
import openai.types.responses
import pytest
from pydantic import TypeAdapter

from spanledger.pricing.usage import Usage
from spanledger.providers.base import Call, Deployment
from spanledger.wires import FROM_CHAT, INBOUND, OUTBOUND, TO_CHAT
from spanledger.wires.base import Frame, Habits, Reader, ReadsUsual, Seen, Written
from spanledger.wires.failures import reported_by
from spanledger.wires.gemini.inbound import GenerateContent
from spanledger.wires.sse import EventParser, events_of

FOLDER = Path(__file__).parent / "corpus"
INDEX: dict[str, dict[str, Any]] = json.loads((FOLDER / "index.json").read_bytes())
REQUESTS = [name for name in INDEX if name.startswith("requests/")]
ANSWERS = [name for name in INDEX if name not in REQUESTS]
WHOLE = [name for name in ANSWERS if name.endswith(".json")]
STREAMS = [name for name in ANSWERS if name.endswith(".sse")]
WIRES = {wire.name: wire for wire in INBOUND.values()} | {"generate_content": GenerateContent("m")}
SEEN = Seen("req_1", 7)
MODELS = {"chat": "gpt-4o-mini", "responses": "gpt-5", "messages": "claude-opus-5"}
ASKED: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "responses": {"input": "hi"},
    "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    "generate_content": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
TRANSLATED = [
    (name, asked)
    for name in ANSWERS
    for asked in ("chat", *TO_CHAT)
    if (spoken := name.split("/")[0]) in FROM_CHAT and asked != spoken
    # A custom tool's call answers only who asked for one; the client's type of a chunk has none.
    if (name, asked) != ("responses/custom_tool.sse", "chat")
]
CLIENTS: dict[str, tuple[Any, Any]] = {
    "chat": (openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk),
    "responses": (openai.types.responses.Response, openai.types.responses.ResponseStreamEvent),
    "messages": (anthropic.types.Message, anthropic.types.RawMessageStreamEvent),
}
PARTS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cache_read_input_tokens",
    "written": "cache_write_input_tokens",
    "reasoning": "reasoning_output_tokens",
    "audio_input": "audio_input_tokens",
    "image_input": "image_input_tokens",
    "searches": "searches",
}
UNKNOWN: tuple[Any, ...] = (None, True, -1.5, "2099", [], {"a": [{"b": None}]})


class Told(NamedTuple):
    """What came out of a recording."""

    payloads: list[bytes]
    usage: Usage | None
    finish: str


def wire_of(name: str) -> str:
    """The wire of a recording."""
    return name.split("/")[0]


def server(spoken: str) -> Deployment:
    """A deployment that speaks a wire."""
    model = MODELS.get(spoken, "m")
    return Deployment("d", "r", "openai", "openai", model, f"openai/{model}")


def written(asked: str, spoken: str, *, stream: bool) -> Written:
    """A request that such an answer may follow."""
    if asked not in ASKED:
        told = {"model": b'"m"', "file": b'{"bytes":9,"most_s":30,"likely_s":27}'}
        fields = {key: msgspec.Raw(value) for key, value in told.items()}
        return Written(Call(server(spoken), WIRES[asked], fields, 60), b"")
    body = json.dumps({"model": "m", "stream": stream, **ASKED[asked]}).encode()
    ask = WIRES[asked].read(body)
    return OUTBOUND[asked, spoken].request(
        Call(server(spoken), WIRES[asked], ask.fields, 60), stream, Habits()
    )


def whole(name: str, body: bytes, asked: str = "") -> Told:
    """A complete answer, as a caller gets it."""
    spoken = wire_of(name)
    asked = asked or spoken
    answer = OUTBOUND[asked, spoken].answer(written(asked, spoken, stream=False), body, SEEN)
    usage = None if answer.counted else answer.usage
    return Told([answer.body], usage, "".join(answer.finish_reasons))


def streamed(name: str, payloads: list[bytes], asked: str = "") -> Told:
    """A stream, as a caller gets it."""
    spoken = wire_of(name)
    asked = asked or spoken
    reader = OUTBOUND[asked, spoken].reader(written(asked, spoken, stream=True), SEEN)
    frames = list(_frames(reader, payloads))
    sent = b"".join(frame.data for frame in frames)
    finish = "".join(frame.finish_reason for frame in frames)
    return Told([sent], reported_by(frames), finish)


def _frames(reader: Reader, payloads: list[bytes]) -> Iterator[Frame]:
    for payload in payloads:
        frame = reader.usual(payload) if isinstance(reader, ReadsUsual) else None
        frame = frame or reader.read(payload)
        if frame is not None:
            yield frame
    if not reader.ended:
        rest = reader.rest(b"")
        assert rest is not None
        yield from filter(None, map(reader.read, rest))
    if (last := reader.last()) is not None:
        yield last


def recorded(name: str) -> bytes:
    """The bytes of a recording."""
    return (FOLDER / name).read_bytes()


def with_unknown(value: Any, unknown: Any) -> Any:
    """The same with a field that nobody knows in every object."""
    if isinstance(value, list):
        return [with_unknown(item, unknown) for item in value]
    if not isinstance(value, dict):
        return value
    known = {key: with_unknown(item, unknown) for key, item in value.items()}
    return {**known, "x_unknown": unknown}


def encoded(value: Any) -> bytes:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def without_end(payloads: list[bytes]) -> list[bytes]:
    """The events before the end mark, which the gateway writes itself once the request is booked."""
    last = payloads[-1]
    return payloads[:-1] if last == b"[DONE]" or b'"message_stop"' in last else payloads


def check(name: str, told: Told) -> None:
    """Compare usage and finish reason with those of the index."""
    wanted = INDEX[name]
    figures = {own: wanted.get(key, 0) for key, own in PARTS.items()}
    usage = told.usage or Usage()
    assert {own: getattr(usage, own) for own in figures} == figures
    if "units" in wanted:
        assert usage.units == wanted["units"]
    if "finish" in wanted:
        assert told.finish == wanted["finish"]


def test_the_index_is_complete() -> None:
    """Every recording has its source, and nothing else is in the folder."""
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert files == {*INDEX, "index.json"}
    assert all(entry["source"] for entry in INDEX.values())


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer(name: str) -> None:
    """The caller gets its bytes, and its usage is that of the documentation."""
    told = whole(name, recorded(name))

    assert told.payloads == [recorded(name)]
    check(name, told)


@pytest.mark.parametrize("size", [7, 1 << 20])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(name: str, size: int) -> None:
    """The caller gets its events with their names, wherever the network cuts it."""
    body = recorded(name)
    parser = EventParser(1 << 20)
    payloads = [p for at in range(0, len(body), size) for p in parser.feed(body[at : at + size])]
    told = streamed(name, payloads)

    assert events_of(told.payloads[0]) == without_end(payloads)
    names = [line for line in body.split(b"\n") if line.startswith(b"event:")]
    assert (
        not names or told.payloads[0].split(b"\n")[::3][:-1] == names[: len(without_end(payloads))]
    )
    check(name, told)


@pytest.mark.parametrize("name", WHOLE)
def test_unknown_fields_of_a_whole_answer(name: str) -> None:
    """They survive in every object, and change nothing of what we read."""
    for unknown in UNKNOWN:
        body = encoded(with_unknown(json.loads(recorded(name)), unknown))
        told = whole(name, body)

        assert told.payloads == [body]
        check(name, told)


@pytest.mark.parametrize("name", STREAMS)
def test_unknown_fields_of_a_stream(name: str) -> None:
    """They survive in every object of every event."""
    events = events_of(recorded(name))
    ends = events[len(without_end(events)) :]
    for unknown in UNKNOWN:
        changed = [encoded(with_unknown(json.loads(e), unknown)) for e in without_end(events)]
        told = streamed(name, [*changed, *ends])

        assert events_of(told.payloads[0]) == changed
        check(name, told)


@pytest.mark.parametrize("name", REQUESTS)
def test_unknown_fields_of_a_request(name: str) -> None:
    """They are sent, in every object; only the model is the deployment's."""
    spoken = Path(name).stem
    given = json.loads(recorded(name))
    for unknown in UNKNOWN:
        body = with_unknown(given, unknown)
        ask = WIRES[spoken].read(encoded(body))
        call = Call(server(spoken), WIRES[spoken], ask.fields, 60)
        sent = json.loads(OUTBOUND[spoken, spoken].request(call, False, Habits()).body)

        model = {"model": server(spoken).model} if "model" in given else {}
        assert sent == {**body, **model}
        assert call.changed == []


@pytest.mark.parametrize(("name", "asked"), TRANSLATED)
def test_a_translated_answer(name: str, asked: str) -> None:
    """The asked wire's own client can read it, and its usage stays the same."""
    is_stream = name.endswith(".sse")
    if is_stream:
        told = streamed(name, events_of(recorded(name)), asked)
        found = [event for event in events_of(told.payloads[0]) if event != b"[DONE]"]
    else:
        told = whole(name, recorded(name), asked)
        found = told.payloads
    assert found
    for one in found:
        if asked in CLIENTS:
            TypeAdapter(CLIENTS[asked][is_stream]).validate_json(one)
        else:
            assert json.loads(one).keys() & {"candidates", "usageMetadata"}

    assert told.usage is not None
    wanted = INDEX[name]
    assert told.usage.input_tokens == wanted["input"]
    assert told.usage.output_tokens == wanted["output"]
    assert told.finish
