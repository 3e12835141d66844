"""Make .env of .env.example for Docker Compose, or bring it up to date; and name the files of layers.

`make up` calls it before anything else, on the machine's bare Python (standard library only):

    python3 tools/prepare_env.py                    makes or updates .env; a second run changes nothing
    python3 tools/prepare_env.py --layers "a b"     prints COMPOSE_FILE with the layers of vendors a and b

so the recipe is: `COMPOSE_FILE=$(python3 tools/prepare_env.py --layers "$VENDOR") docker compose up …`.
Versions always become those of .env.example; whoever wants another exports it in the shell, which
wins over both files. No secret is printed, and one that is set is never changed.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MADE_UP = ("GRAFANA_ADMIN_PASSWORD", "GRAFANA_SECRET_KEY")
"""Secrets that nobody needs to choose."""
LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
BASE = "docker-compose.yml"


class LayerError(Exception):
    """A layer that is not there; the message names those that are."""


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


def layers(root: Path, names: list[str], given: str | None) -> str:
    """`COMPOSE_FILE` with the layers of these names added, each once. Raises LayerError."""
    files = [file for file in (given or BASE).split(":") if file]
    for name in names:
        choices = (f"compose/vendor-{name}.yml", f"compose/{name}.yml")
        found = next((file for file in choices if (root / file).is_file()), None)
        if found is None:
            known = sorted(p.stem.removeprefix("vendor-") for p in (root / "compose").glob("*.yml"))
            raise LayerError(f"no layer {name!r}; there are {', '.join(known)}")
        if found not in files:
            files.append(found)
    return ":".join(files)


def main() -> None:
    """Do what the options say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", metavar="NAMES", help="print COMPOSE_FILE with these layers")
    options = parser.parse_args()
    if options.layers is None:
        for line in prepare(ROOT):
            print(line)
        return
    file = ROOT / ".env"
    stored = values(file.read_text("utf-8")) if file.exists() else {}
    given = os.environ.get("COMPOSE_FILE") or stored.get("COMPOSE_FILE")
    try:
        print(layers(ROOT, options.layers.replace(",", " ").split(), given))
    except LayerError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
