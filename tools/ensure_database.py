"""Make sure a folder has a database's password: for the server, and as libpq reads it.

Runs in the compose stack before Postgres. The password is generated once and never printed. Part of the
image, so it only imports the standard library.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

PASSWORD = "password"  # noqa: S105 - the name of the file
"""Read by the server's user, through its group."""
PASSFILE = "pgpass"
"""Read by our services. libpq ignores one that others can read."""


def ensure(folder: Path) -> str:
    """Write what is missing; returns a log line without the password."""
    file = folder / PASSWORD
    is_new = not file.exists()
    password = secrets.token_urlsafe(24) if is_new else file.read_text(encoding="utf-8")
    # The passfile first: the server takes only a password that our services have.
    write(folder / PASSFILE, f"*:*:*:*:{password}\n", 0o400)
    if is_new:
        write(file, password, 0o440)
    return "password generated" if is_new else "the password exists"


def write(file: Path, text: str, mode: int) -> None:
    """Write the file atomically, never readable by others."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as output:
        output.write(text)
        os.fchmod(output.fileno(), mode)
    new.replace(file)


def main(arguments: list[str]) -> None:
    """Ensure the files in the given folder."""
    if len(arguments) != 1:
        raise SystemExit("usage: ensure_database.py FOLDER")
    try:
        said = ensure(Path(arguments[0]))
    except OSError as error:
        raise SystemExit(f"error: {error}") from error
    print(said)


if __name__ == "__main__":
    main(sys.argv[1:])
