"""Asks a gateway at random, and says whether every hold covered its bill.

python -m tests.bounds.prove --requests 10000 --seed 1 [--wire chat …] [--strict] [--show]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bounds.site import WIRES, Result, Trial, running_trial

SHOWN = 5
BODY_CHARACTERS = 3_000


def main() -> int:
    """The exit code: 1 if a hold was too low, a cost wrong or a budget overrun."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--requests", type=int, default=10_000, help="of each wire")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--wire", action="append", choices=list(WIRES), default=None)
    asked.add_argument(
        "--strict", action="store_true", help="every request is under a strict budget"
    )
    asked.add_argument("--show", action="store_true", help="also what was refused, and why")
    options = asked.parse_args()
    failed = False
    for name in options.wire or WIRES:
        with (
            tempfile.TemporaryDirectory() as folder,
            running_trial(Path(folder), strict=options.strict) as trial,
        ):
            result = trial.run(name, options.requests, options.seed)
            print(result.text(), flush=True)
            if options.show:
                for message, count in result.refusals.most_common(40):
                    print(f"    {count:5}  {message}")
            failed = _report(trial, result) or failed
    return int(failed)


def _report(trial: Trial, result: Result) -> bool:
    """Print what is wrong; whether anything is."""
    found = result.under + result.differences + result.overruns + result.beyond
    found += trial.problems()
    for said in found[:SHOWN]:
        body = trial.body_of(said).decode(errors="replace")
        print(f"  {said}\n    {body[:BODY_CHARACTERS]}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
