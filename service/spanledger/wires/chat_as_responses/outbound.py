"""The Responses API as deployments speak it, for callers of chat completions."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger.errors import ProviderError
from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Seen, Written
from spanledger.wires.chat_as_responses.answer import read_response
from spanledger.wires.chat_as_responses.events import ResponseChunks
from spanledger.wires.chat_as_responses.request import (
    LEAST_OUTPUT,
    UNSENT,
    responses_request,
)
from spanledger.wires.failures import failed_after, malformed
from spanledger.wires.openai.other_form import answer_of, frame_of
from spanledger.wires.sse import events_of, is_stream


class ResponsesOut:
    """The Responses API, seen from outside as chat completions."""

    name = "responses"
    path = "/responses"
    host = "openai"
    headers: Mapping[str, str] = {}
    key_header = ""
    id_header = "x-request-id"
    spelled = False
    drops = UNSENT
    passes = False
    least_output = LEAST_OUTPUT

    def request(self, out: Outgoing, stream: bool, _: Habits, /) -> Written:
        """The request, translated to the Responses API."""
        return responses_request(out, stream=stream)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, joined if it came as a stream unasked."""
        server = written.out.deployment
        if not is_stream(body):
            return read_response(server, body, seen)
        reader = self.reader(written, seen)
        frames: list[Frame] = []
        try:
            frames.extend(f for p in events_of(body) if (f := reader.read(p)) is not None)
            if not reader.ended:
                raise malformed(
                    server, "it sent an unfinished stream, and a complete answer was requested"
                )
        except ProviderError as error:
            raise failed_after(error, frames) from None
        if (last := reader.last()) is not None:
            frames.append(last)
        return answer_of(server, frames)

    def reader(self, written: Written, seen: Seen) -> ResponseChunks:
        """What reads the answer's stream."""
        return ResponseChunks(written.out.deployment, seen)

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        return frame_of(out.deployment, answer)
