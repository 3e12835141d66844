"""Build the wheel, install it alone with the locked dependencies, and try it as a user would.

Proves that the package needs nothing of the checkout, nothing of the development tools and not
LiteLLM, and that no dependency brought a `.pth` file, which would run at every start of Python.
Then once more without the lock, as `uvx` and `pip install` do: the newest versions that
`pyproject.toml` allows must at least import.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = os.environ.get("UV", "uv")
"""`uv run` names itself here."""
KNOWN_PTH = {"_virtualenv.pth", "distutils-precedence.pth"}
TRIALS = (
    ("spanledger", "--version"),
    ("spanledger", "prices", "show", "gpt-4o"),
    ("python", "-m", "spanledger", "--version"),
)


def main() -> None:
    """Run every step; the first that fails ends the check with its own output."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(UV, "build", "--wheel", "--quiet", "--out-dir", folder, cwd=ROOT)
        (wheel,) = work.glob("*.whl")
        bin_folder = install(wheel, work)
        check_pth(work / "venv")
        for command, *arguments in TRIALS:
            run(str(bin_folder / command), *arguments, cwd=work)
        check_no_litellm(bin_folder / "python", work)
        check_newest(wheel, work)
        print(f"{wheel.name}: builds, installs alone and runs")


def install(wheel: Path, work: Path) -> Path:
    """Make an environment of the locked dependencies, hashes checked, and this wheel."""
    python = work / "venv" / "bin" / "python"
    locked = work / "requirements.txt"
    options = ("--frozen", "--no-dev", "--no-emit-project", "--quiet", "--output-file", str(locked))
    run(UV, "export", *options, cwd=ROOT)
    run(UV, "venv", "--quiet", "--python", sys.executable, str(work / "venv"), cwd=work)
    for what in (("--require-hashes", "-r", str(locked)), ("--no-deps", str(wheel))):
        run(UV, "pip", "install", "--quiet", "--python", str(python), *what, cwd=work)
    return python.parent


def check_pth(venv: Path) -> None:
    """Refuse a `.pth` file that is not known: the March 2026 attack on LiteLLM came as one."""
    unknown = {path.name for path in venv.rglob("*.pth")} - KNOWN_PTH
    if unknown:
        raise SystemExit(f"unknown .pth files, read them before they run: {sorted(unknown)}")


def check_no_litellm(python: Path, work: Path) -> None:
    """The core must work where LiteLLM is not installed, and the trials above just did."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('litellm') is not None)"
    run(str(python), "-c", code, cwd=work)


def check_newest(wheel: Path, work: Path) -> None:
    """Import every module beside the newest dependencies the wheel asks for."""
    python = work / "newest" / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, str(work / "newest"), cwd=work)
    run(UV, "pip", "install", "--quiet", "--python", str(python), str(wheel), cwd=work)
    code = (
        "import importlib, pkgutil, spanledger\n"
        "for m in pkgutil.walk_packages(spanledger.__path__, 'spanledger.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)"
    )
    run(str(python), "-c", code, cwd=work)


def run(*command: str, cwd: Path) -> None:
    """Run a command; show what it printed only if it failed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
