"""Play the alert rules in a real Prometheus over a history, and say what would have fired when.

The history is a CSV (`time,series,value`, one sample a row, Unix seconds) or days that are made up
(tools/replay_history.py). Recording rules are computed by query over the whole time and stored, alert
expressions queried, and `for` and `keep_firing_for` applied minute by minute as Prometheus does.
"""

from __future__ import annotations

import argparse
import csv
import json
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.generate_rules import changed  # noqa: E402 - as above
from tools.replay_history import DAY, START_S, History, Incident  # noqa: E402 - as above
from tools.toolchain import cache_folder  # noqa: E402 - as above

from prometheus.src import alerts, recording  # noqa: E402 - the root must be on the path first
from prometheus.src.model import Alert, Recording, labels_of  # noqa: E402 - as above
from prometheus.src.thresholds import DEFAULT, Thresholds  # noqa: E402 - as above

STEP_S = 60
MAX_POINTS = 10_000
"""Of a range query; Prometheus takes 11,000."""
READY_S = 60.0
Sample = tuple[float, float]
Row = tuple[str, Sequence[Sample]]


class ReplayError(Exception):
    """A replay that cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One alert from its first minute of firing to its last, Unix seconds."""

    alert: str
    labels: Mapping[str, str]
    start_s: float
    end_s: float


def program(name: str) -> str:
    """A program of the toolchain, or of PATH. Raises ReplayError."""
    built = cache_folder() / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    if not found:
        raise ReplayError(f"there is no {name}: `make toolchain` builds it")
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
        raise ReplayError(f"promtool took no import: {done.stderr.strip()[-500:]}")


@contextmanager
def prometheus(folder: Path, *more: str, settings: str = "{}") -> Iterator[str]:
    """A Prometheus on the database, by its address; ended at the end.

    `more` are flags of its command line, `settings` its configuration.
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


def query(
    url: str, expr: str, span: tuple[int, int]
) -> dict[tuple[tuple[str, str], ...], list[Sample]]:
    """An expression at every step of a time, by labels."""
    found: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for start in range(span[0], span[1] + 1, STEP_S * MAX_POINTS):
        end = min(span[1], start + STEP_S * (MAX_POINTS - 1))
        form = {"query": expr, "start": start, "end": end, "step": STEP_S}
        body = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query_range", body, 300) as answer:  # noqa: S310 - our own loopback
                result = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ReplayError(f"{expr}: {error.read().decode()[:500]}") from error
        for series in result:
            labels = {k: v for k, v in series["metric"].items() if k != "__name__"}
            samples = found.setdefault(tuple(sorted(labels.items())), [])
            samples.extend((float(at), float(value)) for at, value in series["values"])
    for samples in found.values():
        samples.sort()  # of `a or b` each part is a series, by its name
    return found


def layers(rules: Sequence[Recording]) -> list[list[Recording]]:
    """Recording rules by what they rest on: each layer on those before it."""
    left, done, found = list(rules), set[str](), []
    while left:
        names = {rule.record for rule in left}
        layer = [r for r in left if not any(name in r.expr for name in names)]
        if not layer:
            raise ReplayError(f"recording rules rest on each other: {sorted(names)}")
        found.append(layer)
        done |= {rule.record for rule in layer}
        left = [rule for rule in left if rule not in layer]
    return found


def record(url: str, rules: Sequence[Recording], span: tuple[int, int]) -> Iterator[Row]:
    """The series that recording rules make."""
    for rule in rules:
        for labels, samples in query(url, rule.expr, span).items():
            pairs = {**dict(labels), **rule.labels}
            text = ",".join(f"{name}={json.dumps(value)}" for name, value in pairs.items())
            yield f"{rule.record}{{{text}}}", samples


def firings(alert: Alert, active: Sequence[float], labels: Mapping[str, str]) -> Iterator[Firing]:
    """When one series of an alert fires, from the times its expression has it."""
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
    """All that fires over a history, in order of time."""
    store(rows, folder)
    rules = [r for g in recording.groups(t) for r in g.rules if isinstance(r, Recording)]
    for layer in layers(rules):
        with prometheus(folder) as url:
            made = list(record(url, layer, span))
        store(made, folder)
    found: list[Firing] = []
    with prometheus(folder) as url:
        for alert in (r for g in alerts.groups(t) for r in g.rules if isinstance(r, Alert)):
            for labels, samples in query(url, alert.expr, span).items():
                all_labels = {**dict(labels), **labels_of(alert)}
                found += firings(alert, [at for at, _ in samples], all_labels)
    return sorted(found, key=lambda firing: firing.start_s)


def judge(found: Sequence[Firing], incidents: Sequence[Incident]) -> tuple[list[str], list[Firing]]:
    """What was found too late or not at all, and what fired without an incident.

    Budgets of the made-up history are spent as they are: their alerts are no incident's.
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
                took = f"{(min(times) - start) / STEP_S:.0f} minutes" if times else "never"
                late.append(f"{incident.name}: {name} within {within} minutes, was {took}")
        during = [f for f in found if start <= f.start_s <= end and f.alert in names]
        explained |= {id(firing) for firing in during}
    false = [f for f in found if id(f) not in explained and not f.alert.startswith("Budget")]
    false += [f for f in found if f.alert == "BudgetOverrun" and id(f) not in explained]
    return late, false


def of_csv(path: Path) -> tuple[list[Row], tuple[int, int]]:
    """The series of a CSV, and its time."""
    found: dict[str, list[Sample]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                sample = (float(row["time"]), float(row["value"]))
            except (KeyError, TypeError, ValueError) as error:
                raise ReplayError(f"{path}:{number}: needs time,series,value: {error}") from error
            found.setdefault(row["series"], []).append(sample)
    if not found:
        raise ReplayError(f"{path} has no samples")
    for samples in found.values():
        samples.sort()
    times = [at for samples in found.values() for at in (samples[0][0], samples[-1][0])]
    return list(found.items()), (int(min(times)), int(max(times)))


def of_history(history: History) -> Iterator[Row]:
    """The series of made-up days."""
    for name, values in history.series():
        yield (
            name,
            [(float(START_S + STEP_S * m), v) for m, v in enumerate(values) if v is not None],
        )


def line(firing: Firing) -> str:
    """One alert for a reader."""
    when = datetime.fromtimestamp(firing.start_s, UTC).strftime("%Y-%m-%d %H:%M")
    minutes = (firing.end_s - firing.start_s) / STEP_S
    labels = ", ".join(f"{k}={v}" for k, v in sorted(firing.labels.items()) if k != "period_start")
    return f"{when}  {minutes:6.0f} min  {firing.alert}  {labels}"


def main() -> int:
    """Replay, print, and fail if an incident of the made-up history was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--csv", type=Path, help="a history of your own: time,series,value")
    parser.add_argument("--days", type=int, default=30, help="made-up days, without --csv")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    thresholds = changed(options.set) if options.set else DEFAULT
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.csv:
                rows, span = of_csv(options.csv)
                found = replay(rows, span, Path(folder), thresholds)
                print("\n".join(map(line, found)) or "nothing fires")
                return 0
            history = History(options.days, options.seed)
            span = (START_S, START_S + STEP_S * (options.days * DAY - 1))
            found = replay(of_history(history), span, Path(folder), thresholds)
    except ReplayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    late, false = judge(found, history.incidents)
    print("\n".join(map(line, found)))
    print(f"\n{len(history.incidents)} incidents, {len(late)} missed; {len(false)} false alerts")
    print("\n".join([*late, *(f"false: {line(firing)}" for firing in false)]))
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
