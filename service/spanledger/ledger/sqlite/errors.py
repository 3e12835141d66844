"""SQLite's errors become ours, here and nowhere else."""

from __future__ import annotations

import functools
import inspect
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from spanledger.errors import LedgerUnavailableError

C = TypeVar("C")


@contextmanager
def translating(what: str = "the ledger failed") -> Iterator[None]:
    """Raise SQLite's errors as LedgerUnavailableError."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerUnavailableError(f"{what}: {error}") from error


def translated(cls: type[C]) -> type[C]:
    """A class whose public methods, also inherited ones, raise SQLite's errors as ours."""
    for name, attribute in inspect.getmembers_static(cls):
        if not name.startswith("_") and inspect.isfunction(attribute):
            setattr(cls, name, _translated(attribute))
    return cls


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(method):

        @functools.wraps(method)
        def generate(*args: Any, **options: Any) -> Iterator[Any]:
            with translating():
                yield from method(*args, **options)

        return generate

    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        with translating():
            return method(*args, **options)

    return call
