"""Build what a release publishes, so that anyone can build the same bytes again.

    python tools/package.py --out dist

Builds the last commit, whatever else is in the folder: the sdist, the wheel, the Helm chart, a CycloneDX
list of the locked dependencies, and the checksums of all of them. Times in the files are those of the
commit, and the build's own packages are locked with hashes in `service/build-requirements.txt`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.toolchain import cache_folder  # noqa: E402 - found by the line above

OURS = ROOT / ".tools" / "bin" / "uv"
UV = os.environ.get("UV") or (str(OURS) if OURS.exists() else "uv")
"""Set by `uv run` to its own path."""
READ = (
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "service",
    "uv.lock",
)
"""Everything that decides what is in a package."""
LEFT_OUT = ("__pycache__", "*.pyc")
NO_COMMIT_S = 315_532_800
"""The time in the files if git does not know the folder: 1980, the earliest that a zip file can hold."""
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/spanledger/spanledger")
CHECKSUMS = "SHA256SUMS"


def main() -> None:
    """Build the last commit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder; emptied first")
    out: Path = parser.parse_args().out.resolve()
    if uncommitted := run("git", "status", "--porcelain", cwd=ROOT).strip():
        print(f"not in the packages, because it is not committed:\n{uncommitted}", file=sys.stderr)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        run("git", "clone", "--quiet", str(ROOT), str(clone), cwd=ROOT)
        seconds = commit_time(clone)
        build(clone, out, seconds)
        build_chart(clone, out, seconds)
        write_sbom(clone, out, seconds)
    write_checksums(out)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>10,} {path.name}")


def copy_sources(source: Path, target: Path) -> None:
    """Copy what a package is built from, including changes that are not committed."""
    target.mkdir(parents=True)
    for name in READ:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy2(path, target / name)


def commit_time(source: Path) -> int:
    """When the last commit was made, in seconds since 1970."""
    command = ("git", "log", "-1", "--format=%ct")
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else NO_COMMIT_S


def build(source: Path, out: Path, seconds: int, env: Mapping[str, str] | None = None) -> None:
    """Build the sdist, and from it the wheel.

    Args:
        seconds: the time that every file in them gets, since 1970.
        env: variables to add to the environment.
    """
    locked = source / "service" / "build-requirements.txt"
    options = ("--build-constraints", str(locked), "--require-hashes", "--out-dir", str(out))
    variables = {"SOURCE_DATE_EPOCH": str(seconds), **(env or {})}
    run(UV, "build", "--quiet", *options, cwd=source, env=variables)
    (out / ".gitignore").unlink(missing_ok=True)  # uv puts one next to what it builds


def build_chart(source: Path, out: Path, seconds: int) -> None:
    """Pack the chart with the toolchain's Helm: another version may write other bytes.

    Helm keeps the files' times, so they get the commit's first.
    """
    helm = cache_folder() / "bin" / "helm"
    if not helm.exists():
        raise SystemExit("helm is missing: build it with `python3 tools/toolchain.py helm`")
    chart = source / "helm" / "spanledger"
    for path in (chart, *chart.rglob("*")):
        os.utime(path, (seconds, seconds))
    run(str(helm), "package", str(chart), "--destination", str(out), cwd=source)


def write_sbom(source: Path, out: Path, seconds: int) -> Path:
    """Write the list of locked dependencies next to the packages, in CycloneDX's JSON."""
    options = ("--frozen", "--no-dev", "--all-extras", "--quiet")
    preview = ("--preview-features", "sbom-export")
    text = run(UV, "export", *options, "--format", "cyclonedx1.5", *preview, cwd=source)
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path = out / f"{project['name']}-{project['version']}.cdx.json"
    bom = dated(json.loads(text), seconds, project)
    path.write_text(json.dumps(bom, indent=2) + "\n", encoding="utf-8")
    return path


def dated(bom: dict[str, Any], seconds: int, project: Mapping[str, Any]) -> dict[str, Any]:
    """The list with the commit's time and a number made of its content instead of uv's own.

    uv numbers each export at random. It also does not know our package's address and licence.
    """
    metadata = bom["metadata"]
    metadata["component"]["purl"] = f"pkg:pypi/{project['name']}@{project['version']}"
    metadata["component"]["licenses"] = [{"license": {"id": project["license"]}}]
    metadata["timestamp"] = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bom["serialNumber"] = ""
    bom["serialNumber"] = uuid.uuid5(NAMESPACE, json.dumps(bom, sort_keys=True)).urn
    return bom


def write_checksums(out: Path) -> None:
    """Write a file that `sha256sum --check` reads."""
    files = sorted(path for path in out.iterdir() if path.name != CHECKSUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; a failure ends the program and shows it."""
    outer = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        command, cwd=cwd, env={**outer, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"failed: {' '.join(command)}")
    return done.stdout


if __name__ == "__main__":
    main()
