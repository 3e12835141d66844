"""Budgets from a configuration file next to those that people change by command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from spanledger.budgets.model import Budget
from spanledger.ledger.budget_records import MAX_FILES
from spanledger.ledger.ports import Store
from spanledger.ledger.records import Records
from tests.service.ledger.conftest import NOON
from tests.service.ledger.stores import raw

FILE = "/etc/spanledger.yaml"
USD = 10**9
ACME = Budget("acme", "customer", "acme", 100 * USD, "month")
BETA = Budget("beta", "customer", "beta", 5 * USD, "day", "Europe/Berlin")


@pytest.fixture
def records(store: Store) -> Iterator[Records]:
    """A new ledger."""
    with store.records("create") as records:
        yield records


def limits(records: Records) -> dict[str, int]:
    """The current limits, in dollars."""
    return {budget.name: budget.limit_nano // USD for budget in records.budgets()}


def start(records: Records, *budgets: Budget, file: str = FILE) -> list[str]:
    """A gateway's start with a file; returns what it sets."""
    return [budget.name for budget in records.apply_file(file, budgets, NOON)]


def set_limit(records: Records, name: str, usd: int) -> None:
    """`budget limit`."""

    def edit(budget: Budget | None) -> Budget:
        assert budget is not None
        return replace(budget, limit_nano=usd * USD)

    records.edit_budget(name, edit, NOON)


def differing(records: Records) -> dict[str, list[tuple[str, object, object]]]:
    """Where ledger and file differ: field, the file's value, the ledger's."""
    return {d.name: [tuple(f) for f in d.fields] for d in records.differences()}


def test_a_persons_change_stays_over_starts(records: Records) -> None:
    """After a restart with the same file, the limit set by command applies and is reported."""
    assert start(records, ACME) == ["acme"]
    set_limit(records, "acme", 200)

    assert start(records, ACME) == []
    assert limits(records) == {"acme": 200}
    assert differing(records) == {"acme": [("limit_usd", "100.00", "200.00")]}


def test_an_entry_that_changed_is_applied(records: Records) -> None:
    """A change in the file is newer than the command that changed the budget before; also
    when it restores an earlier value."""
    start(records, ACME)
    set_limit(records, "acme", 200)

    assert start(records, replace(ACME, limit_nano=150 * USD)) == ["acme"]
    assert limits(records) == {"acme": 150}
    assert start(records, ACME) == ["acme"]
    assert limits(records) == {"acme": 100}
    assert differing(records) == {}


def test_an_entry_that_is_new_is_applied(records: Records) -> None:
    """A new entry in the file applies even if a budget of that name was set by command before."""
    start(records, ACME)
    records.set_budgets([replace(BETA, limit_nano=9 * USD)], NOON)

    assert start(records, ACME, BETA) == ["beta"]
    assert limits(records) == {"acme": 100, "beta": 5}


def test_a_budget_that_was_removed_stays_removed(records: Records) -> None:
    """A budget in the file that was removed by command is reported at each start."""
    start(records, ACME, BETA)
    records.remove_budget("acme", NOON)

    assert start(records, ACME, BETA) == []
    assert limits(records) == {"beta": 5}
    (difference,) = records.differences()
    assert "was removed by command and does not apply" in difference.text


def test_an_entry_that_left_the_file_is_reported_while_it_applies(records: Records) -> None:
    """Deleting an entry removes no budget; changed or removed by command, it stays that way; put
    back, it is new."""
    start(records, ACME, BETA)
    start(records, BETA)
    (difference,) = records.differences()
    assert "no longer in /etc/spanledger.yaml but still applies" in difference.text

    set_limit(records, "acme", 7)
    assert differing(records) == {}
    assert start(records, ACME, BETA) == ["acme"]
    assert limits(records)["acme"] == 100


def test_a_file_that_moved_goes_on_where_it_was(records: Records) -> None:
    """The same entry under another path is not new; two different files do not undo each other
    at every start."""
    start(records, ACME)
    set_limit(records, "acme", 200)
    assert start(records, ACME, file="/srv/moved.yaml") == []

    other = replace(ACME, limit_nano=50 * USD)
    assert start(records, other, file="/srv/second.yaml") == ["acme"]
    assert start(records, ACME) == []
    assert start(records, other, file="/srv/second.yaml") == []
    assert limits(records) == {"acme": 50}


def test_only_so_many_files_are_remembered(records: Records, store: Store) -> None:
    """Files with a new name at each start do not fill the ledger."""
    for number in range(MAX_FILES + 5):
        records.apply_file(f"/tmp/{number}.yaml", [ACME], NOON + number)

    assert raw(store, "SELECT count(*) FROM applied_budgets") == [(MAX_FILES,)]


def test_changes_of_two_people_at_once_are_both_kept(store: Store) -> None:
    """The second of two concurrent edits starts from the result of the first."""
    with store.records("create") as first, store.records("create") as second:
        first.set_budgets([ACME], NOON)
        edits: list[Budget] = []

        def limit(budget: Budget | None) -> Budget:
            assert budget is not None
            if not edits:  # another process is faster
                second.set_budgets([replace(budget, strict=True)], NOON)
            edits.append(budget)
            return replace(budget, limit_nano=USD)

        first.edit_budget("acme", limit, NOON)
        assert first.budgets() == [replace(ACME, strict=True, limit_nano=USD)]
    assert len(edits) == 2
