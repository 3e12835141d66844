"""Builds the stack's Go programs natively at pinned versions: the collector, Prometheus and, for tests,
Alertmanager, VictoriaMetrics, SeaweedFS, Helm and what checks manifests and workflows.

The versions are in `docker-compose.yml`, the collector's components in `otel-collector/builder.yaml`.
Programs are built into the user's cache, each with a stamp of what it was built from. Only programs whose
stamp changed are rebuilt, and an interrupted build reuses Go's own cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = "spanledger.local/toolchain"
PROMETHEUS = "github.com/prometheus/prometheus"
ALERTMANAGER = "github.com/prometheus/alertmanager"
SEAWEEDFS = "github.com/seaweedfs/seaweedfs"
VERSION = "github.com/prometheus/common/version.Version"

CHECKERS = {
    "caddy": (
        "CADDY_VERSION",
        "github.com/caddyserver/caddy/v2/cmd/caddy",
        "github.com/caddyserver/caddy/v2.CustomVersion",
    ),
    "helm": (
        "HELM_VERSION",
        "helm.sh/helm/v4/cmd/helm",
        "helm.sh/helm/v4/internal/version.version",
    ),
    "kubeconform": (
        "KUBECONFORM_VERSION",
        "github.com/yannh/kubeconform/cmd/kubeconform",
        "main.version",
    ),
    "actionlint": (
        "ACTIONLINT_VERSION",
        "github.com/rhysd/actionlint/cmd/actionlint",
        "github.com/rhysd/actionlint.version",
    ),
    "victoria-metrics": (
        "VICTORIA_METRICS_VERSION",
        "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
        "github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version",
    ),
}
"""Programs that `go install` can build: the pin, the package, and its variable for the version."""
SCHEMAS = {
    "kubernetes-api.json": (
        "KUBERNETES_VERSION",
        "k8s.io/kubernetes",
        "api/openapi-spec/swagger.json",
    ),
    "prometheus-operator.yaml": (
        "PROMETHEUS_OPERATOR_VERSION",
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/*.yaml",
    ),
}
"""What manifests are checked against: the pin, the module, and the files in it, which are joined."""


class BuildError(Exception):
    """A build failed; the message has its output."""


def cache_folder() -> Path:
    """Where programs are kept: `SPANLEDGER_TOOLCHAIN`, or the user's cache."""
    if given := os.environ.get("SPANLEDGER_TOOLCHAIN"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spanledger" / "toolchain"


def pins(root: Path = ROOT) -> dict[str, str]:
    """The versions that `docker-compose.yml` names as defaults, by their variables."""
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    return dict(re.findall(r"\$\{(\w+_VERSION):-([^}]+)\}", text))


def prometheus_module(version: str) -> str:
    """Prometheus tags its module v0.MMM.P for release M.MM.P (v0.314.2 is 3.14.2)."""
    major, minor, patch = version.split(".")
    return f"v0.{int(major) * 100 + int(minor)}.{patch}"


class Toolchain:
    """The programs and how to build each."""

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
            "alertmanager": self._alertmanager,
            "amtool": self._alertmanager,
            "weed": self._seaweedfs,
            **dict.fromkeys(CHECKERS, self._checker),
            **dict.fromkeys(SCHEMAS, self._schemas),
        }

    def stamp(self, program: str) -> str:
        """One line that identifies what the program is built from."""
        if program == "otelcol":
            digest = hashlib.sha256(self._manifest.encode()).hexdigest()[:12]
            return f"otelcol {self._versions['COLLECTOR_VERSION']} {digest}"
        if program == "weed":
            return f"weed {self._versions['SEAWEEDFS_MODULE_VERSION']}"
        if found := CHECKERS.get(program) or SCHEMAS.get(program):
            return f"{program} {self._versions[found[0]]}"
        of = "PROMETHEUS" if program.startswith("prom") else "ALERTMANAGER"
        return f"{program} {self._versions[f'{of}_VERSION']}"

    def is_current(self, program: str) -> bool:
        """Whether the program exists and was built from the current pins."""
        stamp = self.bin / f"{program}.stamp"
        return (
            (self.bin / program).exists()
            and stamp.exists()
            and stamp.read_text(encoding="utf-8") == self.stamp(program)
        )

    def build(self, program: str) -> None:
        """Build one program and install it atomically. Raises BuildError."""
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
        version = self._versions["PROMETHEUS_VERSION"]
        programs = ("prometheus", "promtool")
        source = self._module(PROMETHEUS, prometheus_module(version), programs)
        _go_build(made, f"{PROMETHEUS}/cmd/{made.name}", version, source)

    def _alertmanager(self, made: Path) -> None:
        """From a copy of its module with a placeholder for its web UI, which needs other build tools."""
        version = self._versions["ALERTMANAGER_VERSION"]
        source = self._module(ALERTMANAGER, f"v{version}", ("alertmanager", "amtool"))
        copy = self._work / f"alertmanager-{version}"
        if not copy.exists():
            wanted = f"{ALERTMANAGER}@v{version}"
            told = json.loads(_go("mod", "download", "-json", wanted, cwd=self._work))
            draft = self._work / "alertmanager-draft"
            shutil.rmtree(draft, ignore_errors=True)
            _copy(Path(told["Dir"]), draft)
            pages = draft / "ui" / "app" / "dist"
            pages.mkdir(parents=True)
            (pages / "none.txt").write_text("This build has no web pages.\n", encoding="utf-8")
            draft.rename(copy)
        _go("mod", "edit", f"-replace={ALERTMANAGER}={copy}", cwd=source)
        _go_build(made, f"{ALERTMANAGER}/cmd/{made.name}", version, source)

    def _seaweedfs(self, made: Path) -> None:
        version = f"v{self._versions['SEAWEEDFS_MODULE_VERSION']}"
        source = self._module(SEAWEEDFS, version, ("weed",), below="")
        _go(
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            str(made),
            f"{SEAWEEDFS}/weed",
            cwd=source,
        )

    def _checker(self, made: Path) -> None:
        pin, package, variable = CHECKERS[made.name]
        version = self._versions[pin]
        linked = f"-s -w -X {variable}=v{version}"
        options = ("-trimpath", "-ldflags", linked)
        _go("install", *options, f"{package}@v{version}", cwd=self._work, GOBIN=str(made.parent))

    def _schemas(self, made: Path) -> None:
        pin, module, pattern = SCHEMAS[made.name]
        wanted = f"{module}@v{self._versions[pin]}"
        told = json.loads(_go("mod", "download", "-json", wanted, cwd=self._work))
        files = sorted(Path(told["Dir"]).glob(pattern))
        made.write_text("".join(f.read_text(encoding="utf-8") for f in files), encoding="utf-8")

    def _module(
        self, path: str, version: str, programs: Sequence[str], below: str = "cmd/"
    ) -> Path:
        """Our own module, because `go install` refuses modules with replace directives.

        Args:
            below: where the programs' packages are.
        """
        source = self._work / f"{path.rpartition('/')[2]}-source"
        source.mkdir(parents=True, exist_ok=True)
        mod = source / "go.mod"
        if not mod.exists() or not mod.read_text(encoding="utf-8").startswith(f"// {version}\n"):
            (source / "go.sum").unlink(missing_ok=True)
            mod.write_text(f"// {version}\nmodule {MODULE}\n\ngo 1.25\n", encoding="utf-8")
            for name in programs:
                _go("get", "-tool", f"{path}/{below}{name}@{version}", cwd=source)
        return source


