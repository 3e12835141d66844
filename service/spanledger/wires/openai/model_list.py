"""The list of models in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class OpenAIModels:
    """Its list is never paged."""

    def page(self, names: Sequence[str], created_s: int, _: Mapping[str, str], /) -> bytes:
        """All models."""
        data = [_model(name, created_s) for name in names]
        return msgspec.json.encode({"object": "list", "data": data})

    def one(self, name: str, created_s: int) -> bytes:
        """A single model."""
        return msgspec.json.encode(_model(name, created_s))


def _model(name: str, created_s: int) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created_s, "owned_by": "spanledger"}
