"""Make sure a folder holds Grafana's own secrets, each in a file: those given, else what is there, else new.

Runs in the compose stack before Grafana. A secret that is given comes from the environment, where
.env has it; what is made up is never printed. In the image, so it imports the standard library only.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

FILES = {"GRAFANA_ADMIN_PASSWORD": "admin-password", "GRAFANA_SECRET_KEY": "secret-key"}
"""Variable to the file that Grafana reads."""


def ensure(folder: Path, given: Mapping[str, str]) -> list[str]:
    """Write what is missing or given anew; what was done, in lines without the secrets."""
    said = []
    for variable, name in FILES.items():
        file = folder / name
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        secret = given.get(variable) or before or secrets.token_urlsafe(24)
        if secret != before:
            write(file, secret)
            said.append(f"{name} {'taken from ' + variable if given.get(variable) else 'made up'}")
    return said


def write(file: Path, text: str) -> None:
    """Put the file in place whole, for its owner alone."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as output:
        output.write(text)
    new.replace(file)


def main(arguments: list[str]) -> None:
    """Ensure the one folder named."""
    if len(arguments) != 1:
        raise SystemExit("usage: ensure_secrets.py FOLDER")
    try:
        said = ensure(Path(arguments[0]), os.environ)
    except OSError as error:
        raise SystemExit(f"error: {error}") from error
    print("\n".join(said) or "every secret is there")


if __name__ == "__main__":
    main(sys.argv[1:])
