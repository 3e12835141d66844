"""Wires that meet in chat: a caller's wire over any that deployments speak, with no code for the pair.

A wire has at most two translations: from chat, which is an `Outbound` for chat's callers, and to
chat, which is a `ToChat`. Any other pair is the two of them, one after the other.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, cast

from spanledger.wires.base import (
    Answer,
    Frame,
    Habits,
    Outbound,
    Outgoing,
    Reader,
    Seen,
    Server,
    Written,
)


class Turned(NamedTuple):
    """A request in chat's form.

    Attributes:
        memo: what the callers' side has to remember for translating the answer back.
    """

    chat: Outgoing
    memo: object = None


class ToChat(Protocol):
    """How the callers of a wire are served by what serves chat.

    Attributes:
        drops: fields of the callers' that are not sent.
    """

    drops: frozenset[str]

    def request(self, out: Outgoing, spoken: str, habits: Habits, /) -> Turned:
        """The request as one of chat completions, for a deployment that is spoken to in that wire.
        Raises ProviderError where chat cannot say it."""
        ...

    def answer(self, server: Server, memo: object, answer: Answer, seen: Seen, /) -> Answer:
        """A completion in the callers' wire."""
        ...

    def reader(self, server: Server, memo: object, chunks: Reader, seen: Seen, /) -> Reader:
        """The chunks of a stream in the callers' wire."""
        ...

    def frame(self, answer: Answer, /) -> Frame:
        """A complete answer in the callers' wire, as the only event of a stream."""
        ...


class _Both(NamedTuple):
    """The request as it goes out, and what the callers' side has to remember."""

    written: Written
    memo: object


class Through:
    """A wire that deployments speak, for callers of one that is translated to chat."""

    passes = False

    def __init__(self, callers: ToChat, spoken: Outbound) -> None:
        self._callers = callers
        self._spoken = spoken
        self.name, self.path, self.host = spoken.name, spoken.path, spoken.host
        self.headers, self.key_header = spoken.headers, spoken.key_header
        self.id_header, self.spelled = spoken.id_header, spoken.spelled
        self.least_output = spoken.least_output
        self.drops = callers.drops | spoken.drops

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The request, translated twice."""
        chat, memo = self._callers.request(out, self.name, habits)
        written = self._spoken.request(chat, stream, habits)
        return Written(out, written.body, _Both(written, memo))

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer."""
        inner, memo = cast("_Both", written.memo)
        found = self._spoken.answer(inner, body, seen)
        return self._callers.answer(written.out.deployment, memo, found, seen)

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        inner, memo = cast("_Both", written.memo)
        chunks = self._spoken.reader(inner, seen)
        return self._callers.reader(written.out.deployment, memo, chunks, seen)

    def frame(self, _: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer as the only event of a stream."""
        return self._callers.frame(answer)
