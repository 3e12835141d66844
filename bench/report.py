"""Turns rounds into figures: medians over the rounds, a table, JSON, a section of the page."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.processes import can_pin

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Round:
    """One round of load on one server."""

    requests: int
    cpu_us: dict[str, float]
    """CPU per request, by role (`server`, `shipper`)."""
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    resident_mb: float

    @property
    def cpu_us_per_request(self) -> float:
        """The sum of all roles."""
        return sum(self.cpu_us.values())


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds for one server."""

    name: str
    ready_s: float
    rounds: tuple[Round, ...]
    alone: tuple[Round, ...] = ()
    """Rounds with one connection."""

    def median(self, name: str) -> float:
        """The median over the rounds."""
        values: list[float] = [getattr(item, name) for item in self.rounds]
        return statistics.median(values)

    def cpu_by_role(self) -> dict[str, float]:
        """The median of each role."""
        roles = dict.fromkeys(role for item in self.rounds for role in item.cpu_us)
        return {
            role: statistics.median(item.cpu_us.get(role, 0.0) for item in self.rounds)
            for role in roles
        }


def ratio(ours: Result, theirs: Result) -> float:
    """How many times more CPU the other server needs."""
    return theirs.median("cpu_us_per_request") / ours.median("cpu_us_per_request")


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How much of the other server's CPU ours needs, round by round: what slows the machine down for a
    while slows down both."""
    each = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(each):.2f} ({', '.join(f'{one:.2f}' for one in each)}) times"


def as_dict(results: Iterable[Result], conditions: dict[str, Any]) -> dict[str, Any]:
    """All results, for `--json`."""
    results = list(results)
    found: dict[str, Any] = {"conditions": conditions}
    found["subjects"] = [
        {
            "name": result.name,
            "cpu_us_per_request": round(result.median("cpu_us_per_request"), 1),
            "cpu_us_by_role": {k: round(v, 1) for k, v in result.cpu_by_role().items()},
            "requests_per_second": round(result.median("requests_per_second"), 1),
            "p50_ms": round(result.median("p50_ms"), 2),
            "p99_ms": round(result.median("p99_ms"), 2),
            "resident_mb": round(result.median("resident_mb"), 1),
            "ready_s": round(result.ready_s, 2),
            "rounds": [asdict(item) for item in result.rounds],
            "alone": [asdict(item) for item in result.alone],
        }
        for result in results
    ]
    if len(results) > 1:
        found["ratio"] = round(ratio(results[0], results[1]), 1)
    return found


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """The table, header first."""
    results = list(results)
    head = ("", *(result.name for result in results))
    lines = [
        ("CPU-µs a request", *(_cpu(result) for result in results)),
        ("its rounds", *(_spread(result.rounds) for result in results)),
        ("CPU-µs a request alone", *(_alone(result) for result in results)),
        ("requests a second", *(f"{r.median('requests_per_second'):,.0f}" for r in results)),
        ("p50, p99 ms", *(_latency(result) for result in results)),
        ("resident MB", *(f"{r.median('resident_mb'):.0f}" for r in results)),
        ("seconds to ready", *(f"{result.ready_s:.1f}" for result in results)),
        ("requests", *(f"{sum(i.requests for i in r.rounds):,}" for r in results)),
    ]
    return [head, *lines]


def table(lines: Sequence[Sequence[str]]) -> str:
    """The table for the terminal, header first."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def conclusion(results: list[Result]) -> str:
    """The result in one sentence."""
    if len(results) < 2:
        return ""
    ours, other = results
    if not other.name.startswith("spanledger"):
        times = ratio(ours, other)
        return f"{times:.0f} times fewer CPU-µs a request than {other.name}, shipping included."
    among = ratios(_totals(ours.rounds), _totals(other.rounds))
    alone = ratios(_totals(ours.alone), _totals(other.alone))
    return (
        f"{among} the CPU-µs a request of {other.name}, shipping included; for a request alone"
        f" {alone}."
    )


def _totals(rounds: Sequence[Round]) -> list[float]:
    return [item.cpu_us_per_request for item in rounds]


def write_page(results: list[Result], conditions: dict[str, Any], section: str = "bench") -> None:
    """Write the figures to the page."""
    said = "; ".join(f"{name} {value}" for name, value in conditions.items())
    text = f"{markdown(rows(results))}\n\n{conclusion(results)}\n\nMeasured with {said}."
    write_section(section, text)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table from rows, header first."""
    head, *others = ["| " + " | ".join(line) + " |" for line in lines]
    rule = "|---" + "|---:" * (len(lines[0]) - 1) + "|"
    return "\n".join([head, rule, *others])


def write_section(name: str, text: str) -> None:
    """Insert a text into the page, between its markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{PAGE.name} does not contain the markers {begin} and {end}")
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return {
        "processor": models[0] if models else platform.machine(),
        "Python": platform.python_version(),
        "cores": "one for the server, one for all else" if can_pin() else "shared by all",
    }


def _cpu(result: Result) -> str:
    total = f"{result.median('cpu_us_per_request'):,.0f}"
    roles = result.cpu_by_role()
    if len(roles) < 2:
        return total
    return f"{total} ({', '.join(f'{name} {us:,.0f}' for name, us in roles.items())})"


def _spread(rounds: Sequence[Round]) -> str:
    return ", ".join(f"{item.cpu_us_per_request:,.0f}" for item in rounds)


def _alone(result: Result) -> str:
    if not result.alone:
        return ""
    return f"{statistics.median(item.cpu_us_per_request for item in result.alone):,.0f}"


def _latency(result: Result) -> str:
    return f"{result.median('p50_ms'):.1f}, {result.median('p99_ms'):.1f}"
