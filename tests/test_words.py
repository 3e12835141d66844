"""House words: the texts respect the table, and the glossary agrees with it.

The table and the way prose is found are in `tests/support/words.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.words import WORDS, Word, found_in, hits
from tests.test_tidy import ROOT, name_of, text_files

QUOTED: dict[str, str] = {
    "tests/support/words.py": "the table itself",
    "service/spanledger/ledger/sqlite/migrations/m001_initial.sql": "released, never edited",
    "tests/service/ledger/sqlite/version_1.sql": "a ledger as version 0.1 wrote it",
}
"""Files that quote what others wrote, to the reason why."""


@cache
def files() -> tuple[Path, ...]:
    """Every text that is written by hand or shown to a user."""
    folders = (
        "compose",
        "examples",
        "grafana",
        "helm",
        "otel-collector",
        "prometheus",
        "service",
        "tempo",
    )
    kinds = {".yaml", ".yml", ".toml", ".env", ".tmpl", ".conf", ".service", ".timer", ".sql"}
    kinds |= {".tpl", ".txt"}
    more = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    alone = (ROOT / name for name in ("docker-compose.yml", ".env.example", "service/Dockerfile"))
    hidden = (ROOT / ".github").rglob("*.y*ml")
    found = {*text_files(), *hidden, *alone, *(path for path in more if path.suffix in kinds)}
    return tuple(sorted(path for path in found if path.exists() and name_of(path) not in QUOTED))


def found() -> Iterator[str]:
    """Every hit, as `file:line: what is written → what to write`."""
    for path in files():
        strings = not path.is_relative_to(ROOT / "tests")
        for line, written, word in hits(path, strings=strings):
            yield f"{name_of(path)}:{line}: {written} → {word.instead}"


def test_the_texts_use_plain_words() -> None:
    """No page, comment, docstring, message or title has a word of the table."""
    assert list(found()) == []


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.instead)
def test_each_row_tells_a_bad_sentence_from_a_good_one(word: Word) -> None:
    """A row finds its bad sentence, and nothing in the table finds its good one."""
    assert word.pattern in found_in(word.bad)
    assert found_in(word.good) == []
    assert word.reason


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("page.md", "# T\n\nIt runs beside\nit.\n\n```\nbeside\n```\nThe `beside` key is\nno key.\n", [3, 9]),
        ("m.py", '"""It is\n\n    beside it."""\nsound = {"sound": 1}  # the dear one\n', [3, 4]),
        ("m.py", 'x = f(\n    "they are"\n    " no list"\n)\n', [2]),
        ("m.py", "# there\n# is no end\n\n# What is\n#   no text\n", [4]),
        ("rules.yml", "a: 1\n# dearest\nsummary: The dearest\n", [2, 3]),
    ],
)  # fmt: skip
def test_prose_is_found_in_every_kind_of_file(
    tmp_path: Path, name: str, text: str, lines: list[int]
) -> None:
    """Prose is read across lines, with its line number; code, and names in quotes, are not."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    assert [line for line, _, _ in hits(path, strings=True)] == lines


def test_a_tests_data_is_not_prose(tmp_path: Path) -> None:
    """Without `strings`, docstrings and comments are read and other literals are not."""
    path = tmp_path / "test_m.py"
    path.write_text('"""Beside."""\nx = "is beside it"\n', encoding="utf-8")

    assert [line for line, _, _ in hits(path, strings=False)] == []


def test_the_glossary_agrees_with_the_table() -> None:
    """Every word that a row of the glossary rules out is one that the table finds."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("\n## Words\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ") and not line.startswith("| word")
    ]
    assert len(rows) > 20
    assert [row for row in rows if len(row) != 3] == []
    words = [word for row in rows for word in row[0].split(", ")]
    assert words == sorted(set(words), key=words.index)
    avoided = [text for row in rows for text in re.findall(r"`([^`]+)`", row[2])]
    assert [text for text in avoided if not found_in(text)] == []
