"""Turns a month of `bench/month.py` into a Prometheus database with promtool, including the rules' own series."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise, repeat
from pathlib import Path

from bench.month import DAY_S, Month, Size
from tools.replay_alerts import layers, program, prometheus, record, store

from prometheus.src import alerts, recording
from prometheus.src.model import Recording
from prometheus.src.thresholds import DEFAULT

BLOCK_S = 18 * 3600
RECENT_BLOCK_S = 2 * 3600
"""Lengths of Prometheus blocks, chosen so that a text is about a gigabyte."""
REMEMBERED_S = 8 * DAY_S
"""How far back a rule reads series recorded by rules, at most: a week, offset by a day."""
RECENT_S = 600
FLAGS = (
    "--storage.tsdb.min-block-duration=2h",
    f"--storage.tsdb.max-block-duration={BLOCK_S // 3600}h",
)
"""Keeps Prometheus from changing the blocks."""
NOTE = "month.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """A database and its contents."""

    folder: Path
    end_s: int
    samples: int


def stored(folder: Path, size: Size) -> Stored:
    """The month in this directory; built if missing."""
    note = folder / NOTE
    wanted = {**asdict(size), "whole": sorted(size.whole)}
    if note.exists():
        found = json.loads(note.read_text("utf-8"))
        if found["size"] == wanted:
            return Stored(folder, found["end_s"], found["samples"])
        raise SystemExit(f"{folder} contains another month: use another directory, or remove it")
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty and does not contain a month")
    folder.mkdir(parents=True, exist_ok=True)
    end_s = int(time.time()) // 60 * 60
    samples = _import(Month(end_s - size.days * DAY_S, size), folder, end_s)
    _play(folder, end_s)
    said = {"size": wanted, "end_s": end_s, "samples": samples}
    note.write_text(json.dumps(said), "utf-8")
    return Stored(folder, end_s, samples)


def _import(month: Month, folder: Path, end_s: int) -> int:
    """Import all samples except those of rules; returns their number."""
    parts = list(pairwise(_edges(month.start_s, month.recent_s, end_s)))
    samples = 0
    with ProcessPoolExecutor(2) as pool:
        done = pool.map(_part, repeat(month), repeat(folder), parts)
        for number, found in enumerate(done, start=1):
            samples += found
            _tell(f"part {number} of {len(parts)}: {samples:,} samples")
    return samples


def _edges(start_s: int, recent_s: int, end_s: int) -> list[int]:
    """Where the texts begin and end: at block boundaries, closer together where samples are denser."""
    early = range(start_s // BLOCK_S * BLOCK_S + BLOCK_S, recent_s, BLOCK_S)
    late = range(
        recent_s // RECENT_BLOCK_S * RECENT_BLOCK_S + RECENT_BLOCK_S, end_s, RECENT_BLOCK_S
    )
    return [start_s, *early, *late, end_s]


def _part(month: Month, folder: Path, span: tuple[int, int]) -> int:
    text = folder / f"{span[0]}.txt"
    with text.open("w", encoding="utf-8") as out:
        samples = month.write(out, *span)
    command = (program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet")
    more = (f"--max-block-duration={BLOCK_S // 3600}h", str(text), str(folder / "data"))
    subprocess.run([*command, *more], check=True)
    text.unlink()
    return samples


def _play(folder: Path, end_s: int) -> None:
    """Import what the rules would have recorded: as far back as other rules look, else a short time."""
    rules = [r for g in recording.groups(DEFAULT) for r in g.rules if isinstance(r, Recording)]
    looked_back = looked_back_at(rules)
    for number, layer in enumerate(layers(rules), start=1):
        _tell(f"rules that rest on {number - 1} others: {len(layer)}")
        with prometheus(folder, *FLAGS) as url:
            made = list(_recorded(url, layer, looked_back, end_s))
        store(made, folder)


def _recorded(
    url: str, layer: list[Recording], looked_back: set[str], end_s: int
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    for rule in layer:
        since_s = end_s - (REMEMBERED_S if rule.record in looked_back else RECENT_S)
        for name, samples in record(url, [rule], (since_s, end_s - 60)):
            yield name, list(samples)


def looked_back_at(rules: Iterable[Recording]) -> set[str]:
    """Names that rules record and that a rule reads over a window or at an earlier time."""
    exprs = [rule.expr for rule in rules]
    exprs += [rule.expr for group in alerts.groups(DEFAULT) for rule in group.rules]
    names = {rule.record for rule in rules}
    windows = {
        name: re.compile(re.escape(name) + r"(?:\{[^}]*\})?(?:\[| offset)") for name in names
    }
    return {name for name in names if any(windows[name].search(expr) for expr in exprs)}


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
