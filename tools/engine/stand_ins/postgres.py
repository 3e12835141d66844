#!/usr/bin/python3
"""The start of a Postgres container, as in the official image, as far as the stack's files use it.

With an empty PGDATA it runs `initdb` with the password of POSTGRES_PASSWORD_FILE, creates POSTGRES_DB and runs the
scripts of /docker-entrypoint-initdb.d, while the server listens on its socket only. Then the command takes this
process's place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path("/docker-entrypoint-initdb.d")


def create(data: Path) -> None:
    """Create the cluster, the role and the database, and run the scripts."""
    user = os.environ.get("POSTGRES_USER", "postgres")
    database = os.environ.get("POSTGRES_DB", user)
    given = os.environ.get("POSTGRES_INITDB_ARGS", "").split()
    password = os.environ["POSTGRES_PASSWORD_FILE"]
    run("initdb", "--username", user, f"--pwfile={password}", *given, f"--pgdata={data}")
    with (data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
        rules.write("\nhost all all all scram-sha-256\n")
    with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write("\nlisten_addresses = '*'\n")
    server = ("pg_ctl", f"--pgdata={data}", "--wait")
    run(*server, "--options=-c listen_addresses=''", "start")
    if database != "postgres":
        run("createdb", "--username", user, "--no-password", "--maintenance-db=postgres", database)
    os.environ["POSTGRES_PASSWORD"] = Path(password).read_text("utf-8").rstrip("\n")
    for script in sorted(SCRIPTS.glob("*")):
        if script.suffix != ".sh":
            sys.exit(f"{script}: only scripts of a shell are known here")
        # The official image's shell reads a script that is not executable itself.
        run("bash", "-c", '. "$0"' if not os.access(script, os.X_OK) else '"$0"', str(script))
    del os.environ["POSTGRES_PASSWORD"]
    run(*server, "--mode=fast", "stop")


def run(*words: str) -> None:
    """Run a program; ends this one with its status if it fails."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main(command: list[str]) -> None:
    """Prepare the data, and become the server."""
    if command[:1] == ["postgres"]:
        data = Path(os.environ["PGDATA"])
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (data / "PG_VERSION").exists():
            create(data)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
