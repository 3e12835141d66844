"""Callers of `generateContent`, served by what serves chat completions."""

from __future__ import annotations

from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Server
from spanledger.wires.gemini.native import whole_frame
from spanledger.wires.gemini_as_chat.answer import GeneratedEvents, generated_of
from spanledger.wires.gemini_as_chat.request import STAYS_HERE, chat_request
from spanledger.wires.through import Turned


class GenerateCallers:
    """Google's API, seen from chat completions."""

    drops = STAYS_HERE

    def request(self, out: Outgoing, spoken: str, habits: Habits, /) -> Turned:
        """The request, translated to chat completions."""
        return Turned(chat_request(out, spoken, habits))

    def answer(self, server: Server, _: object, answer: Answer, _seen: Seen, /) -> Answer:
        """A completion as an answer of Google's."""
        return generated_of(server, answer)

    def reader(self, server: Server, _: object, chunks: Reader, _seen: Seen, /) -> Reader:
        """Chunks as events of Google's."""
        return GeneratedEvents(chunks, server)

    def frame(self, answer: Answer, /) -> Frame:
        """An answer as the only event of a stream."""
        return whole_frame(answer)
