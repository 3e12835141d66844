"""Who changes budgets in this process, as the ledger's history names them."""

from __future__ import annotations

import os
import pwd

from spanledger.budgets.model import Author


def by_command() -> Author:
    """This user, by a command's options."""
    return Author("command", _user())


def by_file(file: str) -> Author:
    """This user, from a file."""
    return Author("file", _user(), file)


def _user() -> str:
    """The machine's name for the user; behind sudo, the one who called it. A container may have none."""
    uid = os.getuid()
    behind = os.environ.get("SUDO_USER", "")
    if uid == 0 and behind.isprintable() and behind:
        return behind
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
