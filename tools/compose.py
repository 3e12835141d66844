"""Drives the compose stack for make: start and wait, stop, follow the logs.

    compose.py up|down|logs|check [--layer NAME]…

It waits by asking the published ports itself, so that it is the stack as its users reach it that is
found ready. Ports are those of `.env`; the files, too, where that has a `COMPOSE_FILE`, so that make
and `docker compose` itself always mean the same stack.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "docker-compose.yml"
READY_S = 180.0
POLL_S = 0.5
PROBES = {
    "Grafana": ("GRAFANA_PORT", 3000, "/api/health"),
    "gateway": ("GATEWAY_PORT", 4000, "/readyz"),
    "Prometheus": ("PROMETHEUS_PORT", 9090, "/-/ready"),
    "Tempo": ("TEMPO_PORT", 3200, "/ready"),
}
"""Name to variable of its port, usual port, and the path that answers 200 when it is ready."""

SHOWN_PATH = {"gateway": "/v1"}


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
    """What `.env` says."""
    file = ROOT / ".env"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def files(layers: list[str]) -> list[str]:
    """The stack's files: those of `COMPOSE_FILE`, as Docker Compose itself reads it, and layers."""
    given = os.environ.get("COMPOSE_FILE") or settings().get("COMPOSE_FILE") or BASE
    found = [*given.split(":"), *(f"compose/{name}.yml" for name in layers)]
    missing = [name for name in found if not (ROOT / name).is_file()]
    if missing:
        known = sorted(file.stem for file in (ROOT / "compose").glob("*.yml"))
        raise SystemExit(f"error: no {missing[0]}; the layers are {', '.join(known)}")
    return list(dict.fromkeys(found))


def compose(layers: list[str], *words: str) -> int:
    """Run `docker compose` on the stack's files."""
    environ = {**os.environ, "COMPOSE_FILE": ":".join(files(layers)), "COMPOSE_PATH_SEPARATOR": ":"}
    return subprocess.run(
        ["docker", "compose", *words], cwd=ROOT, env=environ, check=False
    ).returncode


def ports() -> dict[str, int]:
    """The published ports by name."""
    given = {**settings(), **os.environ}
    return {
        name: int(given.get(variable) or usual) for name, (variable, usual, _) in PROBES.items()
    }


def is_ready(port: int, path: str) -> bool:
    """Whether a published port answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait() -> list[str]:
    """Wait until all answer, saying which does; the names of those that never did."""
    waiting = ports()
    started = time.monotonic()
    while waiting and time.monotonic() - started < READY_S:
        for name, port in list(waiting.items()):
            if is_ready(port, PROBES[name][2]):
                del waiting[name]
                print(f"{name} ready in {time.monotonic() - started:.0f} s", flush=True)
        time.sleep(POLL_S if waiting else 0)
    return list(waiting)


def up(layers: list[str]) -> int:
    """Start everything, wait, and say where it is."""
    prepared = subprocess.run([sys.executable, str(ROOT / "tools" / "prepare_env.py")], check=False)
    if prepared.returncode:
        return prepared.returncode
    if status := compose(layers, "up", "--detach", "--build", "--remove-orphans"):
        return status
    if late := wait():
        compose(layers, "ps", "--all")
        print(f"error: not ready after {READY_S:.0f} s: {', '.join(late)}; see `make logs`")
        return 1
    for name, port in ports().items():
        print(f"{name:<11} http://localhost:{port}{SHOWN_PATH.get(name, '')}")
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
