"""Finds the programs of the native stack: in a variable, in the built toolchain, then on PATH.

A release that is too old for our configuration files counts as missing, with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_VERSION_TIMEOUT_S = 10.0
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A program and how to get it."""

    variable: str
    names: tuple[str, ...]
    built: str = ""
    """Its name in the toolchain; empty if `make toolchain` does not build it."""
    least: tuple[int, int] = (0, 0)
    """The oldest release that can read our configuration files."""
    hint: str = "run `make toolchain`"


WANTED: Mapping[str, Wanted] = {
    "collector": Wanted("SPANLEDGER_OTELCOL", ("otelcol-contrib",), "otelcol", (0, 150)),
    "prometheus": Wanted("SPANLEDGER_PROMETHEUS", ("prometheus",), "prometheus", (3, 14)),
    "tempo": Wanted(
        "SPANLEDGER_TEMPO",
        ("tempo",),
        least=(3, 0),
        hint="put `tempo` 3 on PATH or its path into SPANLEDGER_TEMPO",
    ),
    "grafana": Wanted(
        "SPANLEDGER_GRAFANA",
        ("grafana", "grafana-server"),
        least=(12, 0),
        hint="put `grafana` on PATH or its path into SPANLEDGER_GRAFANA",
    ),
}


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs found, and the reason for each that is missing."""

    found: Mapping[str, Path]
    missing: Mapping[str, str]


def toolchain_folder(environ: Mapping[str, str]) -> Path:
    """Where `make toolchain` puts what it builds."""
    if given := environ.get("SPANLEDGER_TOOLCHAIN"):
        return Path(given) / "bin"
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spanledger" / "toolchain" / "bin"


def find_programs(environ: Mapping[str, str] = os.environ) -> Programs:
    """Look for every program of the stack."""
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name, wanted in WANTED.items():
        path, reason = _find(wanted, environ)
        if path is None:
            missing[name] = reason
        else:
            found[name] = path
    return Programs(found, missing)


def _find(wanted: Wanted, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    if wanted.variable in environ:
        given = environ[wanted.variable]
        if not given:
            return None, f"disabled: {wanted.variable} is empty"
        path = shutil.which(given)
        if path is None:
            return None, f"{wanted.variable}={given!r} is not an executable"
        return _checked(Path(path), wanted)
    built = toolchain_folder(environ) / wanted.built
    if wanted.built and os.access(built, os.X_OK):
        return built, ""
    for name in wanted.names:
        if path := shutil.which(name, path=environ.get("PATH")):
            return _checked(Path(path), wanted)
    return None, f"not found; {wanted.hint}"


def _checked(path: Path, wanted: Wanted) -> tuple[Path | None, str]:
    version = version_of(path)
    if version is not None and version < wanted.least:
        have, need = (".".join(map(str, v)) for v in (version, wanted.least))
        return None, f"{path} is version {have}, but at least {need} is required; {wanted.hint}"
    return path.absolute(), ""


def version_of(path: Path) -> tuple[int, int] | None:
    """The major and minor version that a program prints; None if it prints none."""
    try:
        done = subprocess.run(  # noqa: S603 - the program the user named or has on PATH
            [str(path), "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout + done.stderr)
    return (int(match[1]), int(match[2])) if match else None
