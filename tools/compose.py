"""Drives the compose stack for make: start and wait, stop, follow the logs.

    compose.py up|down|logs|check [--layer NAME]…

`docker compose` alone also works. This adds three things: it reports problems before anything starts, it
notices edited files, and it waits until the published ports answer, as users will use them.
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
    ("proxy", 4080): "PROXY_PORT",
    ("gateway", 4000): "GATEWAY_PORT",
    ("prometheus", 9090): "PROMETHEUS_PORT",
    ("tempo", 3200): "TEMPO_PORT",
    ("sim", 4010): "SIM_PORT",
    ("collector", 4317): "OTLP_GRPC_PORT",
    ("collector", 4318): "OTLP_HTTP_PORT",
}
"""The variable of each published port, by service and container port."""
PROBES = {
    "grafana": ("Grafana", "/api/health", ""),
    "proxy": ("proxy", "/readyz", "/v1"),
    "gateway": ("gateway", "/readyz", "/v1"),
    "prometheus": ("Prometheus", "/-/ready", ""),
    "tempo": ("Tempo", "/ready", ""),
}
"""By service: its display name, the path that answers 200 once ready, and the path to show."""
ONCE = (
    *("init-volumes", "check-files", "init-keys", "init-secrets", "collector-ready"),
    *("init-database", "init-ledger"),
)
"""Services that run once and exit. If the start fails, their logs are shown."""

LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
OLD_VERSIONS = re.compile(
    r"^# Versions: this block is the one place where they stand\..*\n(?:(?:#.*|\w+_VERSION=.*)\n)+\n?",
    flags=re.MULTILINE,
)
"""The block that releases up to 0.1 wrote into .env, where it would hold back every upgrade."""


def engine_problem() -> str | None:
    """Why Docker Compose cannot be run, or None."""
    if shutil.which("docker") is None:
        return "`docker` is not installed; `make stack` runs the stack without containers"
    for words, advice in (
        (["compose", "version"], "install Docker's Compose plugin"),
        (["info"], "start the Docker engine, or give this user access to it"),
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
    """The variables of `.env`, overridden by the shell's."""
    file = ROOT / ".env"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = (LINE.match(line) for line in lines)
    stored = {match[1]: match[2].strip("\"'") for match in found if match}
    return stored | {name: value for name, value in os.environ.items() if value}


def forget_old_versions() -> None:
    """Remove an earlier release's versions from .env, where they would hold back an upgrade."""
    file = ROOT / ".env"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    after = OLD_VERSIONS.sub("", before)
    if after != before:
        file.write_text(after, encoding="utf-8")
        print(f"removed versions from .env: {BASE} has them now")
    for line in after.splitlines():
        if (match := LINE.match(line)) and match[1].endswith("_VERSION"):
            print(f"note: .env sets {match[1]}={match[2]}, which overrides {BASE}")


def files(layers: list[str]) -> list[str]:
    """The stack's files: those in `COMPOSE_FILE`, which Docker Compose reads too, plus the layers."""
    given = settings().get("COMPOSE_FILE") or BASE
    found = [*given.split(":"), *(f"compose/{name}.yml" for name in layers)]
    missing = [name for name in found if not (ROOT / name).is_file()]
    if missing:
        known = sorted(file.stem for file in (ROOT / "compose").glob("*.yml"))
        raise SystemExit(f"error: {missing[0]} does not exist; the layers are {', '.join(known)}")
    return list(dict.fromkeys(found))


def configuration(layers: list[str]) -> str:
    """The file that the gateway reads."""
    if REAL_LAYER not in files(layers):
        return DEMO
    given = settings().get("SPANLEDGER_CONFIG") or REAL
    if not (ROOT / given).is_file():
        raise SystemExit(f"error: SPANLEDGER_CONFIG={given} is not a file; fix it in .env")
    return given


def environ(layers: list[str]) -> dict[str, str]:
    """The environment for `docker compose`."""
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
    """The configuration as Docker Compose resolves it; Docker Compose reports its own errors."""
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
    """Published ports by service and container port."""
    return {
        (name, int(port["target"])): int(port["published"])
        for name, service in stack["services"].items()
        for port in service.get("ports", ())
    }


def port_problem(stack: dict[str, Any]) -> str | None:
    """Which ports other programs use and how to fix it, or None."""
    label = f"label=com.docker.compose.project={stack['name']}"
    words = ["docker", "ps", "--filter", label, "--format", "{{.Ports}}"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    ours = {int(port) for port in re.findall(r":(\d+)->", told)}
    # A range is written once: 127.0.0.1:4317-4318->4317-4318/tcp.
    for first, last in re.findall(r":(\d+)-(\d+)->", told):
        ours.update(range(int(first), int(last) + 1))
    taken = [
        f"port {port} is in use; set {PORTS[place]} to another port in .env"
        for place, port in published(stack).items()
        if port not in ours and place in PORTS and is_taken(port)
    ]
    return "\n".join(taken) or None


def is_taken(port: int) -> bool:
    """Whether something is listening on the port."""
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
    """Wait until all services answer, reporting each; returns the names of those that never did."""
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
    """Start everything, wait, and print the addresses."""
    forget_old_versions()
    stack = described(layers)
    if problem := port_problem(stack):
        print(f"error: {problem}", file=sys.stderr)
        return 1
    started = time.monotonic()
    if status := compose(layers, "up", "--detach", "--build", "--remove-orphans"):
        compose(
            layers,
            "logs",
            "--no-log-prefix",
            "--tail=20",
            *(n for n in ONCE if n in stack["services"]),
        )
        return status
    ports = {name: port for (name, _), port in published(stack).items() if name in PROBES}
    if late := wait(ports, started):
        compose(layers, "ps", "--all")
        print(f"error: not ready after {READY_S:.0f} s: {', '.join(late)}; see `make logs`")
        return 1
    for service, port in ports.items():
        name, _, shown = PROBES[service]
        print(f"{name:<11} http://localhost:{port}{shown}")
    print("stop it with `make down`; the volumes keep the data")
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("up", "down", "logs", "check"))
    parser.add_argument("--layer", action="append", default=[], help="a file name in compose/")
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
