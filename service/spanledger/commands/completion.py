"""Names from the ledger for the shell's completion: read only, and never a reason to fail.

A shell asks for names while a user types. Without a ledger, or with one that cannot be read,
there is nothing to offer; an error would end up in the middle of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from spanledger.commands.common import DEFAULT_LEDGER, store_of

if TYPE_CHECKING:
    from spanledger.ledger.keys import Key
    from spanledger.ledger.records import Records

MAX_NAMES = 200
"""A longer list helps nobody to choose; typing on narrows it."""

Complete = Callable[[typer.Context, str], list[str]]


def _names(read: Callable[[Records], Iterable[str]]) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from spanledger.errors import SpanledgerError

        try:
            with store_of(ctx.params.get("ledger") or DEFAULT_LEDGER).records("read") as records:
                names = sorted({name for name in read(records) if name.startswith(incomplete)})
        except SpanledgerError:
            return []
        return names[:MAX_NAMES]

    return complete


def _keys(records: Records) -> list[Key]:
    return records.keys()


def of_keys(names: Callable[[Key], Iterable[str]]) -> Complete:
    """Names that keys have."""
    return _names(lambda records: (n for key in _keys(records) for n in names(key) if n))


budget_names = _names(lambda records: (budget.name for budget in records.budgets()))
known_budgets = _names(lambda records: (change.budget.name for change in records.history()))
valid_keys = _names(lambda records: (key.id for key in _keys(records) if key.revoked_ns is None))
key_names = _names(
    lambda records: (
        text
        for key in _keys(records)
        if key.revoked_ns is None
        for text in (key.id, key.name)
        if text
    )
)
"""Ids and names of valid keys."""
customers = _names(lambda records: records.customers())
teams = _names(lambda records: (key.team for key in _keys(records) if key.team))
