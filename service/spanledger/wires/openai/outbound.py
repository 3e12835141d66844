"""OpenAI's wires as deployments speak them: requests and answers pass almost untouched.

A stream ends with `data: [DONE]`. Some compatible servers omit that: a stream that closes cleanly
after its finish reason is complete, and so is one that breaks after it reported its usage.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.errors import ProviderError
from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Server, Written
from spanledger.wires.failures import malformed
from spanledger.wires.fields import is_json
from spanledger.wires.openai.answer import DONE, read_answer, read_chunk
from spanledger.wires.openai.embeddings import read_embeddings
from spanledger.wires.openai.other_form import frame_of, joined
from spanledger.wires.openai.request import asks_for_usage, encode_request
from spanledger.wires.openai.shape import UsualReader
from spanledger.wires.sse import ErrorPayload, is_stream

_LATE = frozenset({"stream_interrupted", "timeout"})


class ChatOut:
    """Chat completions, for callers that speak them too."""

    name = "chat"
    path = "/chat/completions"
    host = "openai"
    headers: Mapping[str, str] = {}
    key_header = ""
    id_header = "x-request-id"
    spelled = True
    drops: frozenset[str] = frozenset()
    passes = False
    least_output = 0

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The caller's body, except for model, stream and cap."""
        name, ask_usage = habits.cap_name, habits.ask_usage
        body = encode_request(out, stream=stream, cap_key=name, ask_usage=ask_usage)
        ours = not stream or asks_for_usage(out.fields.get("stream_options"))
        return Written(out, body, options_ours=ours)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, joined if it came as a stream unasked."""
        if is_stream(body):
            return joined(written.out.deployment, body, seen.request_id)
        return read_answer(written.out.deployment, body, seen.request_id)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        return ChatReader(written.out.deployment, written.out.fields, seen.request_id)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        return frame_of(out.deployment, answer)


class EmbeddingsOut(ChatOut):
    """Embeddings; they are not streamed."""

    name = "embeddings"
    path = "/embeddings"

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        return read_embeddings(written.out.deployment, body, seen.request_id)


class ChatReader:
    """Reads one stream of chunks."""

    __slots__ = (
        "_began",
        "_counted",
        "_fields",
        "_finished",
        "_request_id",
        "_server",
        "_usual",
        "ended",
    )

    def __init__(self, server: Server, fields: Mapping[str, msgspec.Raw], request_id: str) -> None:
        self.ended = False
        self._server = server
        self._fields = fields
        self._request_id = request_id
        self._began = self._counted = False
        self._finished = 0
        self._usual = UsualReader(
            lambda payload: read_chunk(server, payload, request_id, began=True)
        )

    def read(self, payload: bytes) -> Frame | None:
        """The chunk as it came; None for the end mark."""
        if (known := self.usual(payload)) is not None:
            return known
        if payload.startswith(DONE):
            self.ended = True
            return None
        frame = read_chunk(self._server, payload, self._request_id, began=self._began)
        if frame.content:
            self._began = True
            self._usual.learn(payload, frame)
        if frame.finish_reason:
            self._finished += 1
        if frame.usage is not None:
            self._counted = True
        return frame

    def usual(self, payload: bytes) -> Frame | None:
        """The chunk, if it is like an earlier one but for its text."""
        frame = self._usual.read(payload)
        if frame is not None and frame.content:
            self._began = True
        return frame

    def rest(self, tail: bytes) -> list[bytes] | None:
        """An event that no blank line ended; or the end mark, which a clean close implies after a
        complete answer."""
        if tail.startswith(DONE):
            return [DONE]
        if tail and (type(tail) is ErrorPayload or is_json(tail)):
            return [tail]
        if tail or not self._is_whole():
            return None
        return [DONE]

    def survives(self, error: ProviderError) -> bool:
        """Nothing is missing but the end mark."""
        return error.kind in _LATE and self._finished > 0 and self._counted

    def last(self) -> None:
        """Nothing follows the last chunk, and a stream without any answer is an error."""
        if not (self._began or self._finished or self._counted):
            raise malformed(self._server, "its stream contains no answer")

    def _is_whole(self) -> bool:
        return self._finished > 0 and (self._counted or self._finished >= _choices(self._fields))


def _choices(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many choices the answer has."""
    try:
        return msgspec.json.decode(fields["n"], type=int)
    except (KeyError, msgspec.DecodeError):
        return 1
