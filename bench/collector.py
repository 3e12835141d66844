"""CPU time of the collector and of the shipper for one request, and what the collector holds in memory.

A gateway writes real rows; `spanledger ship --once` sends them through the stack's own configuration of
the collector, whose Tempo and Prometheus are sinks of ours. A first ledger warms both up.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.processes import Footprint
from bench.report import machine
from bench.shipper_lane import write_ledgers
from bench.subjects import SPANS_PER_REQUEST
from tests.support.collector import Backends, Collector
from tests.support.processes import poll

FEW, MANY = 1_024, 5_120
ARRIVE_S = 300.0
"""How long the last span may take to arrive on a busy machine."""


def ship(ledger: Path, collector: Collector) -> float:
    """Send a ledger; returns the shipper's CPU seconds."""
    program = [sys.executable, "-m", "spanledger", "ship", "--once"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*program, "--ledger", f"sqlite:///{ledger}"],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http},
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def arrived(backends: Backends, requests: int) -> None:
    """Wait until all spans are there. Raises SystemExit if they are not."""
    wanted = requests * SPANS_PER_REQUEST
    if not poll(lambda: len(backends.tempo.spans) >= wanted, ARRIVE_S, every_s=0.2):
        raise SystemExit(f"error: {len(backends.tempo.spans)} of {wanted} spans arrived")


def used_us(collector: Collector) -> float:
    """The collector's CPU time so far, microseconds."""
    assert collector.process is not None
    return sum(Footprint.of(collector.process.pid).cpu_us.values())


def main() -> None:
    """Run the measurement and print it."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as name:
        folder = Path(name)
        ledgers = [folder / f"{requests}.db" for requests in (FEW, MANY)]
        write_ledgers(sys.executable, folder, ledgers)
        with Backends() as backends, Collector(folder, env=backends.env) as collector:
            shippers, collectors = [], [used_us(collector)]
            total = 0
            for ledger in ledgers:
                shippers.append(ship(ledger, collector))
                total += int(ledger.stem)
                arrived(backends, total)
                collectors.append(used_us(collector))
            assert collector.process is not None
            resident_mb = Footprint.of(collector.process.pid).resident_mb
    more = MANY - FEW
    print(f"collector: {(collectors[2] - collectors[1]) / MANY:.0f} CPU-µs a request")
    print(f"shipper: {(shippers[1] - shippers[0]) / more * 1e6:.0f} CPU-µs a request")
    print(f"collector: {resident_mb:.0f} MB resident")
    print("; ".join(f"{name} {value}" for name, value in machine().items() if name != "cores"))


if __name__ == "__main__":
    main()
