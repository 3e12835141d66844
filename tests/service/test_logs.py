"""Log lines: complete, parseable, and always on one line."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from spanledger.logs import FIELDS, JsonLines, TextLines


def record(message: str, **fields: object) -> logging.LogRecord:
    """A record with fields."""
    made = logging.LogRecord("spanledger.x", logging.WARNING, __file__, 1, message, None, None)
    setattr(made, FIELDS, fields)
    return made


def test_a_line_for_people() -> None:
    """Time with its zone, level, process, message, then fields; a value of several words is quoted."""
    line = TextLines("gateway").format(record("ready", path="/a b", n=1, none="", say='"'))

    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == r'''WARNING gateway: ready path="/a b" n=1 none="" say="\""'''


@pytest.mark.parametrize("name", ["a\nb", "x\u2028y", "\x1b[31m", "naïve 日本"])
def test_a_value_stays_on_its_line(name: str) -> None:
    """A caller's name cannot start a new line in either format."""
    as_json = JsonLines("gateway").format(record("m", customer=name))
    as_text = TextLines("gateway").format(record("m", customer=name))
    assert json.loads(as_json)["customer"] == name
    assert "\n" not in as_text + as_json
    assert "\x1b" not in as_text + as_json


def test_an_exception_is_a_field() -> None:
    """A traceback stays within its JSON object."""
    try:
        raise ValueError("boom")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    line = JsonLines("gateway").format(made)
    assert line.count("\n") == 0
    assert "boom" in json.loads(line)["exception"]
