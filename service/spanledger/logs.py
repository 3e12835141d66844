"""Logging of every spanledger process: to stderr, as text or as one JSON object per line.

Libraries log warnings and errors only; our own code logs from the chosen level. The entries of
`extra={"fields": {…}}` become fields of the JSON object, or `name=value` on the text line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]
FIELDS = "fields"
"""Key of `extra` that holds a record's fields."""


def set_up(level: Level, form: Format, name: str) -> None:
    """Configure logging. `name` is the kind of process, such as `gateway`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(name) if form == "json" else TextLines(name))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("spanledger").setLevel(level.upper())


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found = getattr(record, FIELDS, None)
    return found if isinstance(found, Mapping) else {}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextLines(logging.Formatter):
    """`2026-11-27T20:54:09.123Z INFO gateway: message name=value …`"""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        parts = [f"{_time(record)} {record.levelname} {self._name}: {record.getMessage()}"]
        parts += [f"{name}={_word(value)}" for name, value in _fields(record).items()]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonLines(logging.Formatter):
    """`{"time": …, "level": "info", "process": "gateway", "message": …, …}`"""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "process": self._name,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def _word(value: object) -> str:
    """A value as one word of a line; quoted if it is empty or would read as several."""
    text = str(value)
    plain = text and text.isprintable() and not any(c in text for c in ' "=')
    return text if plain else msgspec.json.encode(text).decode()
