"""`spanledger sim` as users start it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest
from typer import Typer
from typer.testing import CliRunner

from spanledger.commands.sim import sim as command
from tests.support.processes import Child


def serve(tmp_path: Path, *arguments: str) -> Child:
    """The command in a separate process."""
    return Child(["sim", "--port", "0", *arguments], tmp_path, {})


def test_it_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """It prints its address when ready, answers, logs calls, and stops while a call hangs."""
    prices = tmp_path / "prices.json"
    prices.write_text('{"mine": {"input": 1000}}', "utf-8")
    child = serve(tmp_path, "--speed", "0", "--seed", "7", "--prices", str(prices), "--json-logs")
    try:
        url = child.url()
        with httpx.Client(base_url=url, headers={"authorization": "Bearer k"}) as web:
            health = web.get("/healthz").json()
            body = {"model": "mine", "messages": [{"role": "user", "content": "abcd"}]}
            web.post("/v1/chat/completions", json=body).raise_for_status()
            entry = json.loads(child.wait_for('"outcome"'))
            streamed: list[str] = []
            cut = {**body, "model": "mine!cut:5", "stream": True}
            with (
                pytest.raises(httpx.RemoteProtocolError),
                web.stream("POST", "/v1/chat/completions", json=cut) as answer,
            ):
                streamed.extend(answer.iter_lines())
            with pytest.raises(httpx.ReadError):
                web.post("/v1/chat/completions", json={**body, "model": "x!reset"})
            with pytest.raises(httpx.ReadTimeout):
                web.post("/v1/chat/completions", json={**body, "model": "x!timeout"}, timeout=1.0)
    finally:
        child.stop()

    assert (health["seed"], health["speed"]) == (7, 0)
    assert (entry["model"], entry["nano_usd"]) == ("mine", 4)
    assert sum('"delta":{"content":' in line for line in streamed) == 5
    assert "Traceback" not in child.output


def invoke(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the command in this process."""
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    """A taken port and unreadable prices say what is wrong, without a traceback."""
    broken = tmp_path / "prices.json"
    broken.write_text('{"m": {"input": -1}}', "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = invoke("--port", str(taken.getsockname()[1]))
    wrong = invoke("--port", "0", "--prices", str(broken))
    missing = invoke("--port", "0", "--prices", str(tmp_path / "none.json"))

    for code, output in (busy, wrong, missing):
        assert code == 1
        assert output.startswith("error: ")
        assert len(output.splitlines()) == 1
    assert "pico-USD" in wrong[1]
