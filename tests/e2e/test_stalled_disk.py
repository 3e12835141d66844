"""A gateway whose ledger is on a disk that stops responding, such as a frozen or lost volume."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.support.processes import poll

TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")
IMAGE_BYTES = 64 * 2**20
BODY: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 5,
}


class Disk:
    """A separate file system that can be frozen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._frozen = False

    def freeze(self) -> None:
        """Block every write and fsync from now on."""
        subprocess.run(["fsfreeze", "--freeze", self.folder], check=True)
        self._frozen = True

    def thaw(self) -> None:
        """Let blocked writes continue."""
        if self._frozen:
            subprocess.run(["fsfreeze", "--unfreeze", self.folder], check=True)
            self._frozen = False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A mounted ext4 image; a skip that says why if that is not possible."""
    if os.geteuid() != 0 or not all(map(shutil.which, TOOLS)):
        pytest.skip(f"needs root and {', '.join(TOOLS)}, to freeze a separate file system")
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    disk = Disk(folder)
    try:
        yield disk
    finally:
        disk.thaw()
        subprocess.run(["umount", folder], check=True)


class _Slow(BaseHTTPRequestHandler):
    """Streams a chunk every tenth of a second until the server is told to finish."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One streamed answer."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        finish: threading.Event = self.server.finish  # type: ignore[attr-defined]  # ours, below
        while not finish.wait(0.1):
            self._event('{"choices":[{"index":0,"delta":{"content":"x"}}]}')
        self._event('{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
        self._event('{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":9}}')
        self._event("[DONE]")
        self.close_connection = True

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def slow_provider() -> Iterator[tuple[str, threading.Event]]:
    """A provider whose stream continues until the event is set."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    finish = server.finish = threading.Event()  # type: ignore[attr-defined]  # for the handler
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", finish
    finally:
        finish.set()
        server.shutdown()
        server.server_close()


class Stream:
    """A streamed request, read by a thread."""

    def __init__(self, url: str, key: str) -> None:
        self.lines: list[str] = []
        self._url, self._key = url, key
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with httpx.stream(
            "POST",
            f"{self._url}/v1/chat/completions",
            json={**BODY, "model": "slow", "stream": True, "max_tokens": 100_000},
            headers={"authorization": f"Bearer {self._key}"},
            timeout=60,
        ) as answer:
            for line in answer.iter_lines():
                if line:
                    self.lines.append(line)


def ask(url: str, key: str) -> tuple[int, str]:
    """Status and error code of one request."""
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=60)
    return answer.status_code, answer.text


def ledger_up(url: str) -> bool:
    """The ledger's state on `/metrics`."""
    lines = httpx.get(f"{url}/metrics", timeout=20).text.splitlines()
    return "spanledger_ledger_up 1.0" in lines


def configured(site: Site, disk: Disk, provider: str) -> tuple[str, str]:
    """Two keys, in a ledger on the disk."""
    site.ledger = disk.folder / "ledger.db"
    slow = {
        "model_name": "slow",
        "litellm_params": {
            "model": "openai/gpt-4o-mini",
            "api_base": f"{provider}/v1",
            "api_key": "sk-slow",
        },
    }
    quick = {
        "model_name": "gpt-4o-mini",
        "litellm_params": {
            "model": "openai/gpt-4o-mini",
            "api_base": f"{site.sim_url}/v1",
            "api_key": "sk-sim",
        },
    }
    url = f"sqlite:///{site.ledger}"
    site.configure(
        telemetry={"enabled": False},
        ledger={"lease_s": 3, "url": url},
        model_list=[slow, quick],
        router_settings={},
    )
    ledger = ("--ledger", url)
    site.command("budget", "set", "all", "--limit", "10", *ledger)
    first, second = (
        str(site.command("keys", "create", "--customer", customer, *ledger)["key"])
        for customer in ("acme", "beta")
    )
    return first, second


def test_a_stalled_disk_stops_nobody_who_needs_no_write(site: Site, disk: Disk) -> None:
    """Streams and probes continue; new requests, even with an unknown key, get 503 in time, not only
    when the disk is back; afterwards everything adds up and nothing is held."""
    with slow_provider() as (provider, finish):
        key, unseen = configured(site, disk, provider)
        gateway = site.gateway()
        try:
            url = gateway.url()
            assert ask(url, key)[0] == 200
            stream = Stream(url, key)
            assert poll(lambda: len(stream.lines) > 3)

            disk.freeze()
            seen = len(stream.lines)
            answers: dict[str, tuple[int, str]] = {}
            callers = [
                threading.Thread(target=lambda k=k: answers.update({k: ask(url, k)}), daemon=True)
                for k in (key, unseen)
            ]
            for caller in callers:
                caller.start()
            assert poll(lambda: len(stream.lines) > seen + 10)
            assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
            assert poll(lambda: len(answers) == 2)
            assert {status for status, _ in answers.values()} == {503}
            assert all("ledger_unavailable" in text for _, text in answers.values())
            assert httpx.get(f"{url}/readyz", timeout=20).status_code == 503
            assert not ledger_up(url)
            # Now that the stall is known, nothing waits for the disk anymore, and a stream ends without it.
            assert [ask(url, key)[0] for _ in range(20)] == [503] * 20
            finish.set()
            stream.thread.join(30)
            assert "data: [DONE]" in stream.lines
            assert gateway.output.count(" ERROR ") <= 2, gateway.output

            disk.thaw()
            assert poll(lambda: httpx.get(f"{url}/readyz", timeout=20).status_code == 200)
            assert poll(lambda: ask(url, unseen)[0] == 200)
            assert poll(lambda: ledger_up(url))
        finally:
            disk.thaw()
            assert gateway.stop() == 0
    ledger = ("--ledger", f"sqlite:///{site.ledger}")
    assert site.command("ledger", "verify", *ledger)["ok"]
    (budget,) = site.command("budget", "list", *ledger)
    assert budget["held_usd"] == "0.00"
