"""Names of fields, which Google's servers read in two spellings: `inlineData` and `inline_data`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from spanledger.errors import InvalidRequestError
from spanledger.wires.fields import Fields

OWN = frozenset(
    {
        "cachedContent",
        "contents",
        "generationConfig",
        "labels",
        "model",
        "safetySettings",
        "serviceTier",
        "store",
        "systemInstruction",
        "toolConfig",
        "tools",
    }
)
"""Fields of a request. Source: `GenerateContentRequest` of ai.google.dev/api/generate-content."""
_CAPITAL = re.compile(r"[A-Z]")
_SNAKE = {_CAPITAL.sub(lambda found: "_" + found[0].lower(), name): name for name in OWN}

GoogleItem = dict[str, Any]


@lru_cache(maxsize=256)
def snake(name: str) -> str:
    """The other spelling of a name."""
    return _CAPITAL.sub(lambda found: "_" + found[0].lower(), name)


def pick(item: GoogleItem, name: str) -> Any:
    """A value by its name in either spelling; None without one."""
    found = item.get(name)
    return item.get(snake(name)) if found is None else found


def spelled(fields: Fields) -> Fields:
    """The fields of a request by their names with capitals; others keep theirs.

    Raises:
        InvalidRequestError: one of them appears twice.
    """
    found: Fields = {}
    for name, raw in fields.items():
        own = _SNAKE.get(name, name)
        if own in found:
            raise InvalidRequestError(
                f"{own!r} is present in two spellings; send it once",
                code="invalid_value",
                param=own,
            )
        found[own] = raw
    return found


def objects(value: Any) -> list[GoogleItem]:
    """The objects in a list, or an object alone as a list of one; other values are left out."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def whole(value: Any) -> int | None:
    """A whole number, which JSON of Google's has as a text where it may be large."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