def _copy(source: Path, target: Path) -> None:
    """Make a writable copy of a folder; Go keeps modules read-only."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _go_build(made: Path, package: str, version: str, source: Path) -> None:
    linked = f"-s -w -X {VERSION}={version}"
    flags = ("-tags", "netgo,remove_all_sd", "-ldflags", linked)
    _go("build", *flags, "-o", str(made), package, cwd=source)


def _go(*arguments: str, cwd: Path, **env: str) -> str:
    return _run(["go", *arguments], cwd, CGO_ENABLED="0", GOFLAGS="-buildvcs=false", **env)


def _run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-20:])
        raise BuildError(f"`{' '.join(command[:3])} …` failed:\n{tail}")
    return done.stdout


def main() -> int:
    """Build what is missing or out of date, and report each step and its duration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="only these; default: all")
    parser.add_argument("--check", action="store_true", help="only list what would be built")
    parser.add_argument("--path", action="store_true", help="print the folder of the programs")
    options = parser.parse_args()
    toolchain = Toolchain(cache_folder(), pins())
    if options.path:
        print(toolchain.bin)
        return 0
    if unknown := set(options.programs) - toolchain.programs.keys():
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(toolchain.programs)}")
    wanted = options.programs or toolchain.programs
    stale = [program for program in wanted if not toolchain.is_current(program)]
    if options.check:
        print("\n".join(f"to build: {program}" for program in stale) or "all current")
        return 1 if stale else 0
    if stale and shutil.which("go") is None:
        print(
            f"error: {', '.join(stale)} must be built, but `go` is not on PATH: install Go"
            " 1.26 or newer (Debian: golang-go from backports), then run this again",
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
