"""The Messages API as deployments speak it, for callers of chat completions.

A stream ends with `message_stop`. One that closes cleanly after its stop reason is complete as well;
any other was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from spanledger.errors import ProviderError
from spanledger.wires.anthropic.answer import MessageStream, read_message
from spanledger.wires.anthropic.request import NOT_SENT, encode_messages_request
from spanledger.wires.anthropic.tools import Names
from spanledger.wires.base import Answer, Frame, Habits, Outgoing, Seen, Server, Written
from spanledger.wires.failures import failed_after, malformed
from spanledger.wires.sse import events_of, is_stream

API_VERSION = "2023-06-01"

Join = Callable[[Server, Iterable[Frame]], Answer]
Split = Callable[[Server, Answer], Frame]


class MessagesOut:
    """The Messages API, seen from outside as chat completions.

    `join` makes an answer of a caller's events, and `split` an event of an answer, for servers that
    send the form that was not requested.
    """

    name = "messages"
    path = "/v1/messages"
    host = "anthropic"
    headers: Mapping[str, str] = {"anthropic-version": API_VERSION}
    key_header = "x-api-key"
    id_header = "request-id"
    spelled = False
    drops = NOT_SENT
    passes = False
    least_output = 0

    def __init__(self, join: Join, split: Split) -> None:
        self._join = join
        self._split = split

    def request(self, out: Outgoing, stream: bool, _: Habits, /) -> Written:
        """The request, translated to the Messages API."""
        return encode_messages_request(out, stream=stream)

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, joined if it came as a stream unasked."""
        server = written.out.deployment
        if not is_stream(body):
            names = cast("Names", written.memo)
            return read_message(server, body, seen.created, seen.request_id, names)
        messages = self.reader(written, seen)
        frames: list[Frame] = []
        try:
            frames.extend(f for p in events_of(body) if (f := messages.read(p)) is not None)
            if not messages.finished:
                raise malformed(
                    server, "it sent an unfinished stream, and a complete answer was requested"
                )
        except ProviderError as error:
            raise failed_after(error, frames) from None
        if (last := messages.last()) is not None:
            frames.append(last)
        return self._join(server, frames)

    def reader(self, written: Written, seen: Seen) -> MessageStream:
        """What reads the answer's stream."""
        names = cast("Names", written.memo)
        return MessageStream(written.out.deployment, seen.created, seen.request_id, names)

    def frame(self, out: Outgoing, answer: Answer) -> Frame:
        """A complete answer as the only event of a stream."""
        return self._split(out.deployment, answer)
