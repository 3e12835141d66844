"""Take the two pictures of README.md: the Overview in Grafana, and a trace in the terminal.

    make pictures [STACK=FOLDER]

Starts a stack of its own, runs 17 minutes of traffic with an outage and a customer that uses up its
budget, takes the pictures into docs/images/, and stops the stack. With STACK it uses a stack that is
running and has had its traffic, and leaves it running. It needs Grafana, the programs that `make
toolchain` builds, and Chromium; pngquant keeps the pictures small.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.screenshots import CELL, DASHBOARDS, IMAGES, MissingError, find_browser, take
from tools.terminal_picture import drawn

from spanledger.worker.serve import DAY_S, rhythm

BOARD = "overview"
FIRST_ROW = 1
"""The picture begins with this row of the board: the whole would be taller than a screen."""
WIDTH = 1400
SCALE = 1.5
ROW_TOP = 14
"""Pixels between the grid's place of a row and what is drawn."""
MARGIN = 24
"""Pixels that Grafana leaves around the grid."""
SHOWN_S = 16 * 60
PLAYED_S = 17 * 60
PACE = 3.0
"""Requests a second, whatever the hour."""

LIMITS_USD = {"acme": "1.15", "globex": "0.62", "initech": "0.50"}
RAISED_USD = "0.75"
EVERYBODY_USD = "15"


class Stack:
    """A running stack in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ledger = f"sqlite:///{folder / 'ledger.db'}"
        status = json.loads(ours("stack", "status", "--folder", str(folder), "--json"))
        self._ports = status["ports"]
        if "grafana" not in {part["name"] for part in status["parts"]}:
            raise MissingError("the stack runs without Grafana; see docs/native.md")

    def url(self, part: str) -> str:
        """Where a part is."""
        return f"http://127.0.0.1:{self._ports[part]}"

    def fault(self, **rule: object) -> None:
        """Switch a fault of the simulated providers on."""
        request = urllib.request.Request(  # noqa: S310 - of this machine
            f"{self.url('simulator')}/sim/faults", json.dumps(rule).encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - of this machine

    def budget(self, name: str, *options: str) -> None:
        """Set a budget."""
        ours("budget", "set", name, *options, "--ledger", self.ledger)

    def spike(self, customer: str, rate: float, seconds: int) -> subprocess.Popen[bytes]:
        """More requests of a customer for the larger model, on top of the ordinary traffic."""
        keys = json.loads((self._folder / "keys.json").read_text("utf-8"))
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "spanledger", "worker", "serve", "--quiet"),
                *("--models", "smart", "--for", str(seconds), "--rate", at_any_hour(rate)),
                "--no-telemetry",
            ],
            env={
                **os.environ,
                "OPENAI_BASE_URL": f"{self.url('gateway')}/v1",
                "SPANLEDGER_WORKER_CUSTOMERS": f"{customer}={keys[customer]}",
            },
        )


def main() -> None:
    """Take the pictures, or say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--stack", type=Path, help="folder of a running stack that has had its traffic"
    )
    parser.add_argument("--output", type=Path, default=IMAGES)
    chosen = parser.parse_args()
    try:
        browser = find_browser()
        chosen.output.mkdir(parents=True, exist_ok=True)
        with stack_in(chosen.stack) as stack:
            for picture in (
                *overview(stack, browser, chosen.output),
                terminal(stack, chosen.output),
            ):
                print(f"{picture}  {picture.stat().st_size // 1000} kB")
    except MissingError as missing:
        print(f"no pictures: {missing}", file=sys.stderr)
        raise SystemExit(1) from None


@contextmanager
def stack_in(folder: Path | None) -> Iterator[Stack]:
    """The stack of a folder, or a new one that has had its traffic."""
    if folder:
        yield Stack(folder.resolve())
        return
    with tempfile.TemporaryDirectory() as made:
        own = ("--folder", made)
        try:
            ours("stack", "up", *own, "--port-base", "0", "--rate", at_any_hour(PACE))
            stack = Stack(Path(made))
            play(stack)
            yield stack
        finally:
            ours("stack", "down", *own)


def play(stack: Stack) -> None:
    """Let an ordinary quarter of an hour pass, in which two things happen."""
    stack.budget("everything", "--limit", EVERYBODY_USD)
    for customer, limit in LIMITS_USD.items():
        stack.budget(customer, "--limit", limit)
    stack.fault(wire="openai", fault="500", share=0.02)
    begun = time.monotonic()
    spikes: list[subprocess.Popen[bytes]] = []
    for minute, what, happens in story(stack, spikes):
        time.sleep(max(0.0, begun + minute * 60 - time.monotonic()))
        print(f"minute {minute:>4}: {what}", flush=True)
        happens()
    time.sleep(max(0.0, begun + PLAYED_S - time.monotonic()))
    for spike in spikes:
        spike.wait()


