"""Runs a scenario over seeds, and says what came of it: counts, failures, and how to repeat them."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from spanledger import __version__

ROOT = Path(__file__).resolve().parents[2]
MAX_FAILURES = 5
"""A proof ends after this many."""
SAY_EVERY_S = 10.0

Counts = Counter[str]


class BrokenPromiseError(AssertionError):
    """Something that the ledger promises did not hold; the text has the figures."""


def promise(kept: object, text: str) -> None:
    """Raises BrokenPromiseError with a text unless a promise was kept."""
    if not kept:
        raise BrokenPromiseError(text)


class Scenario(ABC):
    """What a seed decides, run on one kind of store."""

    enough = False
    """Whether what was run is all that was wanted, however many seeds were asked for."""

    @abstractmethod
    def run(self, seed: int, folder: Path) -> Counts:
        """One course of events; returns what happened how often.

        Raises:
            AssertionError: a promise was broken.
        """

    def finish(self) -> Counts:
        """What can be said only after all seeds. Raises AssertionError."""
        return Counter()

    def close(self) -> None:  # noqa: B027 - most have something to end
        """End every process it started."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a promise."""

    seed: int
    text: str
    repeat: str
    kept: str
    """The folder with its ledger and logs."""


@dataclass(slots=True)
class Report:
    """What was run, where, and what came of it."""

    scenario: str
    store: str
    first: int
    seeds: int = 0
    counts: Counts = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: str = __version__
    commit: str = field(default_factory=lambda: _commit())
    python: str = field(default_factory=platform.python_version)

    def json(self) -> dict[str, object]:
        """All of it."""
        failures = [asdict(failure) for failure in self.failures]
        own = {name: getattr(self, name) for name in self.__slots__}
        return {**own, "counts": dict(self.counts), "failures": failures}

    def line(self) -> str:
        """One line of counts."""
        counts = ", ".join(f"{number:,} {what}" for what, number in self.counts.items())
        last = self.first + self.seeds - 1
        return (
            f"{self.scenario} on {self.store}: seeds {self.first} to {last}: {counts};"
            f" {len(self.failures)} failures; {self.seconds:.0f} s"
        )


def prove(
    open_scenario: Callable[[], Scenario],
    report: Report,
    seeds: int,
    *,
    seconds: float,
    say: Callable[[str], None] = lambda _text: None,
) -> Report:
    """Run seeds until all are done, the time is over, or too many have failed.

    Args:
        report: begun for its first seed; it is filled and returned.
        say: called with a line of progress at times.
    """
    began = said = time.monotonic()
    scenario = open_scenario()
    try:
        for seed in range(report.first, report.first + seeds):
            over = time.monotonic() - began >= seconds or scenario.enough
            if over or len(report.failures) >= MAX_FAILURES:
                break
            failure = _run(scenario, report, seed)
            report.seeds += 1
            report.seconds = time.monotonic() - began
            if failure is not None:
                report.failures.append(failure)
                say(f"seed {seed} FAILED: {failure.text.strip().splitlines()[-1]}")
                scenario.close()
                scenario = open_scenario()
            if time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                say(report.line())
        try:
            report.counts.update(scenario.finish())
        except AssertionError as error:
            report.failures.append(_failure(report, report.first, "", error))
    finally:
        scenario.close()
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _run(scenario: Scenario, report: Report, seed: int) -> Failure | None:
    folder = tempfile.mkdtemp(prefix=f"prove-{report.scenario}-{seed}-")
    try:
        report.counts.update(scenario.run(seed, Path(folder)))
    except Exception as error:  # noqa: BLE001 - whatever it was, its seed is what repeats it
        return _failure(report, seed, folder, error)
    shutil.rmtree(folder)
    return None


def _failure(report: Report, seed: int, folder: str, error: Exception) -> Failure:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    text = str(error)
    if not isinstance(error, BrokenPromiseError):
        text = "".join(traceback.format_exception(error))
    command = f"python -m tests.prove {report.scenario} --store {report.store}"
    return Failure(seed, text, f"{command} --first {seed} --seeds 1", folder)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
