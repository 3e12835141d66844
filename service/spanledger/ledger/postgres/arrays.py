"""Columns of rows as text of Postgres arrays, which a statement unpacks with `unnest`.

Built by hand, because the driver's own way through lists costs four times as much. Postgres' text has
neither NUL characters nor halves of surrogate pairs, both of which JSON can bring in; what cannot be
stored must not fail the rows of other requests, so it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BIGINTS = frozenset(
    {
        *("started_ns", "ended_ns", "first_chunk_ns", "chunks", "stream", "number", "seq"),
        *("hold_nano", "cost_nano", "overrun_nano", "estimated", "unpriced", "corrected"),
        *("http_status", "input_tokens", "output_tokens", "cache_read_tokens"),
        *("cache_write_tokens", "reasoning_tokens"),
    }
)
"""Columns of integers; all others are text."""
OPTIONAL = frozenset({"list_nano", "charge_nano"})
"""Columns of integers that may be NULL."""


def integers(values: Iterable[object]) -> str:
    """An array of integers."""
    return f"{{{','.join(map(str, values))}}}"


def optional_integers(values: Iterable[object]) -> str:
    """An array of integers, some of which may be NULL."""
    return integers("NULL" if value is None else value for value in values)


def texts(values: Iterable[str | None]) -> str:
    """An array of texts, some of which may be NULL."""
    quoted = [
        "NULL"
        if value is None
        else f'"{value}"'
        if value.isalnum()
        else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for value in values
    ]
    return storable(f"{{{','.join(quoted)}}}")


def storable(text: str) -> str:
    """A text without what Postgres cannot store."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode(errors="replace").decode()
    return text


def unnest(columns: Sequence[str]) -> str:
    """A table of these columns, each from one parameter that is an array."""
    return f"unnest({', '.join(f'%s::{_kind(name)}[]' for name in columns)})"


def columns_of(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The parameters of `unnest` for some rows."""
    return [
        integers(values)
        if name in BIGINTS
        else optional_integers(values)
        if name in OPTIONAL
        else texts(values)
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]


def _kind(column: str) -> str:
    return "bigint" if column in BIGINTS or column in OPTIONAL else "text"
