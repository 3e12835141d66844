"""CPU per non-streaming request: spanledger's gateway and LiteLLM's proxy, alternating in one run.

spanledger runs as in production: a virtual key, a durable ledger, two budgets on every request, every
span and metric shipped; the shipper's CPU is counted until the last span has been sent. LiteLLM's
proxy runs one worker without a database, its simplest setup. The result is the CPU time of the process
trees divided by the requests the provider answered. With `--against`, the gateway of another checkout
takes the place of LiteLLM's proxy. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.ends import Upstream, client_name, load, upstream
from bench.processes import Footprint
from bench.report import Result, Round, as_dict, conclusion, machine, rows, table, write_page
from bench.subjects import AGAINST, Subject, subjects_of

WARM_UP_S = 3


@dataclass(slots=True)
class Track:
    """A subject and its measurements."""

    subject: Subject
    requests: int = 0
    rounds: list[Round] = field(default_factory=list)
    alone: list[Round] = field(default_factory=list)
    """The same with one connection: each request waits for the one before."""


def main() -> None:
    """Measure, print a table or `--json`, and update the page if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each server (3)")
    parser.add_argument(
        "--seconds", type=int, default=10, help="seconds of each load in each round (10)"
    )
    parser.add_argument("--concurrency", type=int, default=16, help="open connections (16)")
    parser.add_argument("--no-litellm", action="store_true", help="measure only spanledger")
    parser.add_argument("--against", default="", metavar="PYTHON", help=AGAINST)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--write", action="store_true", help="also update docs/performance.md")
    options = parser.parse_args()
    conditions = {**machine(), "load": "", "provider": ""}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(upstream())
        found = subjects_of(work, provider, options.against, with_litellm=not options.no_litellm)
        tracks = [Track(stack.enter_context(subject)) for subject in found]
        for track in tracks:
            measure(track, provider, WARM_UP_S, options.concurrency)
        for number in range(options.rounds):
            for track in tracks:
                among = measure(track, provider, options.seconds, options.concurrency)
                alone = measure(track, provider, options.seconds, 1)
                track.rounds.append(among)
                track.alone.append(alone)
                sys.stderr.write(
                    f"round {number + 1}: {track.subject.name} {among.cpu_us_per_request:,.0f}"
                    f" CPU-µs, alone {alone.cpu_us_per_request:,.0f}\n"
                )
        for track in tracks:
            track.subject.verify()
        conditions["load"] = f"{client_name()}, {options.concurrency} connections"
        conditions["provider"] = f"{provider.name} with one fixed answer"
    results = [
        Result(t.subject.name, t.subject.ready_s, tuple(t.rounds), tuple(t.alone)) for t in tracks
    ]
    if options.write:
        write_page(results, conditions, "against" if options.against else "bench")
    if options.json:
        print(json.dumps(as_dict(results, conditions), indent=2, ensure_ascii=False))
    else:
        print(table(rows(results)))
        print(conclusion(results))


def measure(track: Track, provider: Upstream, seconds: int, concurrency: int) -> Round:
    """One round: apply load, wait until all resulting work is done, count."""
    subject = track.subject
    hits, before = provider.hits(), Footprint.of(subject.server.pid)
    seen = load(subject.port, subject.key, seconds, concurrency)
    if seen.failed or not seen.requests:
        raise SystemExit(f"{subject.name}: {seen.failed} of {seen.requests} requests failed")
    answered = settled_hits(provider) - hits
    track.requests += answered
    subject.server.wait_for(lambda: subject.settled(track.requests), "the last span")
    after = Footprint.of(subject.server.pid)
    spent = {role: us - before.cpu_us.get(role, 0.0) for role, us in after.cpu_us.items()}
    return Round(
        requests=answered,
        cpu_us={role: us / answered for role, us in spent.items()},
        requests_per_second=seen.requests / seen.seconds,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
        resident_mb=after.resident_mb,
    )


def settled_hits(provider: Upstream) -> int:
    """The provider's count once the requests still in flight at the end are answered."""
    hits, deadline = -1, time.monotonic() + 30
    while (now := provider.hits()) != hits and time.monotonic() < deadline:
        hits = now
        time.sleep(0.5)
    return hits


if __name__ == "__main__":
    main()
