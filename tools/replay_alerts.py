"""Replay a history against the alert rules in a real Prometheus, and report what would have fired when.

The history is a CSV (`time,series,value`, one sample per row, Unix seconds) or synthetic
(tools/replay_history.py). Recording rules are computed by query over the whole time and stored, alert
expressions are queried, and `for` and `keep_firing_for` are applied each minute as Prometheus does.

Exits with 0, with 1 if an incident of the synthetic history was missed, and with 2 if the replay failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.generate_rules import changed  # noqa: E402 - as above
from tools.replay_history import START_S, History, Incident  # noqa: E402 - as above
from tools.toolchain import cache_folder  # noqa: E402 - as above

from prometheus.src import alerts, recording  # noqa: E402 - the root must be on the path first
from prometheus.src.model import Alert, Recording, labels_of  # noqa: E402 - as above
from prometheus.src.thresholds import Thresholds  # noqa: E402 - as above

STEP_S = 60
MAX_POINTS = 10_000
"""Of a range query; Prometheus' limit is 11,000."""
READY_S = 60.0
ASK_S = 300.0
LEAST_DAYS = 6
"""The fewest synthetic days that have room for the incidents."""
MOST_DAYS = 400
"""The longest history, because each rule is evaluated at every minute of it."""
COLUMNS = ("time", "series", "value")
TIMES_S = (1e9, 4e9)
"""Unix seconds of the years 2001 to 2096; times in milliseconds or minutes are outside."""
_LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*"'
SERIES = re.compile(rf"[a-zA-Z_:][\w:]*(?:\{{(?:{_LABEL}(?:,{_LABEL})*)?\}})?", re.ASCII)
"""A series in Prometheus' notation."""
Item = TypeVar("Item")
Sample = tuple[float, float]
Row = tuple[str, Sequence[Sample]]


class ReplayError(Exception):
    """The replay failed; the message says why."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing of an alert, from its first minute to its last, in Unix seconds."""

    alert: str
    labels: Mapping[str, str]
    start_s: float
    end_s: float


def program(name: str) -> str:
    """A program from the toolchain or from PATH. Raises ReplayError."""
    built = cache_folder() / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    if not found:
        raise ReplayError(f"{name} was not found; `make toolchain` builds it")
    return found


