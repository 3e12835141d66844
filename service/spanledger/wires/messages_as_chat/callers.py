"""Callers of the Messages API, served by what serves chat completions."""

from __future__ import annotations

from spanledger.wires.anthropic.native import whole_frame
from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Server
from spanledger.wires.messages_as_chat.answer import MessageEvents, message_of
from spanledger.wires.messages_as_chat.request import LEFT_OUT, chat_request
from spanledger.wires.through import Turned


class MessagesCallers:
    """The Messages API, seen from chat completions."""

    drops = LEFT_OUT

    def request(self, out: Outgoing, spoken: str, _: Habits, /) -> Turned:
        """The request, translated to chat completions."""
        return Turned(chat_request(out, spoken))

    def answer(self, server: Server, _: object, answer: Answer, _seen: Seen, /) -> Answer:
        """A completion as a message."""
        return message_of(server, answer)

    def reader(self, server: Server, _: object, chunks: Reader, _seen: Seen, /) -> Reader:
        """Chunks as the events of a message."""
        return MessageEvents(chunks, server)

    def frame(self, answer: Answer, /) -> Frame:
        """A message as all events of a stream at once."""
        return whole_frame(answer)
