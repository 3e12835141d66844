"""Callers of the Responses API, served by what serves chat completions."""

from __future__ import annotations

from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Server
from spanledger.wires.responses_as_chat.answer import ResponseEvents, response_of, whole_frame
from spanledger.wires.responses_as_chat.request import DROPS, chat_request
from spanledger.wires.responses_as_chat.shapes import Echo, echo_of
from spanledger.wires.responses_as_chat.tools import Toolbox
from spanledger.wires.through import Turned


class ResponsesCallers:
    """The Responses API, seen from chat completions."""

    drops = DROPS

    def request(self, out: Outgoing, spoken: str, habits: Habits, /) -> Turned:
        """The request, translated to chat completions, and what its answer needs of it."""
        chat, box = chat_request(out, spoken, habits)
        return Turned(chat, echo_of(out.fields, box))

    def answer(self, server: Server, memo: object, answer: Answer, seen: Seen, /) -> Answer:
        """A completion as a response."""
        return response_of(server, _echo(memo), answer, seen)

    def reader(self, server: Server, memo: object, chunks: Reader, seen: Seen, /) -> Reader:
        """Chunks as the events of a response."""
        return ResponseEvents(chunks, server, _echo(memo), seen)

    def frame(self, answer: Answer, /) -> Frame:
        """A response as all events of a stream at once."""
        return whole_frame(answer)


def _echo(memo: object) -> Echo:
    return memo if isinstance(memo, Echo) else Echo(Toolbox())
