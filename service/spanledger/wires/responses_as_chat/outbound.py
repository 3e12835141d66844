"""Chat completions as deployments speak them, for callers of the Responses API."""

from __future__ import annotations

from dataclasses import replace

from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Reader, Seen, Written
from spanledger.wires.openai.outbound import ChatOut
from spanledger.wires.responses_as_chat.callers import ResponsesCallers


class ResponsesAsChat(ChatOut):
    """Chat completions, seen from outside as the Responses API."""

    _callers = ResponsesCallers()
    drops = _callers.drops

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The request, translated to chat completions."""
        chat, memo = self._callers.request(out, self.name, habits)
        return replace(super().request(chat, stream, habits), memo=memo)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        answer = super().answer(written, body, seen)
        return self._callers.answer(written.out.deployment, written.memo, answer, seen)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        chunks = super().reader(written, seen)
        return self._callers.reader(written.out.deployment, written.memo, chunks, seen)

    def frame(self, _: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        return self._callers.frame(answer)
