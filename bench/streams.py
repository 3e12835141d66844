"""CPU per chunk of a stream: spanledger's gateway and LiteLLM's proxy, alternating in one run.

Many streams at the pace of a model run through each server, set up as in `bench.run`. The result is the
CPU time of its process tree, shipper included, divided by the chunks that arrived; the start and end
of the streams are in it. The time to the first chunk is compared with that of the provider itself.
At the end, far more streams are read at once, and every chunk of each has to arrive in order. With
`--against`, the gateway of another checkout takes the place of LiteLLM's proxy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.ends import Upstream
from bench.processes import OTHER_CORE, Footprint, fetch, free_port, pinned, server
from bench.report import machine, markdown, ratios, table, write_section
from bench.subjects import AGAINST, ROOT, Subject, subjects_of

LOSSLESS_CHUNKS, LOSSLESS_RATE = 50, 5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client of one round saw, as `bench.paced` prints it."""

    chunks: int
    lost: int
    seconds: float
    first_ms: float


@dataclass(slots=True)
class Lane:
    """A server, and what was measured at it."""

    subject: Subject
    requests: int = 0
    cpu_us: list[float] = field(default_factory=list)
    """CPU per chunk, one figure for each round."""
    rounds: list[Seen] = field(default_factory=list)
    added_ms: list[float] = field(default_factory=list)
    """What the server adds to the time to the first chunk."""
    lossless: Seen | None = None


def main() -> None:
    """Measure, print a table or `--json`, and update the page if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each server (3)")
    parser.add_argument("--streams", type=int, default=64, help="streams at once (64)")
    parser.add_argument("--chunks", type=int, default=500, help="chunks of each stream (500)")
    parser.add_argument("--rate", type=int, default=100, help="chunks of a stream a second (100)")
    parser.add_argument("--lossless", type=int, default=512, help="streams of the last round (512)")
    parser.add_argument("--no-litellm", action="store_true", help="measure only spanledger")
    parser.add_argument("--against", default="", metavar="PYTHON", help=AGAINST)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--write", action="store_true", help="also update docs/performance.md")
    options = parser.parse_args()
    size = (options.streams, options.chunks, options.rate)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        command = [sys.executable, "-m", "bench.paced", "serve", str(port)]
        provider = stack.enter_context(server(command, OTHER_CORE, {"PYTHONPATH": str(ROOT)}))
        url = f"http://127.0.0.1:{port}/ready"
        provider.wait_for(lambda: fetch(url) is not None, "the provider", 20)
        upstream = Upstream("asyncio", port, lambda: 0)
        found = subjects_of(work, upstream, options.against, with_litellm=not options.no_litellm)
        lanes = [Lane(stack.enter_context(subject)) for subject in found]
        for lane in lanes:  # warm-up
            drive(lane.subject.port, lane.subject.key, (4, 50, 100))
            lane.requests += 4
        for number in range(options.rounds):
            direct = drive(port, "x", size)
            for lane in lanes:
                measure(lane, size, direct)
                sys.stderr.write(
                    f"round {number + 1}: {lane.subject.name} {lane.cpu_us[-1]:,.1f} CPU-µs\n"
                )
        for lane in lanes:
            many = (options.lossless, LOSSLESS_CHUNKS, LOSSLESS_RATE)
            lane.lossless = drive(lane.subject.port, lane.subject.key, many)
            lane.subject.verify()
    report(lanes, size, options)


def drive(port: int, key: str, size: tuple[int, int, int]) -> Seen:
    """Read streams in a process of its own."""
    words = [sys.executable, "-m", "bench.paced", "read", str(port), key, *map(str, size)]
    ended = subprocess.run(
        [*pinned(OTHER_CORE), *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return Seen(**json.loads(ended.stdout))


def measure(lane: Lane, size: tuple[int, int, int], direct: Seen) -> None:
    """One round: read the streams, wait until all resulting work is done, count."""
    subject = lane.subject
    before = sum(Footprint.of(subject.server.pid).cpu_us.values())
    seen = drive(subject.port, subject.key, size)
    if seen.lost:
        raise SystemExit(f"{subject.name}: {seen.lost} of {size[0]} streams were not complete")
    lane.requests += size[0]
    subject.server.wait_for(lambda: subject.settled(lane.requests), "the last span")
    spent = sum(Footprint.of(subject.server.pid).cpu_us.values()) - before
    lane.cpu_us.append(spent / seen.chunks)
    lane.rounds.append(seen)
    lane.added_ms.append(seen.first_ms - direct.first_ms)


def rows(lanes: list[Lane], streams: int) -> list[tuple[str, ...]]:
    """The table, header first."""

    def line(what: str, of: list[str]) -> tuple[str, ...]:
        return (what, *of)

    return [
        line("", [lane.subject.name for lane in lanes]),
        line("CPU-µs a chunk", [f"{statistics.median(lane.cpu_us):,.1f}" for lane in lanes]),
        line("its rounds", [", ".join(f"{us:,.1f}" for us in lane.cpu_us) for lane in lanes]),
        line("chunks a second", [f"{_rate(lane):,.0f}" for lane in lanes]),
        line(
            "ms added to the first chunk",
            [f"{statistics.median(lane.added_ms):,.1f}" for lane in lanes],
        ),
        line(
            f"incomplete of {streams} streams at once",
            [str(lane.lossless.lost) if lane.lossless else "" for lane in lanes],
        ),
    ]


def _rate(lane: Lane) -> float:
    return statistics.median(seen.chunks / seen.seconds for seen in lane.rounds)


def report(lanes: list[Lane], size: tuple[int, int, int], options: argparse.Namespace) -> None:
    """Print the figures, and write them to the page."""
    found = rows(lanes, options.lossless)
    streams, chunks, rate = size
    load = f"{streams} streams of {chunks} chunks, {rate} a second each"
    said = ""
    if options.against:
        said = f"{ratios(*(lane.cpu_us for lane in lanes))} the CPU-µs of {lanes[1].subject.name}."
    if options.write:
        where = "; ".join(f"{name} {value}" for name, value in machine().items())
        text = "\n\n".join(filter(None, (markdown(found), said, f"Measured with {load}; {where}.")))
        write_section("streams against" if options.against else "streams", text)
    if not options.json:
        print(table(found))
        print(said)
        return
    print(
        json.dumps(
            {
                "load": load,
                "conditions": machine(),
                "subjects": [
                    {
                        "name": lane.subject.name,
                        "cpu_us_per_chunk": lane.cpu_us,
                        "added_ms": lane.added_ms,
                        "rounds": [asdict(seen) for seen in lane.rounds],
                        "lossless": asdict(lane.lossless) if lane.lossless else None,
                    }
                    for lane in lanes
                ],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
