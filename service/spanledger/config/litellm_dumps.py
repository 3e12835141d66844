"""Rows of LiteLLM's tables, as people export them: JSON, JSON lines, CSV, or what `pg_dump` writes.

Values keep the form of their file: those of JSON are values, those of the others texts. `as_list`, `as_object`
and others below read both.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from spanledger.errors import UsageError

KEY_TABLE = "LiteLLM_VerificationToken"
TEAM_TABLE = "LiteLLM_TeamTable"
BUDGET_TABLE = "LiteLLM_BudgetTable"
MAX_FILE_BYTES = 256 * 1024 * 1024

LitellmRow = dict[str, Any]
TableRows = dict[str, list[LitellmRow]]

_COPY = re.compile(r'COPY (?:\w+\.)?"?(\w+)"? \((.*)\) FROM stdin;')
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED = re.compile(r"\\(.)")
_HOLDS = {"keys": KEY_TABLE, "teams": TEAM_TABLE, "budgets": BUDGET_TABLE, "data": "", "items": ""}
"""Where LiteLLM's API has rows in an object; empty: those that were asked for."""


def read_rows(path: Path, table: str) -> TableRows:
    """The rows of a file, by table. All formats but `pg_dump`'s have one table, which is `table`.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(
                f"{path}: it is larger than {MAX_FILE_BYTES} bytes; export the table alone"
            )
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text: {error}") from None
    start = text.lstrip()[:1]
    if start in ("{", "["):
        found = _of_json(path, text, table)
    elif _COPY.search(text):
        found = _of_dump(path, text)
    elif "INSERT INTO" in text[:100_000]:
        raise UsageError(
            f"{path}: INSERT statements are not read; let pg_dump write COPY, its default"
        )
    else:
        found = {table: _of_csv(path, text)}
    if not found.get(table):
        raise UsageError(f"{path}: there are no rows of {table} in it")
    return found


def _of_json(path: Path, text: str, table: str) -> TableRows:
    try:
        data = json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError as error:
        data = _of_lines(text)
        if data is None:
            raise UsageError(f"{path}: it is not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: it is nested too deeply") from None
    found: TableRows = {}
    if isinstance(data, dict):
        if "token" in data or "team_id" in data:
            found[table] = [data]
        for name, rows in data.items():
            if name in (KEY_TABLE, TEAM_TABLE, BUDGET_TABLE) or name in _HOLDS:
                found.setdefault(_HOLDS.get(name, name) or table, []).extend(_objects(path, rows))
    else:
        found[table] = _objects(path, data)
    return found


def _of_lines(text: str) -> list[Any] | None:
    """JSON lines; None if they are not."""
    try:
        return [json.loads(line, parse_float=Decimal) for line in text.splitlines() if line.strip()]
    except (json.JSONDecodeError, RecursionError):
        return None


def _objects(path: Path, rows: Any) -> list[LitellmRow]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(
            f"{path}: expected a list of rows as objects; of LiteLLM's API, ask for"
            " /key/list?return_full_object=true"
        )
    return rows


def _of_csv(path: Path, text: str) -> list[LitellmRow]:
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise UsageError(f"{path}: it is not CSV: {error}") from None
    names = reader.fieldnames or []
    if len(names) < 2:
        raise UsageError(
            f"{path}: its first line must name the columns; export with"
            f' \\copy "{KEY_TABLE}" TO keys.csv CSV HEADER'
        )
    uneven = [number for number, row in enumerate(rows, 1) if None in row or None in row.values()]
    if uneven:
        raise UsageError(f"{path}: row {uneven[0]} has not as many values as there are columns")
    return rows


def _of_dump(path: Path, text: str) -> TableRows:
    found: TableRows = {}
    lines = iter(text.splitlines())
    for line in lines:
        match = _COPY.fullmatch(line)
        if match is None:
            continue
        names = [name.strip().strip('"') for name in match[2].split(",")]
        for number, values in enumerate(_copied(lines), 1):
            if len(values) != len(names):
                raise UsageError(f"{path}: {match[1]}: row {number} is not what its COPY says")
            found.setdefault(match[1], []).append(dict(zip(names, values, strict=True)))
    return found


def _copied(lines: Iterator[str]) -> Iterator[list[str | None]]:
    """The rows of a COPY until its end."""
    for line in lines:
        if line == "\\.":
            return
        yield [
            None if value == "\\N" else _ESCAPED.sub(_unescaped, value)
            for value in line.split("\t")
        ]


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[1])


# values -----------------------------------------------------------------------------------


def is_set(value: Any) -> bool:
    """Whether a row has this: LiteLLM writes empty lists, objects and texts for nothing."""
    if isinstance(value, str):
        return value not in ("", "{}", "[]", "null", "NULL", "f", "false", "False")
    return bool(value)


def as_list(value: Any) -> list[str]:
    """A list of texts. Raises ValueError."""
    if not is_set(value):
        return []
    if isinstance(value, str):
        value = _array(value) if value.startswith("{") else json.loads(value)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("expected a list of texts")
    return value


def _array(text: str) -> list[str]:
    """An array as Postgres writes it: `{a,"b c"}`."""
    if not text.endswith("}"):
        raise ValueError("expected an array like {a,b}")
    rows = list(csv.reader([text[1:-1]], escapechar="\\", doublequote=False, strict=True))
    return rows[0] if rows else []


def as_object(value: Any) -> dict[str, Any]:
    """An object. Raises ValueError."""
    if not is_set(value):
        return {}
    found = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    return found


def as_objects(value: Any) -> list[dict[str, Any]]:
    """A list of objects. Raises ValueError."""
    if not is_set(value):
        return []
    found = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("expected a list of objects")
    return found


def as_text(value: Any) -> str:
    """A text; empty for nothing. Raises ValueError."""
    if value is None:
        return ""
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        raise ValueError("expected a text")
    return str(value)


def as_amount(value: Any) -> Decimal | None:
    """USD; None for nothing. Raises ValueError."""
    if value is None or value == "":
        return None
    try:
        amount = Decimal(as_text(value))
    except InvalidOperation:
        raise ValueError("expected a number of USD") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("expected a number of USD, at least 0")
    return amount


def as_moment(value: Any) -> datetime | None:
    """A moment, of UTC where it has no zone; None for nothing. Raises ValueError."""
    text = as_text(value)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a moment like 2027-01-31T09:30:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
