"""Proves the ledger's promises by seeds. Exit code 1: a promise was broken.

    python -m tests.prove storm --store sqlite --seeds 1000 --minutes 10

Without a scenario, each runs for a part of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from tests.prove.clocks import Clocks
from tests.prove.crowd import Crowd
from tests.prove.hours import Hours
from tests.prove.kills import Kills
from tests.prove.outages import BadNetwork, Failovers, ServerKills
from tests.prove.proof import Report, Scenario, prove
from tests.prove.soak import Soak
from tests.prove.stateful import Stateful
from tests.prove.storm import Storm

SCENARIOS: dict[str, Callable[[str], Scenario]] = {
    "storm": Storm,
    "crowd": Crowd,
    "kills": Kills,
    "clocks": Clocks,
    "hours": Hours,
    "stateful": Stateful,
    "server-kills": ServerKills,
    "failover": Failovers,
    "proxy": BadNetwork,
    "soak": Soak,
}

STORES = ("sqlite", "postgres")
ON_SERVERS = ("server-kills", "failover", "proxy")


def main() -> int:
    """Run what is asked for; returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    asked.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], default=[])
    asked.add_argument("--store", choices=STORES, default=STORES[0])
    asked.add_argument("--seeds", type=int, default=1_000)
    asked.add_argument("--first", type=int, default=1, help="the first seed")
    asked.add_argument("--minutes", type=float, default=10.0, help="stop after this long")
    asked.add_argument("--json", action="store_true", help="print the results as JSON")
    options = asked.parse_args()
    alone = () if options.store == "postgres" else ON_SERVERS
    names = options.scenario or [name for name in SCENARIOS if name not in alone]
    reports = []
    for name in names:
        reports.append(
            prove(
                lambda name=name: SCENARIOS[name](options.store),  # type: ignore[misc]  # its default
                Report(name, options.store, options.first),
                options.seeds,
                seconds=60 * options.minutes / len(names),
                say=_say,
            )
        )
        if not options.json:
            print(reports[-1].line(), flush=True)
    if options.json:
        print(json.dumps([report.json() for report in reports], indent=1))
    for report in reports:
        for failure in report.failures:
            _say(f"\nseed {failure.seed}: {failure.text}")
            _say(f"  again: {failure.repeat}")
            _say(f"  its files: {failure.kept}")
    return int(any(report.failures for report in reports))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
