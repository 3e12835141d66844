"""Installs the clients' environments into the user's cache, from locks with hashes.

    python -m tests.clients.install           what is not there yet
    python -m tests.clients.install --lock    writes the locks again, from requirements.in and package.json

Each environment is a folder whose name ends with a digest of its lock: a changed lock is a new folder, and
an interrupted installation leaves none. Nothing else is installed here, and no script of a package runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.clients.table import ENVIRONMENTS

ROOT = Path(__file__).resolve().parent.parent.parent
UV = ROOT / ".tools" / "bin" / "uv"
LOWEST_PYTHON = "3.11"
LOWEST_NODE = 20


def cache_folder() -> Path:
    """Where the environments are: `SPANLEDGER_CLIENTS`, or the user's cache."""
    if given := os.environ.get("SPANLEDGER_CLIENTS"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spanledger" / "clients"


def installed(name: str) -> Path:
    """The folder of an environment, whether it is there or not."""
    source = ENVIRONMENTS / name
    lock = _lock(source)
    digest = hashlib.sha256(lock.read_bytes())
    if lock.suffix == ".txt":
        digest.update(sys.version.encode())
    return cache_folder() / f"{name}-{digest.hexdigest()[:12]}"


def missing_program(name: str) -> str:
    """Why an environment cannot be installed on this machine, or nothing."""
    if (ENVIRONMENTS / name / "requirements.txt").exists():
        return ""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.strip().removeprefix("v").split(".")[0])
    return "" if major >= LOWEST_NODE else f"node {major} is older than {LOWEST_NODE}"


def install(name: str) -> Path:
    """Install an environment unless it is there."""
    target = installed(name)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as work:
        folder = Path(work) / "made"
        source = ENVIRONMENTS / name
        if _lock(source).suffix == ".txt":
            _python(source, folder)
        else:
            _node(source, folder)
        for old in target.parent.glob(f"{name}-{'[0-9a-f]' * 12}"):
            shutil.rmtree(old)
        folder.rename(target)
    print(f"{name}: installed in {time.monotonic() - begun:.0f} s", flush=True)
    return target


def _python(source: Path, folder: Path) -> None:
    _run(UV, "venv", "--quiet", "--relocatable", "--python", sys.executable, folder)
    lock = source / "requirements.txt"
    python = folder / "bin" / "python"
    _run(UV, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock)


def _node(source: Path, folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    _run("npm", "ci", *quiet, folder=folder)


def lock_all() -> None:
    """Write every lock again; the versions to take are in requirements.in and package.json."""
    for source in sorted(path for path in ENVIRONMENTS.iterdir() if path.is_dir()):
        if (asked := source / "requirements.in").exists():
            made = source / "requirements.txt"
            how = ("--universal", "--generate-hashes", "--no-header", "--no-annotate")
            where = ("--no-emit-index-url", "--python-version", LOWEST_PYTHON)
            _run(UV, "pip", "compile", "--quiet", *how, *where, asked, "--output-file", made)
        else:
            quiet = ("--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts")
            _run("npm", "install", *quiet, "--no-audit", "--no-fund", folder=source)
        print(f"{source.name}: locked", flush=True)


def _lock(source: Path) -> Path:
    python = source / "requirements.txt"
    return python if python.exists() else source / "package-lock.json"


def _run(*command: str | Path, folder: Path | None = None) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, check=True)


def main() -> None:
    """Install all environments, or lock them."""
    if "--lock" in sys.argv[1:]:
        lock_all()
        return
    for source in sorted(path for path in ENVIRONMENTS.iterdir() if path.is_dir()):
        if why := missing_program(source.name):
            print(f"{source.name}: not installed, because {why}")
        else:
            install(source.name)


if __name__ == "__main__":
    main()
