"""Write the rules of Prometheus and Grafana's alerting from prometheus/src.

`--check` writes nothing and fails when a file is not what would be written. `--set name=value`
and `--out FOLDER` make a set of your own, to be tried with tools/replay_alerts.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from prometheus.src import render  # noqa: E402 - the project's root must be on the path first
from prometheus.src.thresholds import DEFAULT, Thresholds  # noqa: E402 - as above


def changed(settings: list[str]) -> Thresholds:
    """The thresholds with some set from the command line."""
    values: dict[str, float | int] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if not isinstance(old := getattr(DEFAULT, name, None), int | float):
            raise SystemExit(f"error: no number {name!r} in prometheus/src/thresholds.py")
        values[name] = type(old)(text)
    return dataclasses.replace(DEFAULT, **values)  # type: ignore[arg-type]  # checked above


def main() -> None:
    """Write the files, or with `--check` compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write under")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    for name, text in render.files(changed(options.set)).items():
        target = options.out / name
        if not options.check:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        elif not target.is_file() or target.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{name} is out of date: run `make generate` and commit it")


if __name__ == "__main__":
    main()
