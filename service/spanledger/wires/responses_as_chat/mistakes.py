"""What a request asks for that a chat cannot do, collected, so that a caller reads all of it at once."""

from __future__ import annotations

from typing import Any

from spanledger.wires.failures import invalid

Item = dict[str, Any]
"""Decoded JSON of an item, a part, a tool or a message."""
_MAX_SHOWN = 64
"""Of a caller's own word in a message."""
_MAX_MISTAKES = 8
"""More than these are counted."""


class Mistakes:
    """The mistakes of one request.

    Attributes:
        changed: names of fields that had to change; none of them is a mistake.
    """

    def __init__(self, changed: list[str]) -> None:
        self.changed = changed
        self._found: list[tuple[str, str]] = []

    def add(self, param: str, what: str) -> None:
        """Note a mistake and what to send instead."""
        self._found.append((param, what))

    def note(self, field: str) -> None:
        """Name a field of which something was left out."""
        if field not in self.changed:
            self.changed.append(field)

    def check(self) -> None:
        """Raises ProviderError with every mistake, where there is one."""
        if not self._found:
            return
        shown = [f"{param}: {what}" for param, what in self._found[:_MAX_MISTAKES]]
        if (more := len(self._found) - _MAX_MISTAKES) > 0:
            shown.append(f"and {more} more")
        text = "; ".join(shown)
        raise invalid(
            f"this model is served over chat completions, which cannot say all of this. {text}",
            param=self._found[0][0],
        )


def shown(value: object) -> str:
    """A caller's own word, in quotes and not too long."""
    return repr(str(value)[:_MAX_SHOWN])


def text_of(value: object) -> str:
    """A text; empty for everything else."""
    return value if isinstance(value, str) else ""


def items_in(value: object) -> list[Item]:
    """The objects in an array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
