"""Budgets in configuration files: which entries are due to be applied, and where a file differs.

A file's entry is applied when it is new or has changed since it was last applied. Changes and
removals by command stay, and are reported. Each file is identified by its path; a file that moved
continues from the most recently applied other file with that entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from spanledger.budgets.diff import FieldChange, changes_text, field_changes
from spanledger.budgets.model import Author, Budget, Noted, Raise


class AppliedEntry(NamedTuple):
    """A file's entry as of the last time the file was applied."""

    source: str
    budget: Budget
    applied_ns: int
    listed: bool


class Difference(NamedTuple):
    """A budget in the ledger that differs from its file.

    Attributes:
        file: the file's entry.
        ledger: the budget that applies; None if it was removed by command.
        listed: the file still has the entry.
    """

    name: str
    source: str
    file: Budget
    ledger: Budget | None
    listed: bool = True

    @property
    def fields(self) -> list[FieldChange]:
        """Changed fields, from the file's value to the one that applies."""
        return [] if self.ledger is None else field_changes(self.file, self.ledger.written)

    @property
    def text(self) -> str:
        """For a log or a terminal."""
        if not self.listed:
            return (
                f"budget {self.name!r} is no longer in {self.source} but still applies; remove it"
                f" with `spanledger budget remove {self.name}`"
            )
        if self.ledger is None:
            what = f"is in {self.source}, but was removed by command and does not apply"
        else:
            what = f"was changed since {self.source} was applied: {changes_text(self.fields)}"
        return (
            f"budget {self.name!r} {what}; `spanledger apply -f {self.source}` restores the file's"
            " version"
        )

    @property
    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "name": self.name,
            "file": self.source,
            "listed": self.listed,
            "removed": self.ledger is None,
            "fields": [
                {"field": f.field, "file": f.before, "ledger": f.after} for f in self.fields
            ],
        }


def due(
    source: str,
    wanted: Iterable[Budget],
    entries: Sequence[AppliedEntry],
    may_have_been_applied: Callable[[Budget], bool],
) -> list[Budget]:
    """The entries of a file that are new or have changed since it was last applied.

    Args:
        entries: all files' entries, newest first.
        may_have_been_applied: whether a budget that no file is known for may have come from one.
    """

    def applied(budget: Budget) -> bool:
        named = [entry for entry in entries if entry.budget.name == budget.name]
        own = [entry for entry in named if entry.source == source]
        last = next(iter(own or named), None)
        if last is None:
            return may_have_been_applied(budget)
        return last.listed and last.budget == budget

    return [budget for budget in wanted if not applied(budget)]


def differences(
    entries: Iterable[AppliedEntry],
    budgets: Mapping[str, Budget],
    still_listed: Container[str] | None = None,
) -> list[Difference]:
    """Where the given budgets differ from their files' entries as last applied.

    Args:
        entries: all files' entries, newest first: the newest one for a name counts.
        still_listed: names that the file has now, if known.
    """
    found: dict[str, Difference] = {}
    for source, entry, _, listed in entries:
        if still_listed is not None and entry.name not in still_listed:
            listed = False
        if entry.name not in found:
            difference = Difference(entry.name, source, entry, budgets.get(entry.name), listed)
            found[entry.name] = difference
    return sorted(filter(_differs, found.values()))


def compare(
    source: str, wanted: Sequence[Budget], budgets: Mapping[str, Budget]
) -> list[Difference]:
    """Where the given budgets differ from a file's."""
    found = (Difference(w.name, source, w, budgets.get(w.name)) for w in wanted)
    return sorted(filter(_differs, found))


def _differs(difference: Difference) -> bool:
    """A budget no longer in its file is reported as long as it equals the old entry."""
    ledger = difference.ledger
    same = ledger is not None and difference.file == ledger.written
    return not same if difference.listed else same


def budget_to_json(budget: Budget) -> str:
    """Encode a budget for the ledger's history."""
    return json.dumps(asdict(budget))


def budget_from_json(text: str) -> Budget:
    """Decode a budget from the ledger's history."""
    return change_from_json(text)[0]


def change_to_json(budget: Budget, by: Author) -> str:
    """Encode a change for the ledger's history: the budget, and who changed it."""
    return json.dumps({**asdict(budget), "by": by})


def change_from_json(text: str) -> tuple[Budget, Author]:
    """Decode a change from the ledger's history."""
    data = json.loads(text)
    by = Author(*data.pop("by", ()))
    data["thresholds"] = tuple(data["thresholds"])
    return Budget(**read_terms(data)), by


def read_terms(data: dict[str, Any]) -> dict[str, Any]:
    """Fields of a budget out of JSON, with `noted` as what it was."""
    if "noted" in data:
        earlier, raises, since_s = data["noted"]
        noted = Noted(tuple(map(tuple, earlier)), tuple(Raise(*r) for r in raises), since_s)
        return {**data, "noted": noted}
    return data
