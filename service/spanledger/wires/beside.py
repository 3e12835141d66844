"""What a wire serves beside its requests, without any charge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class ModelList(Protocol):
    """How a wire shows models."""

    def page(self, names: Sequence[str], created_s: int, query: Mapping[str, str], /) -> bytes:
        """A list of models, as far as the query asks for it. Raises InvalidRequestError."""
        ...

    def one(self, name: str, created_s: int) -> bytes:
        """A single model."""
        ...
