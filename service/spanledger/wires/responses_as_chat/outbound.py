"""Chat completions as deployments speak them, for callers of the Responses API."""

from __future__ import annotations

from dataclasses import replace

from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Written
from spanledger.wires.openai.outbound import ChatOut
from spanledger.wires.responses_as_chat.answer import ResponseEvents, response_of, whole_frame
from spanledger.wires.responses_as_chat.request import DROPS, chat_request
from spanledger.wires.responses_as_chat.shapes import Echo, echo_of
from spanledger.wires.responses_as_chat.tools import Toolbox


class ResponsesAsChat(ChatOut):
    """Chat completions, seen from outside as the Responses API."""

    drops = DROPS

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The request, translated to chat completions."""
        chat, box = chat_request(out, habits)
        written = super().request(chat, stream, habits)
        return replace(written, memo=echo_of(out.fields, box))

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        answer = super().answer(written, body, seen)
        return response_of(written.out.deployment, _echo(written), answer, seen)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        chunks = super().reader(written, seen)
        return ResponseEvents(chunks, written.out.deployment, _echo(written), seen)

    def frame(self, _: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        return whole_frame(answer)


def _echo(written: Written) -> Echo:
    return written.memo if isinstance(written.memo, Echo) else Echo(Toolbox())
