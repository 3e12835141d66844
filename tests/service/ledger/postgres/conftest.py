"""These tests are of Postgres alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.ledger.ports import Store
from tests.service.ledger.stores import new_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without a ledger."""
    return new_store("postgres", tmp_path)
