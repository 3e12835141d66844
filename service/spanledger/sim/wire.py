"""The contract between the server and a wire: a body comes in, bytes go out.

A wire reads and writes one provider's JSON and decides nothing: no faults, no billing, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from spanledger.sim.bill import Usage
from spanledger.sim.prompt import Prompt, RefusalError
from spanledger.sim.scenarios import WireName
from spanledger.sim.writer import Answer

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream; `tokens` is the number it adds to the output, 0 for framing."""

    data: bytes
    tokens: int = 0


class Wire(Protocol):
    """A provider's wire; stateless."""

    name: WireName
    id_prefix: str

    def key(self, headers: Mapping[str, str]) -> str:
        """The caller's API key. Raises RefusalError if it is missing or incomplete."""
        ...

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a chat request. Raises RefusalError."""
        ...

    def refusal(self, refusal: RefusalError, request_id: str) -> tuple[bytes, Headers]:
        """An error as this provider writes it, and the headers that go with it."""
        ...

    def headers(self, request_id: str, processing_s: float = 0.0) -> Headers:
        """Headers of every answer; `processing_s` is how long the model took."""
        ...

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """A non-streamed answer; usage None leaves it out."""
        ...

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Events before the first token."""
        ...

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """Events with the tokens and the framing between them."""
        ...

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Events after the last token."""
        ...

    def broken(self) -> bytes:
        """A malformed chunk."""
        ...
