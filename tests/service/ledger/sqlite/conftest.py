"""These tests are of SQLite files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.ledger.ports import Store
from tests.service.ledger.stores import new_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A ledger file that does not exist yet."""
    return new_store("sqlite", tmp_path)
