"""Installs the clients' environments into the user's cache, from locks with hashes.

    python -m tests.clients.install           what is not there yet
    python -m tests.clients.install --lock    writes the locks again, from requirements.in, package.json,
                                              go.mod and pom.xml

Each environment is a folder whose name ends with a digest of its lock: a changed lock is a new folder, and
an interrupted installation leaves none. No script of a package runs. Go keeps modules and what it
compiled of them in its own caches.
"""

from __future__ import annotations

import hashlib
import os
import re
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
LOWEST_GO = (1, 26)
"""What the modules ask for."""
GO_FLAGS = ("-gcflags=github.com/...=-N -l",)
"""Unoptimized: OpenAI's package compiles in half the time."""
LOCKS = {
    "requirements.txt": "python",
    "package-lock.json": "node",
    "go.sum": "go",
    "jars.sha256": "java",
}
"""The file with an environment's versions and hashes, and what it is for."""
_COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


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
    if LOCKS[lock.name] == "python":
        digest.update(sys.version.encode())
    return cache_folder() / f"{name}-{digest.hexdigest()[:12]}"


def missing_program(name: str) -> str:
    """Why an environment cannot be installed on this machine, or nothing."""
    return {"python": _always, "node": _no_node, "go": _no_go, "java": _no_java}[language(name)]()


def language(name: str) -> str:
    """What the packages of an environment are written for: python, node, go or java."""
    return LOCKS[_lock(ENVIRONMENTS / name).name]


def go_caches() -> dict[str, str]:
    """The variables that say where Go has modules and what it compiled, whatever HOME is."""
    names = ("GOCACHE", "GOMODCACHE", "GOPATH")
    told = subprocess.run(["go", "env", *names], capture_output=True, text=True, check=True)
    caches = dict(zip(names, told.stdout.splitlines(), strict=True))
    return {**caches, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}


def _always() -> str:
    return ""


def _no_node() -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.strip().removeprefix("v").split(".")[0])
    return "" if major >= LOWEST_NODE else f"node {major} is older than {LOWEST_NODE}"


def _no_go() -> str:
    if shutil.which("go") is None:
        return "go is not installed"
    told = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True)
    found = re.match(r"go(\d+)\.(\d+)", told.stdout)
    if found is not None and (int(found[1]), int(found[2])) >= LOWEST_GO:
        return ""
    return f"{told.stdout.strip()} is older than {LOWEST_GO[0]}.{LOWEST_GO[1]}"


def _no_java() -> str:
    missing = [name for name in ("javac", "mvn") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


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
        installers = {"python": _python, "node": _node, "go": _go, "java": _java}
        installers[language(name)](source, folder)
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
    for name in ("package.json", "package-lock.json", ".npmrc"):
        if (source / name).exists():
            shutil.copy(source / name, folder)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    _run("npm", "ci", *quiet, folder=folder)


def _go(source: Path, folder: Path) -> None:
    """Fetch the modules and compile them, so that no test waits for it."""
    folder.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copy(source / name, folder)
    asked = re.findall(r"^\t(\S+) v\S+$", (source / "go.mod").read_text("utf-8"), re.MULTILINE)
    _run("go", "build", *GO_FLAGS, *asked, folder=folder, env={**os.environ, **go_caches()})


def _java(source: Path, folder: Path) -> None:
    """Fetch the jars, and compare each with the lock."""
    folder.mkdir()
    _jars(source, folder)
    if _digests(folder) != (source / "jars.sha256").read_text("utf-8"):
        raise SystemExit(f"{source.name}: the jars are not those of jars.sha256")


def _jars(source: Path, folder: Path) -> None:
    pom = ("--file", source / "pom.xml")
    _run("mvn", "--batch-mode", "--quiet", *pom, _COPY_JARS, f"-DoutputDirectory={folder}")


def _digests(folder: Path) -> str:
    jars = sorted(folder.glob("*.jar"))
    return "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in jars)


def lock_all() -> None:
    """Write every lock again, from the files that say which versions to take."""
    for source in sorted(path for path in ENVIRONMENTS.iterdir() if path.is_dir()):
        if (asked := source / "requirements.in").exists():
            made = source / "requirements.txt"
            how = ("--universal", "--generate-hashes", "--no-header", "--no-annotate")
            where = ("--no-emit-index-url", "--python-version", LOWEST_PYTHON)
            _run(UV, "pip", "compile", "--quiet", *how, *where, asked, "--output-file", made)
        elif (source / "go.mod").exists():
            _run("go", "mod", "download", folder=source)
        elif (source / "pom.xml").exists():
            with tempfile.TemporaryDirectory() as folder:
                _jars(source, Path(folder))
                (source / "jars.sha256").write_text(_digests(Path(folder)), "utf-8")
        else:
            quiet = ("--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts")
            _run("npm", "install", *quiet, "--no-audit", "--no-fund", folder=source)
        print(f"{source.name}: locked", flush=True)


def _lock(source: Path) -> Path:
    return next(path for name in LOCKS if (path := source / name).exists())


def _run(
    *command: str | Path, folder: Path | None = None, env: dict[str, str] | None = None
) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, env=env, check=True)


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
