"""What a gateway logs once it listens."""

from __future__ import annotations

from pathlib import Path

from spanledger.commands.summary import start_summary
from spanledger.config import parse_config
from spanledger.pricing.book import PriceBook
from spanledger.routing.plan import Plan


def test_a_ledger_that_cannot_be_read_is_only_told(tmp_path: Path) -> None:
    """A gateway that listens logs that it does not know its budgets, and goes on."""
    ledger = tmp_path / "ledger.db"
    ledger.write_text("this is no database")
    config = parse_config({"ledger": {"url": f"sqlite:///{ledger}"}}, {}, "test")
    plan = Plan.from_config(config, {}, PriceBook.load())

    messages = [message for message, _ in start_summary(tmp_path / "x.yaml", config, plan)]

    assert messages[0].endswith("is ready")
    assert "budgets and keys are not known yet" in messages[-1]
    assert "not a database" in messages[-1]
