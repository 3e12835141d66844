"""Builds the stack's Go programs natively: collector, Prometheus and promtool, at pinned versions.

The pins stand in `.env.example`, the collector's parts in `otel-collector/builder.yaml`. Programs
go into the user's cache, each beside a stamp of what it was built from; only what changed is
built again, and a build that was broken off goes on where Go's own cache has got to.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = "spanledger.local/toolchain"
PROMETHEUS = "github.com/prometheus/prometheus"


class BuildError(Exception):
    """A build that cannot be done or went wrong; the message says what to do."""


def cache_folder() -> Path:
    """Where programs are kept: `SPANLEDGER_TOOLCHAIN`, or the user's cache."""
    if given := os.environ.get("SPANLEDGER_TOOLCHAIN"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spanledger" / "toolchain"


def pins(root: Path = ROOT) -> dict[str, str]:
    """The versions of `.env.example`."""
    lines = (root / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key: value for key, value in pairs if key.endswith("_VERSION")}


def prometheus_module(version: str) -> str:
    """Prometheus tags its module v0.MMM.P for release M.MM.P (v0.314.2 is 3.14.2)."""
    major, minor, patch = version.split(".")
    return f"v0.{int(major) * 100 + int(minor)}.{patch}"


class Toolchain:
    """The programs and how each is built."""

    def __init__(self, folder: Path, versions: Mapping[str, str], root: Path = ROOT) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self._work = folder / "work"
        self._versions = versions
        self._manifest = (root / "otel-collector" / "builder.yaml").read_text(encoding="utf-8")
        self.programs: dict[str, Callable[[Path], None]] = {
            "otelcol": self._collector,
            "prometheus": self._prometheus,
            "promtool": self._prometheus,
        }

    def stamp(self, program: str) -> str:
        """What the program is built from, in one line."""
        if program == "otelcol":
            digest = hashlib.sha256(self._manifest.encode()).hexdigest()[:12]
            return f"otelcol {self._versions['COLLECTOR_VERSION']} {digest}"
        return f"{program} {self._versions['PROMETHEUS_VERSION']}"

    def is_current(self, program: str) -> bool:
        """Whether the program is there, built from the present pins."""
        stamp = self.bin / f"{program}.stamp"
        return (
            (self.bin / program).exists()
            and stamp.exists()
            and stamp.read_text(encoding="utf-8") == self.stamp(program)
        )

    def build(self, program: str) -> None:
        """Build one program and put it in place whole. Raises BuildError."""
        self.bin.mkdir(parents=True, exist_ok=True)
        made = self._work / program
        made.parent.mkdir(parents=True, exist_ok=True)
        self.programs[program](made)
        made.replace(self.bin / program)
        (self.bin / f"{program}.stamp").write_text(self.stamp(program), encoding="utf-8")

    def _collector(self, made: Path) -> None:
        version = self._versions["COLLECTOR_VERSION"]
        builder = self._work / f"builder-{version}"
        if not builder.exists():
            module = f"go.opentelemetry.io/collector/cmd/builder@v{version}"
            _go("install", module, cwd=self._work, GOBIN=str(self._work))
            (self._work / "builder").replace(builder)
        source = self._work / "otelcol-source"
        manifest = self._work / "builder.yaml"
        filled = string.Template(self._manifest).substitute(self._versions, OUTPUT=str(source))
        manifest.write_text(filled, encoding="utf-8")
        _run([str(builder), "--config", str(manifest), "--skip-compilation"], self._work)
        _go("build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), ".", cwd=source)

    def _prometheus(self, made: Path) -> None:
        """A module of our own, as `go install` refuses modules with replace directives."""
        source = self._work / "prometheus-source"
        source.mkdir(parents=True, exist_ok=True)
        module = prometheus_module(self._versions["PROMETHEUS_VERSION"])
        wanted = f"// {module}\nmodule {MODULE}\n\ngo 1.25\n"
        mod = source / "go.mod"
        if not mod.exists() or not mod.read_text(encoding="utf-8").startswith(f"// {module}\n"):
            mod.write_text(wanted, encoding="utf-8")
            (source / "go.sum").unlink(missing_ok=True)
            for name in ("prometheus", "promtool"):
                _go("get", "-tool", f"{PROMETHEUS}/cmd/{name}@{module}", cwd=source)
        flags = [
            "-tags",
            "netgo,remove_all_sd",
            "-ldflags",
            f"-s -w -X github.com/prometheus/common/version.Version={self._versions['PROMETHEUS_VERSION']}",
        ]
        _go("build", *flags, "-o", str(made), f"{PROMETHEUS}/cmd/{made.name}", cwd=source)


def _go(*arguments: str, cwd: Path, **env: str) -> None:
    _run(["go", *arguments], cwd, CGO_ENABLED="0", GOFLAGS="-buildvcs=false", **env)


def _run(command: list[str], cwd: Path, **env: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-20:])
        raise BuildError(f"`{' '.join(command[:3])} …` failed:\n{tail}")


def main() -> int:
    """Build what is missing or out of date; say each step and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only say what would be built")
    parser.add_argument("--path", action="store_true", help="print the folder of the programs")
    options = parser.parse_args()
    toolchain = Toolchain(cache_folder(), pins())
    if options.path:
        print(toolchain.bin)
        return 0
    stale = [program for program in toolchain.programs if not toolchain.is_current(program)]
    if options.check:
        print("\n".join(f"to build: {program}" for program in stale) or "all current")
        return 1 if stale else 0
    if stale and shutil.which("go") is None:
        print(
            f"error: {', '.join(stale)} must be built and there is no `go` on PATH: install Go"
            " 1.25 or newer (Debian: golang-go from backports), then run this again",
            file=sys.stderr,
        )
        return 1
    for number, program in enumerate(stale, start=1):
        print(f"[{number}/{len(stale)}] building {toolchain.stamp(program)} …", flush=True)
        started = time.monotonic()
        try:
            toolchain.build(program)
        except BuildError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"[{number}/{len(stale)}] {program} ready in {time.monotonic() - started:.0f} s")
    print(f"programs are in {toolchain.bin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