def store(rows: Iterable[Row], folder: Path) -> None:
    """Write series as blocks of a Prometheus database."""
    text = folder / "import.txt"
    with text.open("w", encoding="utf-8") as out:
        for name, samples in rows:
            out.writelines(f"{name} {value!r} {at:.0f}\n" for at, value in samples)
        out.write("# EOF\n")
    command = (program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet")
    extra = ("--max-block-duration=1500h", str(text), str(folder / "data"))
    done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
    text.unlink()
    if done.returncode:
        raise ReplayError(f"promtool refused the import: {done.stderr.strip()[-500:]}")


@contextmanager
def prometheus(folder: Path, *more: str, settings: str = "{}") -> Iterator[str]:
    """Run a Prometheus on the database; yields its URL.

    `more` are further command-line flags, `settings` its configuration.
    """
    config = folder / "prometheus.yml"
    config.write_text(f"{settings}\n", encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = (
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
        "--query.max-samples=200000000",
        "--log.level=error",
        *more,
    )
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen([program("prometheus"), *flags], stdout=log, stderr=log)
    try:
        wait_until_ready(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Poll until it answers. Raises ReplayError."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own loopback
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise ReplayError("Prometheus did not become ready")


def ask(url: str, path: str, **form: Any) -> Any:
    """The `data` of Prometheus' answer to a query. Raises ReplayError if it is refused."""
    address = f"{url}{path}?{urllib.parse.urlencode(form)}"
    try:
        with urllib.request.urlopen(address, timeout=ASK_S) as answer:  # noqa: S310 - our own loopback
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise ReplayError(f"{form}: {error.read().decode()[:500]}") from error


def query(
    url: str, expr: str, span: tuple[int, int]
) -> dict[tuple[tuple[str, str], ...], list[Sample]]:
    """The values of an expression at every step of a time span, by labels."""
    found: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for start in range(span[0], span[1] + 1, STEP_S * MAX_POINTS):
        end = min(span[1], start + STEP_S * (MAX_POINTS - 1))
        span_of = {"start": start, "end": end, "step": STEP_S}
        for series in ask(url, "/api/v1/query_range", query=expr, **span_of)["result"]:
            labels = {k: v for k, v in series["metric"].items() if k != "__name__"}
            samples = found.setdefault(tuple(sorted(labels.items())), [])
            samples.extend((float(at), float(value)) for at, value in series["values"])
    for samples in found.values():
        samples.sort()  # `a or b` gives a separate series for each metric name
    return found


def layers(rules: Sequence[Recording]) -> list[list[Recording]]:
    """Recording rules in layers; each layer depends only on earlier ones."""
    left, done, found = list(rules), set[str](), []
    while left:
        names = {rule.record for rule in left}
        layer = [r for r in left if not any(name in r.expr for name in names)]
        if not layer:
            raise ReplayError(f"recording rules depend on each other: {sorted(names)}")
        found.append(layer)
        done |= {rule.record for rule in layer}
        left = [rule for rule in left if rule not in layer]
    return found


def record(url: str, rules: Sequence[Recording], span: tuple[int, int]) -> Iterator[Row]:
    """The series that the recording rules produce."""
    for rule in rules:
        for labels, samples in query(url, rule.expr, span).items():
            pairs = {**dict(labels), **rule.labels}
            text = ",".join(f"{name}={json.dumps(value)}" for name, value in pairs.items())
            yield f"{rule.record}{{{text}}}", samples


def firings(alert: Alert, active: Sequence[float], labels: Mapping[str, str]) -> Iterator[Firing]:
    """When one series of an alert fires, given the times at which its expression returns it."""
    pending = firing = last = None
    for at in active:
        keep = alert.keep_firing_s if firing is not None else 0
        if last is not None and at - last > STEP_S + max(0, keep - STEP_S):
            if firing is not None:
                yield Firing(alert.name, labels, firing, last + keep)
            pending = firing = None
        pending = at if pending is None else pending
        if firing is None and at - pending >= alert.for_s:
            firing = at
        last = at
    if firing is not None and last is not None:
        yield Firing(alert.name, labels, firing, last + alert.keep_firing_s)


def replay(rows: Iterable[Row], span: tuple[int, int], folder: Path, t: Thresholds) -> list[Firing]:
    """All alerts that fire over a history, in order of time."""
    store(rows, folder)
    rules = [r for g in recording.groups(t) for r in g.rules if isinstance(r, Recording)]
    for layer in shown(layers(rules), "recording"):
        with prometheus(folder) as url:
            made = list(record(url, layer, span))
        store(made, folder)
    found: list[Firing] = []
    told = [r for g in alerts.groups(t) for r in g.rules if isinstance(r, Alert)]
    with prometheus(folder) as url:
        for alert in shown(told, "alerts"):
            for labels, samples in query(url, alert.expr, span).items():
                all_labels = {**dict(labels), **labels_of(alert)}
                found += firings(alert, [at for at, _ in samples], all_labels)
    return sorted(found, key=lambda firing: firing.start_s)


def shown(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def judge(found: Sequence[Firing], incidents: Sequence[Incident]) -> tuple[list[str], list[Firing]]:
    """Incidents that were detected late or never, and alerts that fired without an incident.

    Budgets of the synthetic history are spent in any case: their alerts belong to no incident.
    """
    late = []
    explained: set[int] = set()
    for incident in incidents:
        start = START_S + STEP_S * incident.at
        end = start + STEP_S * incident.minutes
        names = incident.alerts.keys()
        for name, within in incident.alerts.items():
            times = [f.start_s for f in found if f.alert == name and start <= f.start_s]
            if not times or min(times) > start + STEP_S * within:
                took = f"took {(min(times) - start) / STEP_S:.0f}" if times else "never fired"
                late.append(f"{incident.name}: {name} due within {within} minutes, {took}")
        during = [f for f in found if start <= f.start_s <= end and f.alert in names]
        explained |= {id(firing) for firing in during}
    false = [f for f in found if id(f) not in explained and not f.alert.startswith("Budget")]
    false += [f for f in found if f.alert == "BudgetOverrun" and id(f) not in explained]
    return late, false


def of_csv(path: Path) -> tuple[list[Row], tuple[int, int]]:
    """The series of a CSV, and its time span. Raises ReplayError."""
    found: dict[str, dict[float, float]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames is not None and not set(COLUMNS) <= set(rows.fieldnames):
                told = ",".join(rows.fieldnames)
                raise ReplayError(f"{path}:1: the header is {told!r}, not {','.join(COLUMNS)}")
            for row in rows:
                try:
                    add(found, row)
                except ValueError as error:
                    raise ReplayError(f"{path}:{rows.line_num}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReplayError(f"{path} cannot be read: {error}") from error
    if not found:
        raise ReplayError(f"{path} has no samples")
    times = [at for samples in found.values() for at in (min(samples), max(samples))]
    span = (int(min(times)), int(max(times)))
    if span[1] - span[0] > MOST_DAYS * 86_400:
        raise ReplayError(f"{path} covers more than {MOST_DAYS} days: from {span[0]} to {span[1]}")
    return [(name, sorted(samples.items())) for name, samples in found.items()], span


def add(found: dict[str, dict[float, float]], row: Mapping[str, str]) -> None:
    """Add a row. Raises ValueError."""
    if None in (*row, *row.values()):
        raise ValueError(f"a row must have as many values as the header: {','.join(COLUMNS)}")
    series, at, value = row["series"], float(row["time"]), float(row["value"])
    if series not in found and not SERIES.fullmatch(series):
        raise ValueError(f'{series!r} is not a series; write it like up{{job="gateway"}}')
    if not TIMES_S[0] <= at <= TIMES_S[1]:
        raise ValueError(f"{row['time']} is not a time in Unix seconds")
    samples = found.setdefault(series, {})
    before = samples.setdefault(round(at), value)
    if before != value and not (math.isnan(before) and math.isnan(value)):
        raise ValueError(f"{series} has two values at {at:.0f}")


def of_history(history: History) -> Iterator[Row]:
    """The series of the synthetic history."""
    for name, values in history.series():
        yield (
            name,
            [(float(START_S + STEP_S * m), v) for m, v in enumerate(values) if v is not None],
        )


def line(firing: Firing) -> str:
    """One firing as a line of text."""
    when = datetime.fromtimestamp(firing.start_s, UTC).strftime("%Y-%m-%d %H:%M")
    minutes = (firing.end_s - firing.start_s) / STEP_S
    labels = ", ".join(f"{k}={v}" for k, v in sorted(firing.labels.items()) if k != "period_start")
    return f"{when}  {minutes:6.0f} min  {firing.alert}  {labels}"


def report(found: Sequence[Firing], history: History | None, *, as_json: bool) -> int:
    """Print what fires and how it matches the incidents; returns the exit code."""
    late, false = judge(found, history.incidents) if history else ([], [])
    if as_json:
        data: dict[str, object] = {"alerts": [asdict(firing) for firing in found]}
        if history:
            false_alerts = [asdict(firing) for firing in false]
            data |= {
                "incidents": [incident.name for incident in history.incidents],
                "missed": late,
                "false": false_alerts,
            }
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return 1 if late else 0
    print("\n".join(map(line, found)) or "nothing fires")
    if history:
        many = len(history.incidents)
        print(f"\n{many} incidents, {len(late)} missed; {len(false)} false alerts")
        for text in (*late, *(f"false: {line(firing)}" for firing in false)):
            print(text)
    return 1 if late else 0


def arguments() -> argparse.Namespace:
    """Parse the command line; exits with 2 if it is invalid."""
    description, _, codes = (__doc__ or "").strip().rpartition("\n\n")
    parser = argparse.ArgumentParser(description=description.splitlines()[0], epilog=codes)
    parser.add_argument("--csv", type=Path, help="your own history: time,series,value")
    parser.add_argument("--days", type=int, help="length of the synthetic history (30)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic history (1)")
    help_of_set = "override a threshold of prometheus/src/thresholds.py"
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=help_of_set
    )
    parser.add_argument("--json", action="store_true", help="print JSON; times in Unix seconds")
    options = parser.parse_args()
    if options.csv and options.days is not None:
        parser.error("--days cannot be combined with --csv")
    if options.days is None:
        options.days = 30
    if not LEAST_DAYS <= options.days <= MOST_DAYS:
        parser.error(f"--days must be {LEAST_DAYS} to {MOST_DAYS}")
    try:
        options.thresholds = changed(options.set)
    except ValueError as error:
        parser.error(str(error))
    return options


def main() -> int:
    """Replay, report, and fail if an incident of the synthetic history was missed."""
    options = arguments()
    history = None if options.csv else History(options.days, options.seed)
    rows: Iterable[Row]
    try:
        with tempfile.TemporaryDirectory() as folder:
            if history is None:
                rows, span = of_csv(options.csv)
            else:
                rows = of_history(history)
                span = (START_S, START_S + STEP_S * (history.minutes - 1))
            found = replay(rows, span, Path(folder), options.thresholds)
    except ReplayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return report(found, history, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
