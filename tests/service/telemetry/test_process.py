"""The shipper as a real process: killed, stopped, orphaned, and run once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.telemetry.conftest import Book, Ship, until
from tests.support.otlp_sink import OtlpSink, SinkRequest
from tests.support.processes import Child, clean_environment

Start = Callable[..., Child]


@pytest.fixture
def start(book: Book, sink: OtlpSink, tmp_path: Path) -> Iterator[Start]:
    """Start `spanledger ship`; processes still running at the end are killed."""
    children = []

    def run(*arguments: str, endpoint: str = "", **more: str) -> Child:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint or sink.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
            **more,
        }
        child = Child(["ship", "--ledger", book.url, *arguments], tmp_path, environment)
        children.append(child)
        return child

    yield run
    for child in children:
        child.stop()


def test_a_kill_between_export_and_cursor_loses_and_doubles_nothing(
    book: Book, sink: OtlpSink, start: Start, ship: Ship
) -> None:
    """Killed after the collector has the spans but before the cursor moved: the same ids come
    again, and the totals equal the ledger."""
    calls = [book.call(cost=1_000 + number) for number in range(20)]
    victims: list[int] = []

    def kill(request: SinkRequest) -> None:
        if request.spans and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    sink.keep_then = kill
    for _ in range(2):
        child = start()
        victims.append(child.process.pid)
        assert child.process.wait(30) == -signal.SIGKILL
        assert book.cursor == 0
    sink.keep_then = lambda _: None

    assert ship()

    assert len(sink.spans) == 3 * len(sink.by_id()) == 3 * 2 * len(calls)
    assert sink.total("spanledger.cost.usd") == pytest.approx(book.cost_nano / 1e9)
    assert book.counted_nano == book.cost_nano
    assert sink.count("spanledger.request.duration") == len(calls)


def test_sigterm_ships_the_rest_and_ends(book: Book, sink: OtlpSink, start: Start) -> None:
    """The shipper runs until it is stopped, and exits with 0."""
    child = start()
    book.call()
    until(lambda: book.cursor == 2, 30)
    book.call()
    assert child.stop() == 0

    assert book.cursor == book.last_seq == 4
    assert len(sink.by_id()) == 4
    assert sink.count("spanledger.request.duration") == 2
    assert "Traceback" not in child.output


def test_sigterm_is_heeded_while_the_collector_is_away(book: Book, start: Start) -> None:
    """Shutdown does not wait for a collector that never comes back."""
    book.call()
    child = start(endpoint="http://127.0.0.1:9")
    child.wait_for("cannot reach the collector")

    assert child.stop() == 0

    assert book.cursor == 0
    assert "Traceback" not in child.output


def test_shipping_once_tells_whether_all_was_taken(
    book: Book, sink: OtlpSink, start: Start
) -> None:
    """`--once` exits with 1 while the collector rejects data, and with 0 when it has everything."""
    book.call()
    sink.answer = lambda _: 503
    refused = start("--once")
    assert refused.process.wait(30) == 1
    refused.stop()
    assert "did not accept everything" in refused.output

    sink.answer = lambda _: 200
    assert start("--once").process.wait(30) == 0
    assert len(sink.by_id()) == 2


def test_an_orphan_ships_the_rest_and_ends(book: Book, sink: OtlpSink, tmp_path: Path) -> None:
    """A shipper whose gateway was killed ends too."""
    program = textwrap.dedent(
        """
        import os, signal, subprocess, sys
        command = [sys.executable, "-m", "spanledger", "ship", "--parent-pid", str(os.getpid())]
        print(subprocess.Popen([*command, *sys.argv[1:]]).pid, flush=True)
        signal.pause()
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, "--ledger", book.url],
        env={**clean_environment(), "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    book.call()
    until(lambda: book.cursor == 2, 30)
    parent.kill()
    parent.wait()
    parent.stdout.close()

    until(lambda: not is_running(child))


def is_running(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_header_that_cannot_be_read_is_named_and_not_shown(book: Book, start: Start) -> None:
    """`Authorization: Bearer …` is a common mistake, and what follows must not be logged."""
    book.call()
    secret = "Bearer sk-canary-4711"
    child = start("--once", OTEL_EXPORTER_OTLP_HEADERS=f"x-good=1,x-good=2,authorization: {secret}")

    assert child.process.wait(30) == 0
    child.stop()

    assert "OTEL_EXPORTER_OTLP_HEADERS" in child.output
    assert "canary" not in child.output


def test_a_limit_the_sdk_refuses_is_one_clear_line(start: Start) -> None:
    """The variable is read deep in an import; the error says how to fix it."""
    child = start("--once", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="many")

    assert child.process.wait(30) == 1
    child.stop()

    assert child.output.startswith("error: ")
    assert len(child.lines) == 1


def test_a_ledger_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    """The command says what is wrong, without a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "spanledger", "ship", "--ledger", f"sqlite:///{tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
