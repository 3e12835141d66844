"""The demo end to end, and a check that each of its promises can be broken."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.ledgers import store_at
from typer.testing import CliRunner

from spanledger import cli
from spanledger.config import load_config
from spanledger.config.budgets import subjects_of
from spanledger.demo import app, promises
from spanledger.demo.figures import REPORT_QUANTILES, Figures
from spanledger.demo.promises import Money, Promise, judge, reckon
from spanledger.demo.report import next_steps, own_command
from spanledger.demo.scenario import SPIKE_JOBS, Story
from spanledger.demo.sink import SinkSpan
from spanledger.demo.stage import CUSTOMERS, quiet_timezone
from spanledger.money import format_usd, parse_usd
from spanledger.top.figures import quantiles

DEMO = cli.app

PROMISES = {
    "bill_equals_ledger",
    "ledger_equals_spans",
    "no_span_lost",
    "traces_join",
    "storm_fell_over",
    "budget_stopped_exactly_the_spiking_customer",
    "others_were_served",
    "provider_recovered",
    "customer_recovered",
    "batch_stopped_and_resumed",
    "ledger_verifies",
}


@dataclass(frozen=True, slots=True)
class Played:
    """One run of the demo: its output, its folder, and the data its promises are checked with."""

    code: int
    report: dict[str, Any]
    folder: Path
    story: Story
    spans: list[SinkSpan]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """`spanledger demo --json`, run once for all tests of this module."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    seen: list[tuple[Story, list[SinkSpan]]] = []

    def watched(
        story: Story, figures: Figures, spans: list[SinkSpan], money: Money
    ) -> list[Promise]:
        seen.append((story, spans))
        return promises.judge(story, figures, spans, money)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "judge", watched)
        result = CliRunner().invoke(DEMO, ["demo", "--json", "--keep", str(folder)])
    assert seen, result.stderr
    return Played(result.exit_code, json.loads(result.stdout), folder, *seen[0])


@pytest.mark.timeout(300)
def test_the_incident_keeps_its_promises(played: Played) -> None:
    """Storm, fallback, spike, stop and recovery happen, and all totals agree to the nano-dollar."""
    report = played.report
    assert report["promises"] == dict.fromkeys(PROMISES, True), report["shown"]
    assert played.code == 0
    assert report["bill_usd"] == report["ledger_usd"] == report["spans_usd"]
    assert parse_usd(report["ledger_usd"]) > 50_000_000
    assert report["requests"] > 180
    assert report["attempts"] > report["requests"] - report["refused"]
    assert report["fallbacks"] >= 42
    assert report["refused"] >= 6
    assert {row["customer"] for row in report["spend"]} == set(CUSTOMERS)
    assert sum(parse_usd(row["usd"]) for row in report["spend"]) == parse_usd(report["ledger_usd"])
    assert {row["reason"] for row in report["fallback_reasons"]} >= {"rate_limited"}
    streamed = [row for row in report["latency"] if row["first_token_seconds"]]
    assert len(streamed) >= 3
    for row in streamed:
        assert 0 < row["first_token_seconds"]["p50"] < row["seconds"]["p99"]


@pytest.mark.timeout(300)
def test_what_is_kept_can_be_looked_at(played: Played) -> None:
    """The kept config is valid, the commands can read the kept ledger, and the batch is complete."""
    config = load_config(played.folder / "spanledger.yaml", {})
    named = [subjects_of(budget) for budget in config.budgets]
    assert {subjects["customer"] for subjects in named} == set(CUSTOMERS)
    spend = CliRunner().invoke(
        cli.app, ["spend", "--by", "customer", "--json", "--ledger", config.ledger.url]
    )
    assert spend.exit_code == 0
    assert parse_usd(json.loads(spend.stdout)["total_usd"]) == parse_usd(
        played.report["ledger_usd"]
    )
    lines = (played.folder / "initech.results.jsonl").read_text().splitlines()
    assert len({json.loads(line)["custom_id"] for line in lines}) == len(lines) == SPIKE_JOBS
    again = CliRunner().invoke(DEMO, ["demo", "--json", "--keep", str(played.folder)])
    assert again.exit_code == 2
    assert "not empty" in again.stderr


Tamper = Callable[[sqlite3.Connection, Story, list[SinkSpan]], None]


def _statement(query: str) -> Tamper:
    def run(ledger: sqlite3.Connection, _story: Story, _spans: list[SinkSpan]) -> None:
        assert ledger.execute(query).rowcount > 0

    return run


def _change_bill(_ledger: sqlite3.Connection, story: Story, _spans: list[SinkSpan]) -> None:
    story.bill_usd = format_usd(parse_usd(story.bill_usd) + 1)


def _lose_span(_ledger: sqlite3.Connection, _story: Story, spans: list[SinkSpan]) -> None:
    spans.remove(next(span for span in spans if promises.COST_ATTRIBUTE in span.attributes))


def _cut_traces(_ledger: sqlite3.Connection, _story: Story, spans: list[SinkSpan]) -> None:
    spans[:] = [replace(span, parent_span_id="00" * 8) for span in spans]


def _storm_seen(_ledger: sqlite3.Connection, story: Story, _spans: list[SinkSpan]) -> None:
    story.tallies["storm"]["acme"].failed += 1


