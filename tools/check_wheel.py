"""Build the wheel, install it with only the locked dependencies, and use it as a user would.

Proves that the package works without the checkout, the development tools and LiteLLM, and that no
dependency installs a `.pth` file, which would run at every start of Python. Then repeats the
installation without the lock, as `uvx` and `pip install` do: with the newest versions that
`pyproject.toml` allows, every module must at least import.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = os.environ.get("UV", "uv")
"""Set by `uv run` to its own path."""
KNOWN_PTH = {"_virtualenv.pth", "distutils-precedence.pth"}
TRIALS = (
    ("spanledger", "--version"),
    ("spanledger", "prices", "show", "gpt-4o"),
    ("python", "-m", "spanledger", "--version"),
)


def main() -> None:
    """Run every step; the first failure ends the check and shows that step's output."""
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


def check_newest(wheel: Path, work: Path) -> None:
    """Import every module with the newest dependencies that the wheel allows."""
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
    """Run a command; show its output only if it fails."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
