"""Drives the compose stack for make: start and wait, stop, follow the logs.

    compose.py up|down|logs|check [--layer NAME]…

`docker compose` alone does the same. What this adds: it says what is wrong before anything starts, it
notices files that were edited, and it waits by asking the published ports, as the stack's users do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.stack_files import DEMO, REAL, digests  # noqa: E402 - found by the line above

BASE = "docker-compose.yml"
REAL_LAYER = "compose/real-providers.yml"
READY_S = 180.0
POLL_S = 0.5
PORTS = {
    ("grafana", 3000): "GRAFANA_PORT",
    ("gateway", 4000): "GATEWAY_PORT",
    ("prometheus", 9090): "PROMETHEUS_PORT",
    ("tempo", 3200): "TEMPO_PORT",
    ("sim", 4010): "SIM_PORT",
    ("collector", 4317): "OTLP_GRPC_PORT",
    ("collector", 4318): "OTLP_HTTP_PORT",
}
"""Service and port inside to the variable of the port outside."""
PROBES = {
    "grafana": ("Grafana", "/api/health", ""),
    "gateway": ("gateway", "/readyz", "/v1"),
    "prometheus": ("Prometheus", "/-/ready", ""),
    "tempo": ("Tempo", "/ready", ""),
}
"""Service to its name, the path that answers 200 when it is ready, and the path to show."""
ONCE = ("init-volumes", "check-files", "init-keys", "init-secrets", "collector-ready")
"""Services that end. When the start fails, what they said is shown."""

LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
OLD_VERSIONS = re.compile(
    r"^# Versions: this block is the one place where they stand\..*\n(?:(?:#.*|\w+_VERSION=.*)\n)+\n?",
    flags=re.MULTILINE,
)
"""What releases up to 0.1 wrote into .env, and where it would stay behind for ever."""


def engine_problem() -> str | None:
    """Why there is no compose to run, or None."""
    if shutil.which("docker") is None:
        return "there is no `docker` here; `make stack` runs the stack without containers"
    for words, advice in (
        (["compose", "version"], "install Docker's compose plugin"),
        (["info"], "start the Docker engine, or let this user use it"),
    ):
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            return (
                f"`docker {' '.join(words)}` fails ({said[-1] if said else 'silently'}): {advice};"
                " `make stack` runs the stack without containers"
            )
    return None


def settings() -> dict[str, str]:
    """What `.env` says, and what the shell says in its place."""
    file = ROOT / ".env"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = (LINE.match(line) for line in lines)
    stored = {match[1]: match[2].strip("\"'") for match in found if match}
    return stored | {name: value for name, value in os.environ.items() if value}


def forget_old_versions() -> None:
    """Take the versions of an earlier release out of .env, where they would hold back an upgrade."""
    file = ROOT / ".env"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    after = OLD_VERSIONS.sub("", before)
    if after != before:
        file.write_text(after, encoding="utf-8")
        print(f"versions taken out of .env: they are those of {BASE} now")
    for line in after.splitlines():
        if (match := LINE.match(line)) and match[1].endswith("_VERSION"):
            print(f"note: .env sets {match[1]}={match[2]}, in the place of what {BASE} has")


def files(layers: list[str]) -> list[str]:
    """The stack's files: those of `COMPOSE_FILE`, as Docker Compose itself reads it, and layers."""
    given = settings().get("COMPOSE_FILE") or BASE
    found = [*given.split(":"), *(f"compose/{name}.yml" for name in layers)]
    missing = [name for name in found if not (ROOT / name).is_file()]
    if missing:
        known = sorted(file.stem for file in (ROOT / "compose").glob("*.yml"))
        raise SystemExit(f"error: no {missing[0]}; the layers are {', '.join(known)}")
    return list(dict.fromkeys(found))


def configuration(layers: list[str]) -> str:
    """The file that the gateway reads."""
    if REAL_LAYER not in files(layers):
        return DEMO
    given = settings().get("SPANLEDGER_CONFIG") or REAL
    if not (ROOT / given).is_file():
        raise SystemExit(f"error: SPANLEDGER_CONFIG={given} names no file; correct it in .env")
    return given


