"""`spanledger keys list` and `keys history`: keys found by what they have, and how they became so."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import typer

from spanledger.commands import key_options as options
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    ColumnKind,
    LedgerUrl,
    console,
    format_time,
    local_time,
    new_table,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.completion import customers, key_names, teams
from spanledger.commands.moments import parse_duration
from spanledger.config.addresses import shown_ledger
from spanledger.errors import UsageError
from spanledger.ledger.key_records import moment
from spanledger.ledger.keys import STATES, Key, KeyChange, Secret, State, overlap_end, state_of

MAYBE = ("name", "user", "default_user", "project", "tags", "models")
"""Columns that are shown if any key has them."""
OF_PEOPLE = {
    "customer": "customer",
    "team": "team",
    "user": "user",
    "default user": "default_user",
    "project": "project",
    "tags": "tags",
    "routes": "routes",
    "models": "models",
    "name": "name",
    "expires": "expires_ns",
    "pass-through": "pass_through",
    "metadata": "metadata",
}
"""What a history says of a key, by its fields."""


class Shown(NamedTuple):
    """A key as of now."""

    key: Key
    state: State
    rotating_until_ns: int | None


def shown(key: Key, replaced: Sequence[Secret], now_ns: int) -> Shown:
    """A key with its state."""
    state = state_of(key, replaced, now_ns)
    return Shown(key, state, overlap_end(replaced, now_ns) if state == "rotating" else None)


def as_dict(found: Shown) -> dict[str, Any]:
    """A key as JSON."""
    key, state, until_ns = found
    return {
        "id": key.id,
        "name": key.name or None,
        "state": state,
        "customer": key.customer,
        "team": key.team or None,
        "user": key.user or None,
        "default_user": key.default_user or None,
        "project": key.project or None,
        "tags": list(key.tags),
        "routes": list(key.routes),
        "models": list(key.models),
        "pass_through": key.pass_through,
        "metadata": dict(key.metadata),
        "created_at": format_time(key.created_ns),
        "expires_at": format_time(key.expires_ns),
        "rotating_until": format_time(until_ns),
        "last_used_at": format_time(key.last_used_ns),
        "revoked_at": format_time(key.revoked_ns),
    }


def list_(
    name: options.FilterName = None,
    customer: Annotated[
        str | None, typer.Option(help="Of this customer.", autocompletion=customers)
    ] = None,
    team: Annotated[str | None, typer.Option(help="Of this team.", autocompletion=teams)] = None,
    user: Annotated[str | None, typer.Option(help="Of this user, also as the default.")] = None,
    project: Annotated[str | None, typer.Option(help="Of this project.")] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(STATES)}; may be repeated.")
    ] = None,
    expires_within: Annotated[
        str | None, typer.Option(help="That work now and expire within this time, like 14d.")
    ] = None,
    unused_for: Annotated[
        str | None, typer.Option(help="That no gateway has seen for this time, like 90d.")
    ] = None,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """List keys by age, the oldest first, including revoked ones; options narrow the list.

    A key's last use is known to within ten minutes.
    """
    with reporting_errors():
        now_ns = time.time_ns()
        for each in state or ():
            if each not in STATES:
                raise UsageError(f"--state: {each!r} is none of {', '.join(STATES)}")
        soon = (
            None if expires_within is None else parse_duration(expires_within, "--expires-within")
        )
        idle = None if unused_for is None else parse_duration(unused_for, "--unused-for")
        with store_of(ledger).records("read") as records:
            keys, replaced = records.keys(), records.replaced_secrets()
        found = [shown(key, replaced.get(key.id, ()), now_ns) for key in keys]

    def fits(each: Shown) -> bool:
        key = each.key
        ends = key.expires_ns or 0
        last = max(key.last_used_ns or 0, key.created_ns)
        return (
            (name is None or name in key.id or name in key.name)
            and customer in (None, key.customer)
            and team in (None, key.team)
            and user in (None, key.user or key.default_user)
            and project in (None, key.project)
            and (tag is None or tag in key.tags)
            and (not state or each.state in state)
            and (soon is None or (_works(each) and 0 < ends <= now_ns + soon))
            and (idle is None or (_works(each) and last <= now_ns - idle))
        )

    chosen = list(filter(fits, found))
    if json:
        print_json([as_dict(each) for each in chosen])
    elif not keys:
        typer.echo(
            f"no keys yet in {shown_ledger(ledger)}: the gateway serves only this machine; see `keys create`"
        )
    elif not chosen:
        typer.echo(f"none of {len(keys)} keys is like that")
    else:
        _print_table(chosen)


def _works(each: Shown) -> bool:
    return each.state in ("valid", "rotating")


def _print_table(found: Sequence[Shown]) -> None:
    from rich.markup import escape

    more = [name for name in MAYBE if any(getattr(each.key, name) for each in found)]
    ends = any(each.key.expires_ns for each in found)
    columns: dict[str, ColumnKind] = {"id": "keep"}
    if "name" in more:
        columns["name"] = "fold"
    columns |= {"customer": "fold", "team": "fold"}
    columns |= {name.replace("_", " "): "fold" for name in more if name != "name"}
    columns |= {"routes": "fold", "pass-through": "keep", "created": "keep", "last used": "keep"}
    columns |= {"expires": "keep"} if ends else {}
    table = new_table({**columns, "state": "keep"})
    for each in found:
        key = each.key
        texts = {
            "id": key.id,
            "routes": ", ".join(key.routes) or "all",
            "models": ", ".join(key.models) or "all",
            "pass-through": "yes" if key.pass_through else "-",
            "created": local_time(key.created_ns),
            "last used": local_time(key.last_used_ns),
            "expires": local_time(key.expires_ns),
        }
        cells = [texts.get(name) or _text(key, name) for name in columns]
        table.add_row(*(escape(cell) for cell in cells), _state_text(each))
    console().print(table)


def _text(key: Key, column: str) -> str:
    value: str | tuple[str, ...] = getattr(key, column.replace(" ", "_"))
    return (value if isinstance(value, str) else ", ".join(value)) or "-"


def _state_text(each: Shown) -> str:
    if each.state == "revoked":
        return f"revoked {local_time(each.key.revoked_ns)}"
    if each.state == "rotating":
        return f"rotating until {local_time(each.rotating_until_ns)}"
    return each.state


# history ----------------------------------------------------------------------------------


def history(
    key: Annotated[
        str,
        typer.Argument(help="Id or name of a key; default: all.", autocompletion=key_names),
    ] = "",
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show every change of the keys, oldest first: what changed, how, and by which user of the machine.

    Keys from before this was recorded have no line for how they began.
    """
    with reporting_errors(), store_of(ledger).records("read") as records:
        changes = records.key_history(records.key(key).id if key else None)
    now_ns = time.time_ns()
    before: dict[str, Key] = {}
    lines = []
    for change in changes:
        lines.append((change, _changes(before.get(change.key.id), change)))
        before[change.key.id] = change.key
    if json:
        print_json([_change_as_dict(change, texts, now_ns) for change, texts in lines])
        return
    for change, texts in lines:
        by = change.by
        author = f" ({by.way}{by.file and f' {by.file}'}, {by.who})" if by.way else ""
        typer.echo(
            f"{format_time(change.at_ns)}  {change.change:<6}  {change.key.shown}:"
            f" {', '.join(texts)}{author}"
        )


