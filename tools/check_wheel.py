"""Build the package, install it in empty environments, and use it as a user would.

Proves that the same sources give the same bytes, wherever and whenever they are built; that the package
works without the checkout, the development tools and LiteLLM; and that no dependency installs a `.pth`
file, which would run at every start of Python. Then does what a user does: `pip install`, without the
lock, gets the newest versions that `pyproject.toml` allows. With those, every module must import and
`spanledger demo` must succeed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.package import (  # noqa: E402 - found by the line above
    UV,
    build,
    commit_time,
    copy_sources,
    run,
    write_sbom,
)

KNOWN_PTH = {"_virtualenv.pth", "distutils-precedence.pth"}
TRIALS = (
    ("spanledger", "--version"),
    ("spanledger", "prices", "show", "gpt-4o"),
    ("python", "-m", "spanledger", "--version"),
)
ELSEWHERE = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "USER": "somebody"}
"""What differs on another machine and must not be seen in a package."""


def main() -> None:
    """Run every step; the first failure ends the check and shows that step's output."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        wheel = check_reproducible(work)
        bin_folder = install(wheel, work)
        check_pth(work / "venv")
        for command, *arguments in TRIALS:
            run(str(bin_folder / command), *arguments, cwd=work)
        check_no_litellm(bin_folder / "python", work)
        check_as_users_do(wheel, work)
        print(f"{wheel.name}: builds to the same bytes, installs alone, and its demo succeeds")


def check_reproducible(work: Path) -> Path:
    """Build two copies of the sources that differ in all that must not matter; returns the wheel.

    The second copy is in a longer path, and its files have other modes and times.
    """
    seconds = commit_time(ROOT)
    built = []
    for name, env in (("a", {}), ("another/and/deeper", ELSEWHERE)):
        source, out = work / name / "source", work / name / "out"
        copy_sources(ROOT, source)
        for path in (source, *source.rglob("*")) if env else ():
            path.chmod(0o700 if path.is_dir() else 0o600)
            os.utime(path, (seconds - 86_400, seconds - 86_400))
        build(source, out, seconds, env)
        write_sbom(source, out, seconds)
        built.append({path.name: path.read_bytes() for path in out.iterdir()})
    if different := sorted(different_files(*built)):
        raise SystemExit(f"two builds of the same sources differ: {', '.join(different)}")
    (wheel,) = (work / "a" / "out").glob("*.whl")
    return wheel


def different_files(one: dict[str, bytes], other: dict[str, bytes]) -> Iterator[str]:
    """The files that two builds do not have in common, byte for byte."""
    return (name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def install(wheel: Path, work: Path) -> Path:
    """Create an environment with the locked dependencies, hashes verified, and this wheel."""
    python = work / "venv" / "bin" / "python"
    locked = work / "requirements.txt"
    options = ("--frozen", "--no-dev", "--no-emit-project", "--quiet", "--output-file", str(locked))
    run(UV, "export", *options, cwd=ROOT)
    run(UV, "venv", "--quiet", "--python", sys.executable, str(work / "venv"), cwd=work)
    for what in (("--require-hashes", "-r", str(locked)), ("--no-deps", str(wheel))):
        run(UV, "pip", "install", "--quiet", "--python", str(python), *what, cwd=work)
    return python.parent


def check_pth(venv: Path) -> None:
    """Refuse unknown `.pth` files: the March 2026 attack on LiteLLM used one."""
    unknown = {path.name for path in venv.rglob("*.pth")} - KNOWN_PTH
    if unknown:
        raise SystemExit(f"unknown .pth files; review them before they run: {sorted(unknown)}")


def check_no_litellm(python: Path, work: Path) -> None:
    """Confirm that LiteLLM is not installed: the commands above worked without it."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('litellm') is not None)"
    run(str(python), "-c", code, cwd=work)


def check_as_users_do(wheel: Path, work: Path) -> None:
    """`pip install` into an empty environment, import every module, and run the demo there; then the
    same with the driver that a ledger in Postgres needs."""
    python = work / "newest" / "bin" / "python"
    run(UV, "venv", "--quiet", "--seed", "--python", sys.executable, str(work / "newest"), cwd=work)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    run(str(python), *pip, str(wheel), cwd=work)
    import_all_but(python, "spanledger.ledger.postgres", work)
    home = work / "home"
    home.mkdir()
    env = {"HOME": str(home), "PATH": f"{python.parent}{os.pathsep}{os.defpath}"}
    run(str(python.parent / "spanledger"), "demo", cwd=home, env=env)
    run(str(python), *pip, f"{wheel}[postgres]", cwd=work)
    import_all_but(python, "", work)


def import_all_but(python: Path, left_out: str, work: Path) -> None:
    """Import every module of the package, except those below the one that is left out."""
    code = (
        "import importlib, pkgutil, sys, spanledger\n"
        "for m in pkgutil.walk_packages(spanledger.__path__, 'spanledger.'):\n"
        "    if m.name.endswith('__main__') or f'{m.name}.'.startswith(f'{sys.argv[1]}.'): continue\n"
        "    importlib.import_module(m.name)"
    )
    run(str(python), "-c", code, left_out, cwd=work)


if __name__ == "__main__":
    main()
