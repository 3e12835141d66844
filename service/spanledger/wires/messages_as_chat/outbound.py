"""Chat completions as deployments speak them, for callers of the Messages API."""

from __future__ import annotations

from spanledger.wires.anthropic.native import whole_frame
from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Written
from spanledger.wires.messages_as_chat.answer import MessageEvents, message_of
from spanledger.wires.messages_as_chat.request import LEFT_OUT, chat_request
from spanledger.wires.openai.outbound import ChatOut


class MessagesAsChat(ChatOut):
    """Chat completions, seen from outside as the Messages API."""

    drops = LEFT_OUT

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The request, translated to chat completions."""
        return super().request(chat_request(out), stream, habits)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        return message_of(written.out.deployment, super().answer(written, body, seen))

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        return MessageEvents(super().reader(written, seen), written.out.deployment)

    def frame(self, _: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        return whole_frame(answer)
