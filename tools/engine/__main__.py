"""Runs a command with a private Docker engine, which is removed when the command has ended.

    python3 -m tools.engine run COMMAND…     the command finds the engine as `docker` on PATH
    python3 -m tools.engine install          installs missing programs, if apt-get can

The command runs in the engine's network namespace, so the stack's ports are on its 127.0.0.1. If no
engine can run, the command still runs and finds the reason in SPANLEDGER_NO_ENGINE.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tools import toolchain
from tools.engine import images, needs
from tools.engine.daemon import EngineError, engine
from tools.engine.packages import FetchError, Packages

NO_ENGINE = "SPANLEDGER_NO_ENGINE"


def cache_folder() -> Path:
    """The folder for packages and images: `SPANLEDGER_ENGINE_CACHE`, or the user's cache."""
    if given := os.environ.get("SPANLEDGER_ENGINE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spanledger" / "engine"


def parts(packages: Packages) -> images.Parts:
    """What images are built from on this machine. Raises EngineError."""
    built = toolchain.Toolchain(toolchain.cache_folder(), toolchain.pins())
    needed = {
        "otelcol": "collector",
        "prometheus": "prometheus",
        "promtool": "promtool",
        "caddy": "caddy",
        "weed": "seaweedfs",
        "victoria-metrics": "victoria-metrics",
    }
    if stale := [program for program in needed if not built.is_current(program)]:
        raise EngineError(f"{', '.join(stale)} must be built first: `make toolchain`")
    programs = {name: built.bin / program for program, name in needed.items()}
    for name in ("tempo", "grafana"):
        given = os.environ.get(f"SPANLEDGER_{name.upper()}", name)
        if path := shutil.which(given) or shutil.which(str(built.bin / name)):
            programs[name] = Path(path)
    home = os.environ.get("SPANLEDGER_GRAFANA_HOME", "/usr/share/grafana")
    return images.Parts(
        packages.base, packages.postgres, programs, Path(home) if Path(home).is_dir() else None
    )


def run(command: list[str]) -> int:
    """Run the command with an engine, or without one; returns its exit code."""
    if reason := needs.problem():
        return _without(command, reason)
    packages = Packages(cache_folder())
    try:
        _timed("fetched the engine's packages", packages.fetch)
        made_of = parts(packages)
    except (FetchError, EngineError) as error:
        return _without(command, str(error))
    started = time.monotonic()
    with engine(packages.root, cache_folder() / "data") as one:
        made = images.ensure(one, made_of, toolchain.pins())
        told = f"engine ready in {time.monotonic() - started:.0f} s"
        print(told + (f", with new images: {', '.join(made)}" if made else ""), flush=True)
        return subprocess.run(one.inside(command), env=one.environ, check=False).returncode


def _timed(said: str, work: Callable[[], None]) -> None:
    started = time.monotonic()
    work()
    if (took := time.monotonic() - started) > 1:
        print(f"{said} in {took:.0f} s", flush=True)


def _without(command: list[str], reason: str) -> int:
    print(f"no Docker engine for tests: {reason}", flush=True)
    return subprocess.run(command, env={**os.environ, NO_ENGINE: reason}, check=False).returncode


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.engine", description=(__doc__ or "").splitlines()[0]
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("install", help="install missing programs, if apt-get can")
    runs = actions.add_parser("run", help="run a command with an engine")
    runs.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.action == "install":
        if reason := needs.install():
            print(reason)
        return 0
    try:
        return run(options.command[options.command[:1] == ["--"] :])
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
