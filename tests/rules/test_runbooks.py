"""Runbooks: one per alert, with commands and queries that run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from prometheus.src.names import known_series
from spanledger.cli import app
from spanledger.config import Config
from spanledger.errors import (
    PROVIDER_ERROR_KINDS,
    BudgetExceededError,
    UnboundedCostError,
    UnpricedModelError,
)
from spanledger.telemetry.signals import ATTRIBUTES, SPANS
from tests.rules.harness import ALERTS, NAMES, RECORDINGS, ROOT, promtool
from tests.rules.promql import metrics_of
from tests.service.telemetry.conftest import Book

FOLDER = ROOT / "docs" / "runbooks"
BOOKS = sorted(FOLDER.glob("*.md"))
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INTRINSIC = {"status", "name", "duration", "kind"}


def lines(lang: str, books: list[Path] = BOOKS) -> Iterator[tuple[str, str]]:
    """Every line of every code block in a language, with its page."""
    for book in books:
        for found, body in FENCE.findall(book.read_text(encoding="utf-8")):
            if found == lang:
                yield from ((book.stem, line) for line in body.splitlines() if line)


def test_alerts_and_runbooks_are_one_to_one() -> None:
    """Every alert has a page, and every page has an alert."""
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
    """Prometheus accepts every PromQL line."""
    rules = [{"record": f"r:{n}", "expr": query} for n, (_, query) in enumerate(lines("promql"))]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")

    assert len(rules) > len(BOOKS)
    assert promtool("check", "rules", str(path)) == ""


def test_queries_use_names_that_exist() -> None:
    """A query uses only registered signals and recorded series."""
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


KEY = "key_0123456789ab"
TRACE = "073d3d50e254"
"""The pages' placeholders for a key and for a trace."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A real ledger with a budget, a key and a request that fell back, and a configuration;
    maps the pages' placeholders to real values."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPANLEDGER_LEDGER_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
    shutil.copy(ROOT / "examples" / "spanledger.yaml", tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-none")
    book = Book(tmp_path / "ledger.db")
    start = book.start(trace_id=TRACE.ljust(32, "0"))
    book.finish(book.reserve(start), None, error_type="rate_limited", last=False)
    book.finish(book.reserve(start, 2, fallback_from="chat", reason="rate_limited"))
    book.store.close()
    assert run("budget set acme --customer acme --limit 10 --period month").exit_code == 0
    made = run("keys create --customer acme --json")
    return {KEY: json.loads(made.stdout)["id"]}


def run(command: str) -> Result:
    """Run a spanledger command; returns its full output."""
    return CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_commands_run(book: Path, site: dict[str, str]) -> None:
    """The commands of a page work as copied, one after another, on a real ledger."""
    for _, command in lines("sh", [book]):
        for written, here in site.items():
            command = command.replace(written, here)
        done = run(command.removeprefix("spanledger "))

        assert command.startswith("spanledger ")
        assert done.exit_code == 0, (command, done.output)


def test_a_trace_says_why_a_request_fell_back(site: dict[str, str]) -> None:
    """The output has what the pages refer to: the route that failed, and why."""
    del site

    assert "fallback from chat (rate_limited)" in " ".join(run(f"trace {TRACE}").stdout.split())


def test_pages_say_where_to_type_things() -> None:
    """Every page links to the explanation of where to run commands and queries."""
    anchor = "[when one fires](../alerts.md#when-one-fires)"

    assert [book.stem for book in BOOKS if anchor not in book.read_text(encoding="utf-8")] == []
    assert "\n## When one fires\n" in (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")


def fields(model: type[BaseModel]) -> Iterator[str]:
    """Every configuration key, at any depth."""
    for name, field in model.model_fields.items():
        yield name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields(kind)


def test_settings_and_words_exist() -> None:
    """Every setting, signal, error or label that a page mentions exists."""
    compose = (ROOT / "otel-collector" / "README.md").read_text(encoding="utf-8")
    words = {
        *fields(Config),
        *PROVIDER_ERROR_KINDS,
        *(
            error.error_type
            for error in (BudgetExceededError, UnboundedCostError, UnpricedModelError)
        ),
        *known_series(),
        *ATTRIBUTES,
        *(word for about in ATTRIBUTES.values() for word in re.findall(r"`(\w+)`", about.meaning)),
        *(value for alert in ALERTS for value in alert.labels.values()),
        *re.findall(r"\bOTELCOL_[A-Z_]+\b", compose),
        "overrun_usd",  # of `spanledger budget list --json`
        "max_tokens",  # of a request's body
        "litellm_params",
    }
    for book in BOOKS:
        text = FENCE.sub("", book.read_text(encoding="utf-8"))
        for code in re.findall(r"`([\w.]*_[\w.]*)`", text):
            last = code.rpartition(".")[2]
            assert code in words or last in words, (book.stem, code)
