"""SQLite's errors become ours, here and nowhere else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.translation import translate_methods

T = TypeVar("T")


@contextmanager
def translating(what: str = "the ledger failed") -> Iterator[None]:
    """Raise SQLite's errors as LedgerUnavailableError."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerUnavailableError(f"{what}: {error}") from error


def translated(cls: type[T]) -> type[T]:
    """A class whose public methods, also inherited ones, raise SQLite's errors as ours."""
    return translate_methods(cls, translating)
