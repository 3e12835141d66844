"""Put uv at the given path: the one on PATH if it is new enough, otherwise the locked one from PyPI.

Runs on the machine's bare Python, so it only imports the standard library, and writes only this one
file in the project's tool folder. The version and the hashes are those in `uv.lock`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_USABLE = (0, 10)
PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.15")


def main(target: Path) -> None:
    """Link or install uv at `target`."""
    demand_python()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    found = shutil.which("uv")
    if found and usable(found):
        target.symlink_to(found)
        return
    version, wheels = locked()
    print(f"fetching uv {version} from PyPI into {target.parent.parent.name}/ (once)", flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        binary = by_pip(version, wheels, Path(folder)) or by_hand(wheels, Path(folder))
        if binary is None:
            raise SystemExit(
                "cannot fetch uv: PyPI is unreachable or has no wheel for this machine.\n"
                "Install uv yourself (https://docs.astral.sh/uv/), put it on PATH and try again."
            )
        binary.chmod(0o755)
        binary.replace(target)


def demand_python() -> None:
    """Continue under Python 3.11 or newer, or explain what is missing."""
    if sys.version_info >= (3, 11):  # noqa: UP036 - may start under an older Python
        return
    for name in PYTHONS:
        newer = shutil.which(name)
        if newer and subprocess.call([newer, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(newer, [newer, *sys.argv])  # noqa: S606 - the interpreter this file needs
    raise SystemExit(
        "spanledger needs Python 3.11 or newer; python3 here is {}.{}.\n"
        "Install one (apt install python3.12, brew install python@3.12) and try again.".format(
            *sys.version_info[:2]
        )
    )


def usable(uv: str) -> bool:
    """Whether this uv runs and understands the project's files."""
    answer = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    if answer.returncode != 0 or len(words) < 2:
        return False
    return tuple(int(part) for part in words[1].split(".")[:2]) >= OLDEST_USABLE


def locked() -> tuple[str, dict[str, str]]:
    """The locked version of uv, and the SHA-256 of its wheels by URL."""
    import tomllib

    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    package = next(item for item in lock["package"] if item["name"] == "uv")
    wheels = {wheel["url"]: wheel["hash"].removeprefix("sha256:") for wheel in package["wheels"]}
    return package["version"], wheels


def by_pip(version: str, wheels: dict[str, str], folder: Path) -> Path | None:
    """Install with pip, which uses the machine's index, proxy and certificate settings.

    Returns None if there is no pip: Debian's Python may lack it, and the part of venv that brings it.
    """
    hashes = "".join(f" --hash=sha256:{digest}" for digest in wheels.values())
    requirements = folder / "requirements.txt"
    requirements.write_text(f"uv=={version}{hashes}\n", encoding="utf-8")
    into = folder / "site"
    options = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=uv"]
    options += ["--require-hashes", "--target", str(into), "-r", str(requirements)]
    environment = folder / "venv"
    for command in (
        [sys.executable, "-m", "pip", *options],
        [sys.executable, "-m", "venv", str(environment)],
        [str(environment / "bin" / "python"), "-m", "pip", *options],
    ):
        if not shutil.which(command[0]):
            continue
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0 and (into / "bin" / "uv").is_file():
            return into / "bin" / "uv"
    return None


def by_hand(wheels: dict[str, str], folder: Path) -> Path | None:
    """Fetch the locked wheel directly, for a Linux Python that has neither pip nor venv."""
    import hashlib
    import platform
    import urllib.request
    import zipfile

    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    for url, digest in wheels.items():
        tag = url.rpartition("/")[2]
        if libc not in tag or f"_{platform.machine()}." not in tag:
            continue
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - https, locked
                data: bytes = answer.read(200_000_000)
        except OSError as error:
            print(f"{url}: {error}", file=sys.stderr)
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            raise SystemExit(f"{tag} from PyPI does not match its hash in uv.lock; not installed")
        archive = folder / "uv.zip"
        archive.write_bytes(data)
        with zipfile.ZipFile(archive) as wheel:
            name = next(item for item in wheel.namelist() if item.endswith(".data/scripts/uv"))
            return Path(wheel.extract(name, folder))
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
