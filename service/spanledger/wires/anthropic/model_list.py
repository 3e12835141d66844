"""The list of models in Anthropic's shape, by pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from spanledger.wires.fields import wrong

MAX_PAGE = 1000
"""Anthropic's own maximum. It is the default as well, since many clients read the first page only."""


class AnthropicModels:
    """Its list is paged by `limit`, `after_id` and `before_id`."""

    def page(self, names: Sequence[str], created_s: int, query: Mapping[str, str]) -> bytes:
        """One page of the models. Raises InvalidRequestError."""
        limit = _limit(query.get("limit"))
        after, before = query.get("after_id"), query.get("before_id")
        if after is not None:
            rest = names[_index("after_id", after, names) + 1 :]
            shown, more = rest[:limit], len(rest) > limit
        elif before is not None:
            rest = names[: _index("before_id", before, names)]
            shown, more = rest[-limit:], len(rest) > limit
        else:
            shown, more = names[:limit], len(names) > limit
        body = {
            "data": [_model(name, created_s) for name in shown],
            "has_more": more,
            "first_id": shown[0] if shown else None,
            "last_id": shown[-1] if shown else None,
        }
        return msgspec.json.encode(body)

    def one(self, name: str, created_s: int) -> bytes:
        """A single model."""
        return msgspec.json.encode(_model(name, created_s))


def _model(name: str, created_s: int) -> dict[str, object]:
    created = datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": created,
        "lifecycle": "active",
    }


def _limit(given: str | None) -> int:
    if given is None:
        return MAX_PAGE
    if not (
        given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MAX_PAGE
    ):
        raise wrong("limit", f"an integer from 1 to {MAX_PAGE}")
    return int(given)


def _index(field: str, name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise wrong(field, "the id of a listed model")
    return names.index(name)
