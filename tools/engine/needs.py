"""The requirements for running a private engine, and messages for those that are not met.

The engine comes from Debian trixie; its runtime and firewall tools are the machine's own, because
they are built for the machine's C library.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tools import apt

PACKAGES = {
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "runc": "runc",
    "slirp4netns": "slirp4netns",
    "unshare": "util-linux",
}
"""The Debian package of each program."""
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
NAMESPACES = ("--net", "--mount", "--pid", "--fork")


def search_path() -> str:
    """`PATH` plus the sbin folders that an ordinary user's lacks."""
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


def missing_programs() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PACKAGES if shutil.which(name, path=search_path()) is None]


def problem() -> str | None:
    """Why no engine can run on this machine, or None."""
    if sys.platform != "linux":
        return f"it needs Linux, but this is {sys.platform}"
    if os.geteuid() != 0:
        return "it needs root, for namespaces and mounts"
    if not is_debian():
        return "it needs Debian packages, but this machine is not Debian"
    if lacking := missing_programs():
        packages = sorted({PACKAGES[name] for name in lacking})
        return f"{', '.join(lacking)} not found; run `apt-get install {' '.join(packages)}`"
    if not Path("/dev/net/tun").exists():
        return "the engine's network needs /dev/net/tun, which does not exist"
    done = subprocess.run(
        ["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"cannot create namespaces on this machine: {done.stderr.strip()}"
    return None


def is_debian() -> bool:
    """Whether packages of a Debian release can be expected to run here."""
    try:
        return platform.freedesktop_os_release().get("ID") == "debian"
    except OSError:
        return False


def install() -> str | None:
    """Install missing programs with apt-get; returns why that failed, or None."""
    missing = missing_programs()
    return apt.install(PACKAGES[name] for name in missing) if missing else None
