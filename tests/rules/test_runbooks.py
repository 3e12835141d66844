"""Runbooks: one an alert, with commands and queries that run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from prometheus.src.names import known_series
from spanledger.cli import app
from spanledger.telemetry.signals import SPANS
from tests.rules.harness import ALERTS, NAMES, RECORDINGS, ROOT, promtool
from tests.rules.promql import metrics_of

FOLDER = ROOT / "docs" / "runbooks"
BOOKS = sorted(FOLDER.glob("*.md"))
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INTRINSIC = {"status", "name", "duration", "kind"}


def lines(lang: str, books: list[Path] = BOOKS) -> Iterator[tuple[str, str]]:
    """Every line of every block of a language, with its page."""
    for book in books:
        for found, body in FENCE.findall(book.read_text(encoding="utf-8")):
            if found == lang:
                yield from ((book.stem, line) for line in body.splitlines() if line)


def test_alerts_and_runbooks_are_one_to_one() -> None:
    """Every alert has its page, and no page is of an alert that does not exist."""
    assert [book.stem for book in BOOKS] == NAMES


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_a_runbook_has_its_sections(book: Path) -> None:
    """A page has the five sections in order, something to query, and something to run."""
    text = book.read_text(encoding="utf-8")
    languages = {found for found, _ in FENCE.findall(text)}
    verify = text.partition("## Verify")[2]

    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == HEADINGS
    assert languages >= {"promql", "sh"}
    assert "```promql" in verify


def test_queries_parse(tmp_path: Path) -> None:
    """Every PromQL line is one that Prometheus takes."""
    rules = [{"record": f"r:{n}", "expr": query} for n, (_, query) in enumerate(lines("promql"))]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")

    assert len(rules) > len(BOOKS)
    assert promtool("check", "rules", str(path)) == ""


def test_queries_use_names_that_exist() -> None:
    """A query rests on registered signals and recorded series."""
    known = known_series() | {rule.record for rule in RECORDINGS}

    assert [(p, m) for p, query in lines("promql") for m in metrics_of(query) - known] == []


def test_traces_are_searched_by_attributes_that_exist() -> None:
    """A TraceQL line names attributes of our spans, on one span that may carry all of them."""
    of_alerts = [
        (alert.name, query)
        for alert in ALERTS
        for query in ([alert.traceql] if isinstance(alert.traceql, str) else alert.traceql.values())
        if query
    ]
    for page, query in (*lines("traceql"), *of_alerts):
        query = re.sub(r"\$labels\.\w+", '"x"', query)
        assert re.fullmatch(r"\{ .+ \}", query), (page, query)
        attributes = set(re.findall(r"span\.([\w.]+)", query))
        bare = re.sub(r'"[^"]*"|span\.[\w.]+', "", query)
        words = set(re.findall(r"[a-z]\w*", bare)) - {"true", "false", "nil", "error", "ok"}

        assert attributes, (page, query)
        assert words <= INTRINSIC, (page, query)
        assert any(attributes <= set(span.attributes) for span in SPANS), (page, query)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real ledger with a budget and a key."""
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    for command in (
        "budget set acme --customer acme --limit 10 --period month",
        "keys create --customer acme",
    ):
        made = CliRunner().invoke(app, [*command.split(), "--ledger", url])
        assert made.exit_code == 0, made.output
    return url


@pytest.mark.parametrize("command", sorted({line for _, line in lines("sh")}))
def test_commands_run(command: str, ledger: str) -> None:
    """Every command of a runbook works as it is copied, on a real ledger."""
    words = shlex.split(command)

    done = CliRunner().invoke(app, words[1:], env={"SPANLEDGER_LEDGER_URL": ledger})

    assert words[0] == "spanledger"
    assert done.exit_code == 0, done.output