def _change_as_dict(change: KeyChange, texts: Sequence[str], now_ns: int) -> dict[str, Any]:
    key = as_dict(shown(replace(change.key, last_used_ns=None), (), now_ns))
    for name in ("state", "rotating_until", "last_used_at"):
        key.pop(name)
    return {
        "at": format_time(change.at_ns),
        "change": change.change,
        **{name: value or None for name, value in change.by._asdict().items()},
        **key,
        "old_secret_until": format_time(change.until_ns),
        "changes": list(texts),
    }


def _changes(before: Key | None, change: KeyChange) -> list[str]:
    """What a change was, in words."""
    if change.change == "revoke":
        return ["revoked"]
    if change.change == "rotate":
        assert change.until_ns is not None
        return [f"a new secret; the one before works until {moment(change.until_ns)}"]
    had = {} if before is None else _fields(before)
    has = _fields(change.key)
    if before is None or change.change != "set":
        return [f"{name} {text}" for name, text in has.items() if text]
    return [
        f"{name} {had[name] or '-'} → {text or '-'}"
        for name, text in has.items()
        if text != had[name]
    ]


def _fields(key: Key) -> Mapping[str, str]:
    return {name: _written(field, getattr(key, field)) for name, field in OF_PEOPLE.items()}


def _written(field: str, value: Any) -> str:
    if field == "expires_ns":
        return "" if value is None else moment(value)
    if field == "metadata":
        return _joined(f"{name}={text}" for name, text in value)
    if isinstance(value, bool):
        return "yes" if value else ""
    return value if isinstance(value, str) else _joined(value)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)
