"""What a wire serves in addition to its requests, without any charge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from spanledger.wires.base import Ask, Inbound, Outgoing
from spanledger.wires.fields import Fields


class ModelList(Protocol):
    """How a wire shows models."""

    def page(self, names: Sequence[str], created_s: int, query: Mapping[str, str], /) -> bytes:
        """A list of models, as far as the query asks for it. Raises InvalidRequestError."""
        ...

    def one(self, name: str, created_s: int) -> bytes:
        """A single model."""
        ...


class TokenCounter(Protocol):
    """A path of a wire where callers have the input of a request counted.

    A deployment that speaks the wire counts it; for any other, we estimate.

    Attributes:
        wire: whose requests it counts, and whose errors it has.
        path: where its requests arrive.
        sent_to: where they are sent, below a deployment's address.
    """

    wire: Inbound
    path: str
    sent_to: str

    def read(self, body: bytes) -> Ask:
        """Read a request. Raises InvalidRequestError."""
        ...

    def request(self, out: Outgoing) -> bytes:
        """The request for a deployment that speaks the wire."""
        ...

    def eased(self, out: Outgoing, status: int, body: bytes, /) -> Fields | None:
        """As `Written.eased`."""
        ...

    def is_count(self, body: bytes) -> bool:
        """Whether an answer is a count."""
        ...

    def estimated(self, ask: Ask) -> bytes:
        """The answer with our own count."""
        ...