def environ(layers: list[str]) -> dict[str, str]:
    """What `docker compose` is run with."""
    return {
        **os.environ,
        **digests(ROOT, configuration(layers)),
        "COMPOSE_FILE": ":".join(files(layers)),
        "COMPOSE_PATH_SEPARATOR": ":",
    }


def compose(layers: list[str], *words: str) -> int:
    """Run `docker compose` on the stack's files."""
    return subprocess.run(
        ["docker", "compose", *words], cwd=ROOT, env=environ(layers), check=False
    ).returncode


def described(layers: list[str]) -> dict[str, Any]:
    """The stack as Docker Compose understands it; it says itself what is wrong with it."""
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=ROOT,
        env=environ(layers),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def published(stack: dict[str, Any]) -> dict[tuple[str, int], int]:
    """Service and port inside to port outside."""
    return {
        (name, int(port["target"])): int(port["published"])
        for name, service in stack["services"].items()
        for port in service.get("ports", ())
    }


def port_problem(stack: dict[str, Any]) -> str | None:
    """Which ports others have, and what to do; or None."""
    label = f"label=com.docker.compose.project={stack['name']}"
    words = ["docker", "ps", "--filter", label, "--format", "{{.Ports}}"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    ours = {int(port) for port in re.findall(r":(\d+)->", told)}
    # A range is written once: 127.0.0.1:4317-4318->4317-4318/tcp.
    for first, last in re.findall(r":(\d+)-(\d+)->", told):
        ours.update(range(int(first), int(last) + 1))
    taken = [
        f"port {port} is in use; set {PORTS[place]} to another in .env"
        for place, port in published(stack).items()
        if port not in ours and place in PORTS and is_taken(port)
    ]
    return "\n".join(taken) or None


def is_taken(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def is_ready(port: int, path: str) -> bool:
    """Whether a published port answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(ports: dict[str, int], started: float) -> list[str]:
    """Wait until all answer, saying which does and when; the names of those that never did."""
    waiting = dict(ports)
    deadline = time.monotonic() + READY_S
    while waiting and time.monotonic() < deadline:
        for service, port in list(waiting.items()):
            name, path, _ = PROBES[service]
            if is_ready(port, path):
                del waiting[service]
                print(
                    f"{name} ready {time.monotonic() - started:.0f} s after the start", flush=True
                )
        time.sleep(POLL_S if waiting else 0)
    return [PROBES[service][0] for service in waiting]


def up(layers: list[str]) -> int:
    """Start everything, wait, and say where it is."""
    forget_old_versions()
    stack = described(layers)
    if problem := port_problem(stack):
        print(f"error: {problem}", file=sys.stderr)
        return 1
    started = time.monotonic()
    if status := compose(layers, "up", "--detach", "--build", "--remove-orphans"):
        compose(layers, "logs", "--no-log-prefix", "--tail=20", *ONCE)
        return status
    ports = {name: port for (name, _), port in published(stack).items() if name in PROBES}
    if late := wait(ports, started):
        compose(layers, "ps", "--all")
        print(f"error: not ready after {READY_S:.0f} s: {', '.join(late)}; see `make logs`")
        return 1
    for service, port in ports.items():
        name, _, shown = PROBES[service]
        print(f"{name:<11} http://localhost:{port}{shown}")
    print("stop it with `make down`; data stays in its volumes")
    return 0


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("up", "down", "logs", "check"))
    parser.add_argument("--layer", action="append", default=[], help="a file of compose/")
    options = parser.parse_args()
    if problem := engine_problem():
        print(f"error: {problem}", file=sys.stderr)
        return 1
    if options.action == "up":
        return up(options.layer)
    if options.action == "down":
        return compose(options.layer, "down", "--remove-orphans")
    if options.action == "logs":
        return compose(options.layer, "logs", "--follow", "--tail=100")
    return 0


if __name__ == "__main__":
    sys.exit(main())
