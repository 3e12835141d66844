"""Write docs/commands.md from the command line itself, so it cannot go out of date.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from spanledger.cli import app

TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"

HEAD = """\
<!-- Written by tools/generate_command_docs.py; change the commands' own help texts. -->
# Commands

Every command that prints data has `--json`, in which amounts of money are decimal strings. Every
command that uses the ledger accepts `--ledger URL` or `SPANLEDGER_LEDGER_URL`; the default is the
ledger in `.spanledger/` in the working directory.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed; the reason is on stderr |
| 2 | usage error; the reason is on stderr |
| 3 | stopped by a budget |
| 4 | `apply --exit-code`: the file changes something |
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    parts = [section(path, command) for path, command in leaves(typer.main.get_command(app), ())]
    page = "\n".join([HEAD, *parts])
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{TARGET.name} is out of date: run `make generate` and commit it")


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All visible commands that are not groups, in the order of the help."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        if not child.hidden:
            yield from leaves(child, (*path, name))


def section(path: tuple[str, ...], command: Any) -> str:
    """One command: its usage, description and options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["spanledger", *path, *(placeholder(p) for p in arguments)])
    rows = [row(p) for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    lines = [f"## `spanledger {' '.join(path)}`\n", f"`{usage} [OPTIONS]`\n"]
    lines.append(inspect.cleandoc(command.help or "").replace("\f", "") + "\n")
    if rows:
        lines += ["| argument or option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def placeholder(argument: Any) -> str:
    """An argument as shown in a usage line."""
    name = str(argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def row(param: Any) -> str:
    """One line of a command's table."""
    is_option = param.param_type_name == "option"
    names = [*param.opts, *param.secondary_opts] if is_option else [placeholder(param)]
    text = " ".join((param.help or "").split())
    if param.envvar:
        variables = [param.envvar] if isinstance(param.envvar, str) else param.envvar
        text += " Environment: " + ", ".join(f"`{name}`" for name in variables) + "."
    default = shown_default(param)
    return f"| {', '.join(f'`{name}`' for name in names)} | {default} | {escaped(text)} |"


def shown_default(param: Any) -> str:
    """A default as a user would type it."""
    if param.required:
        return "required"
    value = param.default() if callable(param.default) else param.default
    if value is None or value in ((), [], "") or value is False:
        return ""
    if value is True:
        return "on"
    return f"`{escaped(str(getattr(value, 'value', value)))}`"


def escaped(text: str) -> str:
    """Text that does not break a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
