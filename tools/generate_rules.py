"""Write the rules for Prometheus and for Grafana's alerting from prometheus/src.

`--check` writes nothing and fails if a file is out of date. `--set name=value` and `--out FOLDER`
write your own set, to be tested with tools/replay_alerts.py. `--speed N` writes one in which every
duration is N times shorter, for `spanledger stack up --rules FOLDER`.
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

CONFIGURATION = "prometheus/prometheus.yml"


def changed(settings: list[str]) -> Thresholds:
    """The thresholds with those from the command line. Raises ValueError."""
    values: dict[str, float | int] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if not isinstance(old := getattr(DEFAULT, name, None), int | float):
            raise ValueError(f"prometheus/src/thresholds.py has no number {name!r}")
        try:
            values[name] = type(old)(text)
        except ValueError:
            raise ValueError(f"--set {setting}: {name} must be a number, such as {old}") from None
    return dataclasses.replace(DEFAULT, **values)  # type: ignore[arg-type]  # checked above


def main() -> None:
    """Write the files, or with `--check` compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write under")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a threshold; can be repeated",
    )
    parser.add_argument(
        "--speed", type=float, default=1, help="divide every duration by this number"
    )
    options = parser.parse_args()
    if options.speed < 1:
        raise SystemExit("error: --speed must be 1 or more")
    if options.speed > 1 and options.out == ROOT:
        raise SystemExit("error: --speed needs --out FOLDER: such rules are only for experiments")
    try:
        made = render.files(changed(options.set), options.speed)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    if options.speed > 1:
        made[CONFIGURATION] = render.configuration(
            (ROOT / CONFIGURATION).read_text(encoding="utf-8"), options.speed
        )
    for name, text in made.items():
        target = options.out / name
        if not options.check:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        elif not target.is_file() or target.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{name} is out of date: run `make generate` and commit it")
    if options.out != ROOT:
        print(f"wrote {len(made)} files to {options.out}")


if __name__ == "__main__":
    main()
