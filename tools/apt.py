"""Installs Debian packages, where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable


def install(packages: Iterable[str]) -> str | None:
    """Install packages with apt-get; returns why that failed, or None."""
    wanted = sorted(set(packages))
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"cannot install {', '.join(wanted)}: this needs root and apt-get"
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    keep = ("-o", "Dpkg::Options::=--force-confold")
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *keep, *wanted]):
        done = subprocess.run(
            ["apt-get", "--quiet=2", *words],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return f"`apt-get {words[0]}` failed: {''.join(last)}"
    return None
