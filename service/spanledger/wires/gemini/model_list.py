"""The list of models in Google's shape, by pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.wires.fields import wrong

MAX_MODELS = 1000
"""Google's own maximum. It is the default as well, since many clients read the first page only."""
_METHODS = ("generateContent", "countTokens")


class GeminiModels:
    """Its list is paged by `pageSize` and `pageToken`, which is the name of the last model shown."""

    def page(self, names: Sequence[str], created_s: int, query: Mapping[str, str]) -> bytes:
        """One page of the models. Raises InvalidRequestError."""
        del created_s
        size, token = query.get("pageSize", str(MAX_MODELS)), query.get("pageToken", "")
        if not (size.isascii() and size.isdigit() and len(size) <= 9 and int(size) > 0):
            raise wrong("pageSize", f"an integer from 1 to {MAX_MODELS}")
        if token and token not in names:
            raise wrong("pageToken", "the token of an earlier page")
        rest = names[names.index(token) + 1 :] if token else names
        shown = rest[: min(int(size), MAX_MODELS)]
        body: dict[str, object] = {"models": [_model(name) for name in shown]}
        if len(rest) > len(shown):
            body["nextPageToken"] = shown[-1]
        return msgspec.json.encode(body)

    def one(self, name: str, created_s: int) -> bytes:
        """A single model."""
        del created_s
        return msgspec.json.encode(_model(name))


def _model(name: str) -> dict[str, object]:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "supportedGenerationMethods": _METHODS,
    }
