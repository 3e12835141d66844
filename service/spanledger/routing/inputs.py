"""How many tokens a deployment counts for a byte of text, learned from what it reports.

A hold counts a token for each byte, which no tokenizer exceeds. Most texts have a quarter of that. Where so
much does not fit, a hold may count what texts of the same kind had at most, and a quarter more. That is
experience, not a bound: text of another kind is not measured by it, and no strict budget is.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from itertools import product

import msgspec

LEAST_BYTES = 4_096
"""Shorter requests are not worth it: their holds are small, and much of their input is not text."""
FEW, ENOUGH = 3, 24
"""Requests of a kind, and of it and its neighbours, after which their count is used."""
MARGIN_PERCENT = 125
SAMPLE_BYTES = 2_048
MAX_KINDS = 1_000

_LETTERS = string.ascii_letters.encode()
_SPACE = ord(" ")
_ASCII = bytes(range(128))

_STEPS = (-1, 0, 1)
_NONE = (0, 0)
TextKind = tuple[int, int, int]
"""The shares of letters (in eighths), spaces (in sixteenths) and ASCII (in eighths) in a text."""


class InputHistory:
    """What texts of each kind had at one deployment, in thousandths of a token for each byte."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[TextKind, tuple[int, int]] = {}

    def record(self, kind: TextKind, size: int, tokens: int) -> None:
        """Add what a request had."""
        seen, most = self._kinds.get(kind, _NONE)
        if seen or len(self._kinds) < MAX_KINDS:
            self._kinds[kind] = seen + 1, max(most, -(-tokens * 1_000 // size))

    def expected(self, kind: TextKind, size: int) -> int | None:
        """The tokens to hold for a text; None before enough of its kind and near it were seen."""
        if self._kinds.get(kind, _NONE)[0] < FEW:
            return None
        letters, spaces, ascii_ = kind
        near = [
            self._kinds.get((letters + x, spaces + y, ascii_ + z), _NONE)
            for x, y, z in product(_STEPS, _STEPS, _STEPS)
        ]
        if sum(seen for seen, _ in near) < ENOUGH:
            return None
        return -(-size * max(most for _, most in near) * MARGIN_PERCENT // 100_000)


def kind_of(fields: Mapping[str, msgspec.Raw], size: int) -> TextKind:
    """The kind of a request's text, from bytes all over it."""
    step = -(-size // SAMPLE_BYTES)
    sample = b"".join([bytes(raw)[::step] for raw in fields.values()])
    whole = len(sample) or 1
    letters = whole - len(sample.translate(None, _LETTERS))
    ascii_ = whole - len(sample.translate(None, _ASCII))
    return letters * 8 // whole, sample.count(_SPACE) * 16 // whole, ascii_ * 8 // whole