def story(
    stack: Stack, spikes: list[subprocess.Popen[bytes]]
) -> list[tuple[float, str, Callable[[], object]]]:
    """What happens in which minute."""

    def outage() -> None:
        stack.fault(wire="openai", model="gpt-4o", fault="500", share=0.5, for_seconds=160)
        for model in ("gpt-4o", "gpt-4o-mini"):
            stack.fault(wire="openai", model=model, fault="429", share=0.9, for_seconds=160)
        stack.fault(wire="anthropic", fault="529", share=0.3, for_seconds=120)

    return [
        (3.5, "OpenAI fails and limits, Anthropic takes its requests", outage),
        (8.5, "globex sends more", lambda: spikes.append(stack.spike("globex", 1.5, 4 * 60))),
        (13.5, "globex gets a higher limit", lambda: stack.budget("globex", "--limit", RAISED_USD)),
    ]


def overview(stack: Stack, browser: str, output: Path) -> Iterator[Path]:
    """The board as Grafana draws it, in both themes, from `FIRST_ROW` on."""
    panels = json.loads((DASHBOARDS / f"{BOARD}.json").read_text("utf-8"))["panels"]
    rows = [panel["gridPos"]["y"] for panel in panels if panel["type"] == "row"]
    top = CELL * rows[FIRST_ROW] + ROW_TOP
    bottom = MARGIN + CELL * max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
    now = int(time.time())
    query = f"kiosk&from={now - SHOWN_S}000&to={now}000"
    for theme in ("light", "dark"):
        picture = output / f"{BOARD}-{theme}.png"
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "whole.png")
            url = f"{stack.url('grafana')}/d/{BOARD}?{query}&theme={theme}"
            take(browser, url, bottom, whole, width=WIDTH, scale=SCALE)
            page = Path(folder, "page.html")
            page.write_text(
                f'<body style="margin:0;overflow:hidden"><img src="whole.png" width="{WIDTH}"'
                f' style="display:block;margin-top:-{top}px">',
                "utf-8",
            )
            take(browser, page.as_uri(), bottom - top, picture, width=WIDTH, scale=SCALE)
        squeeze(picture)
        yield picture


def squeeze(picture: Path) -> None:
    """Make a picture a third as large, where pngquant is installed; tests allow 300 kB."""
    if program := shutil.which("pngquant"):
        subprocess.run(
            [
                *(program, "--force", "--skip-if-larger", "--speed", "1", "--strip"),
                *("--output", str(picture), "256", str(picture)),
            ],
            check=False,
        )


def terminal(stack: Stack, output: Path) -> Path:
    """What `spanledger trace` prints on a terminal for a request that fell back."""
    picture = output / "trace.svg"
    picture.write_text(
        drawn("trace", fallen_back(stack)[:12], hidden=("--ledger", stack.ledger)), "utf-8"
    )
    return picture


def fallen_back(stack: Stack) -> str:
    """The trace that shows most: streamed, answered by the fallback, after as many attempts as any."""
    newest = json.loads(ours("requests", "-n", "10000", "--json", "--ledger", stack.ledger))
    some = [r for r in newest if r["attempt_count"] > 1 and r["outcome"] == "ok" and r["stream"]]
    some.sort(key=lambda r: (r["attempt_count"], r["cost_usd"]), reverse=True)
    for request in some:
        shown = json.loads(ours("trace", request["trace_id"], "--json", "--ledger", stack.ledger))
        if good(shown[0]["attempts"]):
            return str(request["trace_id"])
    raise MissingError("no request of this stack fell back")


def good(attempts: list[dict[str, Any]]) -> bool:
    """Whether one provider failed, and another answered."""
    return bool(attempts[0]["error_type"]) and attempts[0]["provider"] != attempts[-1]["provider"]


def ours(*arguments: str) -> str:
    """What our command prints into a pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "spanledger", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        what = " ".join(arguments[:2])
        raise MissingError(f"`spanledger {what}` failed: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout


def at_any_hour(pace: float) -> str:
    """The `--rate` that gives a pace at this hour."""
    return f"{pace / rhythm(time.time(), DAY_S):.3f}"


if __name__ == "__main__":
    main()
