"""An installation of the stack as users have it: a clone, with `docker compose` and `make` run in it.

Every service publishes on 127.0.0.1 of the engine's own network, where these tests run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import clean_environment, poll

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
VISIBLE_S = 20.0
"""How long the first request may take to become visible in a stack that has just started."""
KEEPER = os.environ.get("SPANLEDGER_ENGINE", "")
LONG_RUNNING = ("gateway", "sim", "worker", "collector", "tempo", "prometheus", "grafana")


def clone(folder: Path, umask: int = 0o022) -> Path:
    """The files of a clone of this checkout, with the modes that a umask gives them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for path in (folder, *folder.rglob("*")):
        mode = 0o777 if path.is_dir() or os.access(path, os.X_OK) else 0o666
        path.chmod((mode if path.is_dir() or path.stat().st_mode & 0o100 else 0o666) & ~umask)
    return folder


@dataclass(slots=True)
class Done:
    """A finished command."""

    status: int
    said: str
    """Its stdout and stderr."""

    def well(self) -> str:
        """Its output; fails the test if the command failed."""
        assert self.status == 0, self.said
        return self.said


class Installation:
    """A clone and the stack that runs from it."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.http = httpx.Client(trust_env=False, timeout=10)
        self.url = "http://127.0.0.1:4000"
        """Where requests are sent."""
        self._env = {**clean_environment(), **(env or {})}

    def run(self, *words: str, timeout_s: float = 600) -> Done:
        """Run a command in the clone's folder."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout)

    def compose(self, *words: str) -> Done:
        """Run `docker compose …`."""
        return self.run("docker", "compose", *words)

    def spanledger(self, *words: str) -> Any:
        """Run a command in the gateway's container; returns its JSON output."""
        inside = ("exec", "-T", "gateway", "spanledger", *words, "--json")
        return json.loads(self.compose(*inside).well())

    def ids(self) -> dict[str, str]:
        """Container ids of the long-running services, by service."""
        words = ("ps", "--format", "{{.Service}} {{.ID}}")
        pairs = (line.split() for line in self.compose(*words).well().splitlines())
        return {service: found for service, found in pairs if service in LONG_RUNNING}

    def inspect(self, service: str) -> dict[str, Any]:
        """The engine's description of a service's container."""
        name = self.compose("ps", "--all", "--quiet", service).well().strip()
        (found,) = json.loads(self.run("docker", "inspect", name).well())
        return dict(found)

    def logs(self, *services: str) -> str:
        """The logs of services."""
        return self.compose("logs", "--no-color", "--no-log-prefix", *services).well()

    def ask(self, key: str, text: str = "hello") -> httpx.Response:
        """Send a chat request."""
        return self.http.post(
            f"{self.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={
                "model": "fast",
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 9,
            },
        )

    def key(self, customer: str) -> str:
        """Create a key for a customer."""
        return str(self.spanledger("keys", "create", "--customer", customer)["key"])

    def query(self, expression: str) -> float:
        """The sum of an expression's results in Prometheus; 0 while it is unreachable."""
        try:
            answer = self.http.get(
                "http://127.0.0.1:9090/api/v1/query", params={"query": f"sum({expression})"}
            )
        except httpx.TransportError:
            return 0.0
        if answer.status_code != 200:
            return 0.0
        return sum(float(one["value"][1]) for one in answer.json()["data"]["result"])

    def spend(self, customer: str) -> float:
        """A customer's spend according to Prometheus."""
        return self.query(f'spanledger_cost_usd_total{{spanledger_customer="{customer}"}}')

    def is_ready(self, url: str = "http://127.0.0.1:4000/readyz") -> bool:
        """Whether the gateway, or another URL, answers 200."""
        try:
            return self.http.get(url).status_code == 200
        except httpx.TransportError:
            return False

    def is_running(self, services: Sequence[str] = LONG_RUNNING) -> bool:
        """Whether services are running, and healthy if they have a health check."""
        words = ("ps", "--format", "{{.Service}} {{.State}} {{.Health}}")
        lines = [line.split() for line in self.compose(*words).said.splitlines()]
        well = {words[0] for words in lines if words[1:] in (["running"], ["running", "healthy"])}
        return set(services) <= well

    def comes_up(self, services: Sequence[str] = LONG_RUNNING) -> None:
        """Wait until services are running."""
        assert poll(lambda: self.is_running(services), READY_S, every_s=0.5), self.compose(
            "ps", "--all"
        ).said

    def kill(self, service: str) -> None:
        """Kill a container's first process as the kernel would, without the engine's knowledge."""
        pid = self.inspect(service)["State"]["Pid"]
        inside("kill", "-KILL", str(pid))

    def close(self) -> None:
        """Remove containers, networks and volumes, also those of layers that `.env` does not name yet."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "3")
        ours = json.loads(self.compose("config", "--format", "json").well())["name"]
        which = f"label=com.docker.compose.project={ours}"
        for volume in self.run("docker", "volume", "ls", "-q", "--filter", which).well().split():
            self.run("docker", "volume", "rm", "--force", volume).well()
        self.http.close()


def inside(*words: str) -> str:
    """Run a command among the engine's own processes."""
    enter = ["nsenter", f"--target={KEEPER}", "--mount", "--pid"]
    return subprocess.run([*enter, *words], capture_output=True, text=True, check=True).stdout
