"""Installs what tests of a ledger in Postgres need: a server and PgBouncer, from Debian.

    python3 -m tools.postgres install

Debian would make a cluster and start both as services. Tests start their own, on ports of their own, so
neither is wanted here. Where nothing can be installed, it says why, and the tests skip.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.apt import install

SERVERS = Path("/usr/lib/postgresql")
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")
NO_SERVICES = Path("/usr/sbin/policy-rc.d")
"""Asked by Debian's packages before they start a service; 101 forbids it."""


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


def main() -> int:
    """Run the command line."""
    if sys.argv[1:] != ["install"]:
        print(__doc__, file=sys.stderr)
        return 2
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
