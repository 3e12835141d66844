"""Make .env of .env.example for Docker Compose, or bring it up to date.

`make up` calls it before anything else, on the machine's bare Python; a second run changes nothing.
Versions always become those of .env.example; whoever wants another exports it in the shell, which
wins over both files. No secret is printed, and one that is set is never changed.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MADE_UP = ("GRAFANA_ADMIN_PASSWORD", "GRAFANA_SECRET_KEY")
"""Secrets that nobody needs to choose."""
LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")


def values(text: str) -> dict[str, str]:
    """The variables of an env file, quotes taken off."""
    found = (LINE.match(line) for line in text.splitlines())
    return {match[1]: match[2].strip("\"'") for match in found if match}


def updated(text: str, example: str) -> tuple[str, list[str]]:
    """An env file with the example's versions and a value for each secret, and what was changed."""
    before = values(text)
    wanted = {key: value for key, value in values(example).items() if key.endswith("_VERSION")}
    wanted |= {key: secrets.token_urlsafe(24) for key in MADE_UP if not before.get(key)}
    changed = {key: value for key, value in wanted.items() if before.get(key) != value}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = LINE.match(line)
        if match and match[1] in changed:
            lines[number] = f"{match[1]}={changed[match[1]]}"
    lines += [f"{key}={value}" for key, value in changed.items() if key not in before]
    said = [
        f"{key} made up" if key in MADE_UP else f"{key} {before.get(key, 'was missing')} → {value}"
        for key, value in changed.items()
    ]
    return "\n".join(lines) + "\n", said


def prepare(root: Path) -> list[str]:
    """Make .env or bring it up to date; what was done, in lines."""
    file = root / ".env"
    example = (root / ".env.example").read_text("utf-8")
    exists = file.exists()
    text, said = updated(file.read_text("utf-8") if exists else example, example)
    if not said:
        return []
    new = root / ".env.new"
    new.unlink(missing_ok=True)
    # It holds secrets: for its owner alone, from the first byte on.
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
    if exists:
        new.chmod(file.stat().st_mode & 0o777)
    new.replace(file)
    return said if exists else [f".env made of .env.example, with a random {' and '.join(MADE_UP)}"]


def main() -> None:
    """Do it, and say what was done."""
    for line in prepare(ROOT):
        print(line)


if __name__ == "__main__":
    main()
