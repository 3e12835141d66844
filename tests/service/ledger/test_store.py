"""How a ledger is opened by its URL: by whom it is created, and who needs one."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.budgets.model import Budget
from spanledger.errors import ConfigError, LedgerUnavailableError
from spanledger.ledger import open_store
from spanledger.ledger.ports import Store
from tests.service.ledger.conftest import NOON

BUDGET = Budget("b", "customer", "acme", 10**9, "month")


def test_only_what_writes_creates_a_ledger(store: Store) -> None:
    """Reading one that does not exist, or changing it, is an error that leaves nothing behind."""
    for use in (
        lambda: store.records("read"),
        lambda: store.records("change"),
        store.reports,
        store.require,
        lambda: store.prune(0, NOON),
    ):
        with pytest.raises(LedgerUnavailableError, match="there is no ledger"):
            use()
    assert not store.exists()

    store.migrate()
    assert store.exists()
    store.require()
    with store.records("change") as records:
        records.set_budgets([BUDGET], NOON)
    store.migrate()  # again changes nothing
    with store.records("read") as records:
        assert records.budgets() == [BUDGET]


@pytest.mark.parametrize("create", ["writer", "outbox", "records"])
def test_a_gateway_and_a_shipper_may_be_first(store: Store, create: str) -> None:
    """Whichever process starts first creates the ledger."""
    match create:
        case "writer":
            store.writer("owner", 30 * 10**9, lambda: NOON).close()
        case "outbox":
            store.outbox().close()
        case _:
            store.records("create").close()

    with store.reports() as reports:
        assert reports.verify().problems == []
        assert reports.budget_states(NOON // 10**9) == []


def test_a_path_is_a_file(tmp_path: Path) -> None:
    """Without a scheme, a ledger's URL is the path of its file."""
    with open_store(str(tmp_path / "a b.db")).records("create") as records:
        records.set_budgets([BUDGET], NOON)

    with open_store(f"sqlite:///{tmp_path / 'a b.db'}").records("read") as records:
        assert records.budgets() == [BUDGET]


@pytest.mark.parametrize(
    "url", ["mysql://me:secret@db/x", "sqlite:ledger.db", "sqlite://ledger.db", "sqlite:///", ""]
)
def test_an_unknown_kind_of_ledger_is_a_mistake_of_the_configuration(url: str) -> None:
    """The message says what to write, without the password."""
    with pytest.raises(ConfigError, match=r"is not supported; write sqlite:///PATH") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
