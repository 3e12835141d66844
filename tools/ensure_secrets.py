"""Make sure a folder has Grafana's secrets, one per file: given, existing or newly generated.

Runs in the compose stack before Grafana. A given secret comes from the environment, set in .env;
generated ones are never printed. Part of the image, so it only imports the standard library.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

FILES = {"GRAFANA_ADMIN_PASSWORD": "admin-password", "GRAFANA_SECRET_KEY": "secret-key"}
"""The file that Grafana reads, by variable."""


def ensure(folder: Path, given: Mapping[str, str]) -> list[str]:
    """Write secrets that are missing or have changed; returns log lines without the secrets."""
    said = []
    for variable, name in FILES.items():
        file = folder / name
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        secret = given.get(variable) or before or secrets.token_urlsafe(24)
        if secret != before:
            write(file, secret)
            said.append(f"{name} {'set from ' + variable if given.get(variable) else 'generated'}")
    return said


def write(file: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as output:
        output.write(text)
    new.replace(file)


def main(arguments: list[str]) -> None:
    """Ensure the secrets in the given folder."""
    if len(arguments) != 1:
        raise SystemExit("usage: ensure_secrets.py FOLDER")
    try:
        said = ensure(Path(arguments[0]), os.environ)
    except OSError as error:
        raise SystemExit(f"error: {error}") from error
    print("\n".join(said) or "every secret exists")


if __name__ == "__main__":
    main(sys.argv[1:])