def _not_returned(_ledger: sqlite3.Connection, story: Story, _spans: list[SinkSpan]) -> None:
    story.returned["fast"] = False


def _not_resumed(_ledger: sqlite3.Connection, story: Story, _spans: list[SinkSpan]) -> None:
    story.worker["worker-initech-again"] = (3, {"done": 0, "skipped": 0})


BROKEN: list[tuple[set[str], Tamper]] = [
    ({"bill_equals_ledger"}, _change_bill),
    ({"ledger_equals_spans", "no_span_lost"}, _lose_span),
    ({"traces_join"}, _cut_traces),
    ({"storm_fell_over"}, _storm_seen),
    ({"batch_stopped_and_resumed"}, _not_resumed),
    (
        {"storm_fell_over"},
        _statement("UPDATE attempts SET fallback_from = '' WHERE fallback_from != ''"),
    ),
    (
        {"budget_stopped_exactly_the_spiking_customer", "others_were_served"},
        _statement(
            "UPDATE requests SET customer = 'acme' WHERE request_id ="
            " (SELECT max(request_id) FROM requests WHERE outcome = 'refused')"
        ),
    ),
    (
        {"others_were_served"},
        _statement(
            "UPDATE requests SET outcome = 'error' WHERE request_id ="
            " (SELECT request_id FROM requests WHERE customer = 'globex'"
            " ORDER BY started_ns LIMIT 1)"
        ),
    ),
    ({"provider_recovered"}, _not_returned),
    (
        {"customer_recovered", "budget_stopped_exactly_the_spiking_customer"},
        _statement(
            "UPDATE requests SET outcome = 'refused', refused_by = 'initech' WHERE request_id ="
            " (SELECT request_id FROM requests WHERE customer = 'initech'"
            " ORDER BY started_ns DESC LIMIT 1)"
        ),
    ),
    (
        {"ledger_verifies"},
        _statement("UPDATE balances SET spent_nano = spent_nano + 1 WHERE subject = 'acme'"),
    ),
]


@pytest.mark.timeout(300)
def test_each_promise_can_be_broken(played: Played, tmp_path: Path) -> None:
    """Each manipulation breaks exactly the promises that depend on it."""
    unbroken = set(PROMISES)
    for number, (expected, tamper) in enumerate(BROKEN):
        path = tmp_path / f"{number}.db"
        with (
            closing(sqlite3.connect(played.folder / "ledger.db")) as source,
            closing(sqlite3.connect(path, isolation_level=None)) as copy,
        ):
            source.backup(copy)
            story, spans = _copy(played.story), list(played.spans)
            tamper(copy, story, spans)
        with closing(Figures(store_at(path).reports())) as figures:
            money = reckon(story, figures.totals(), spans)
            found = judge(story, figures, spans, money)
        assert {promise.name for promise in found if not promise.kept} == expected
        unbroken -= expected
    assert not unbroken


def _copy(story: Story) -> Story:
    tallies = {
        phase: {name: replace(tally) for name, tally in tallies.items()}
        for phase, tallies in story.tallies.items()
    }
    return replace(story, tallies=tallies, worker=dict(story.worker), returned=dict(story.returned))


def test_a_worker_that_dies_is_quoted(played: Played) -> None:
    """The broken promise says why, since the worker's log is gone with the demo's folder."""
    story = _copy(played.story)
    story.worker["worker-initech"] = (1, {"died": "No module named 'httpx'"})
    with closing(Figures(store_at(played.folder / "ledger.db").reports())) as figures:
        money = reckon(story, figures.totals(), played.spans)
        found = judge(story, figures, list(played.spans), money)
    (broken,) = (promise for promise in found if promise.name == "batch_stopped_and_resumed")
    assert not broken.kept
    assert "No module named 'httpx'" in broken.shown


def test_percentiles_are_by_nearest_rank() -> None:
    """Percentiles are values that occurred."""
    assert quantiles([float(n) for n in range(1, 101)], REPORT_QUANTILES) == (50.0, 95.0, 99.0)
    assert quantiles([3.0, 1.0], REPORT_QUANTILES) == (1.0, 3.0, 3.0)
    assert quantiles([]) == ()


def test_budgets_do_not_renew_during_the_demo() -> None:
    """In the last minutes of a month, the budgets use a time zone that is already past it."""
    assert quiet_timezone(datetime(2026, 11, 15, 12, tzinfo=UTC)) == "UTC"
    assert quiet_timezone(datetime(2026, 11, 30, 23, 50, tzinfo=UTC)) == "Asia/Tokyo"
    assert quiet_timezone(datetime(2026, 12, 1, 0, 0, tzinfo=UTC)) == "UTC"


def test_the_next_steps_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name the program by its path if it is not on PATH."""
    program = tmp_path / ".venv" / "bin" / "spanledger"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])

    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_command() == ".venv/bin/spanledger"
    assert "\n  .venv/bin/spanledger config example > spanledger.yaml  " in next_steps(
        own_command()
    )

    monkeypatch.setenv("PATH", str(program.parent))
    assert own_command() == "spanledger"

    monkeypatch.setenv("UV", "/bin/uv")  # as `uv run` starts it, from a shell without the program
    monkeypatch.setenv("PATH", f"{program.parent}:{tmp_path}")
    assert own_command() == ".venv/bin/spanledger"
