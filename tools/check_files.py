"""Check that this user can read a folder's files, and explain what to do if not.

Part of the image, where it runs as the services' user before they start, so it only imports the
standard library.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SHOWN = 5
CONFIG = "SPANLEDGER_CONFIG"
"""Mounted under its variable's name, because it is the only file that can be anywhere."""


def unreadable(root: Path) -> list[str]:
    """The unreadable files and folders below `root`, relative to it."""
    found = []

    def note(error: OSError) -> None:
        found.append(error.filename)

    for folder, _, names in os.walk(root, onerror=note):
        paths = (os.path.join(folder, name) for name in names)  # noqa: PTH118 - starts in 10 ms
        found += [path for path in paths if not os.access(path, os.R_OK)]
    return sorted(os.path.relpath(path, root) for path in found)


def problem(root: Path) -> str | None:
    """What is wrong and how to fix it, or None."""
    if (root / CONFIG).is_dir():
        return f"{CONFIG} names a folder; set it to a configuration file in .env"
    if not (names := unreadable(root)):
        return None
    shown = "\n".join(f"  {name}" for name in names[:SHOWN])
    more = f"\n  and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    folders = sorted({name.partition("/")[0] for name in names})
    return (
        f"the containers' users cannot read these files:\n{shown}{more}\n"
        f"In the folder of docker-compose.yml, run: chmod -R a+rX {' '.join(folders)}"
    )


def main(arguments: list[str]) -> None:
    """Check the given folder."""
    if len(arguments) != 1:
        raise SystemExit("usage: check_files.py FOLDER")
    if found := problem(Path(arguments[0])):
        raise SystemExit(f"error: {found}")


if __name__ == "__main__":
    main(sys.argv[1:])
