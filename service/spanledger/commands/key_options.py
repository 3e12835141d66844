"""The options of `spanledger keys`: what a key can have, read and checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spanledger.budgets.model import Budget
from spanledger.commands.completion import customers, key_names, teams
from spanledger.commands.moments import parse_end
from spanledger.errors import UsageError
from spanledger.ledger.key_records import check_expiry
from spanledger.ledger.key_records import check_name as refuse_name
from spanledger.ledger.keys import Key, new_id
from spanledger.ledger.model import MAX_TAGS

NEVER = "never"
ALL = "all"
MAX_NAME = 128
MAX_NOTES = 32
MAX_NOTE = 512

Reference = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Id (key_…) or name of the key, or one of its secrets.",
        autocompletion=key_names,
    ),
]
KeyName = Annotated[
    str | None, typer.Option(help="What people call it, for commands; no other valid key has it.")
]
Customer = Annotated[
    str, typer.Option(help="Customer that pays for the key's requests.", autocompletion=customers)
]
Team = Annotated[str | None, typer.Option(help="Team within the customer.", autocompletion=teams)]
User = Annotated[
    str | None,
    typer.Option(help="User of all its requests; default: the one that a request names."),
]
DefaultUser = Annotated[
    str | None, typer.Option(help="User of its requests that name none; not with --user.")
]
Project = Annotated[
    str | None,
    typer.Option(help="Project of all its requests; default: the one that a request names."),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(help="Tag of all its requests, besides their own; may be repeated."),
]
Routes = Annotated[
    str | None, typer.Option(help="Routes it may use, separated by commas; default: all.")
]
ModelNames = Annotated[
    str | None,
    typer.Option(
        help="Providers' models its requests may be sent to, separated by commas, `*` for any text;"
        " default: all."
    ),
]
Expires = Annotated[
    str | None,
    typer.Option(help="When it ends: 90d from now, 2027-01-31, or with a time; default: never."),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="A note for people; may be repeated."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Configuration that must have the routes and models; default: spanledger.yaml here, if"
        " there is one.",
    ),
]
AllowPassThrough = Annotated[
    bool,
    typer.Option(
        "--allow-pass-through",
        help="Let it call any endpoint of a provider (/v1/PROVIDER/…), which no budget can limit.",
    ),
]
OwnLimit = Annotated[str | None, typer.Option(help="A budget of its own: USD per period, like 50.")]
NewExpires = Annotated[
    str | None,
    typer.Option(help=f"When it ends: 90d from now, 2027-01-31, or with a time; or {NEVER}."),
]
NewRoutes = Annotated[
    str | None, typer.Option(help=f"Routes it may use, separated by commas; or {ALL}.")
]
NewModels = Annotated[
    str | None,
    typer.Option(
        help="Providers' models its requests may be sent to, separated by commas, `*` for any text;"
        f" or {ALL}."
    ),
]
NewMetadata = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="A note; without a text, it is removed."),
]
NewPassThrough = Annotated[
    bool | None,
    typer.Option(
        "--allow-pass-through/--no-pass-through",
        help="Whether it may call any endpoint of a provider.",
    ),
]
FilterName = Annotated[
    str | None, typer.Option(help="With this in its id or name.", autocompletion=key_names)
]


def check_name(what: str, value: str) -> str:
    """Check that a name is safe in headers, labels and terminals. Raises UsageError."""
    if not value or len(value) > MAX_NAME or not value.isprintable() or value != value.strip():
        raise UsageError(f"{what} {value!r} must be 1 to {MAX_NAME} printable characters")
    if "`" in value:
        raise UsageError(
            f"{what} {value!r} must not contain a backtick: dashboards quote names with backticks"
        )
    if value == "*":
        raise UsageError(f"{what} '*' is reserved: it stands for every name")
    return value


def owner(what: str, value: str) -> str:
    """As in budgets: names that differ only in how accents are encoded are the same."""
    return unicodedata.normalize("NFC", check_name(what, value))


def names_of(given: Mapping[str, str | None]) -> dict[str, str]:
    """Names by option. An empty option is a script's unset variable, and must not mean "none"."""
    return {
        option: "" if value is None else owner(f"--{option.replace('_', '-')}", value)
        for option, value in given.items()
    }


def tags_of(given: Sequence[str]) -> tuple[str, ...]:
    """The tags of a key. Raises UsageError."""
    tags = tuple(dict.fromkeys(owner("--tag", each) for each in given))
    if len(tags) > MAX_TAGS:
        raise UsageError(f"--tag may be given {MAX_TAGS} times: a request has no more tags")
    return tags


def listed(option: str, given: str | None) -> tuple[str, ...]:
    """The names in a list with commas. Raises UsageError."""
    if given is None:
        return ()
    names = [name.strip() for name in given.split(",")]
    return tuple(dict.fromkeys(check_name(option, name) for name in names))


def models_of(given: str | None) -> tuple[str, ...]:
    """The models that a key may use. Raises UsageError."""
    if given is not None and "*" in [name.strip() for name in given.split(",")]:
        raise UsageError("--models: '*' alone allows every model; leave the option out for that")
    return listed("--models", given)


def metadata_of(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Notes by name. Raises UsageError."""
    found: dict[str, str] = {}
    for each in given:
        name, mark, text = each.partition("=")
        if not mark:
            raise UsageError(f"--metadata: {each!r} is not NAME=TEXT")
        found[note_name(name)] = note(name, text)
    if len(found) > MAX_NOTES:
        raise UsageError(f"--metadata: a key has at most {MAX_NOTES}")
    return tuple(sorted(found.items()))


def note_name(name: str) -> str:
    """A note's name. Raises UsageError."""
    return check_name("--metadata name", name)


def note(name: str, text: str) -> str:
    """A note's text. Raises UsageError."""
    if len(text) > MAX_NOTE or not text.isprintable():
        raise UsageError(f"--metadata {name}: write at most {MAX_NOTE} printable characters")
    return text


def new_key(has: Mapping[str, Any], expires: str | None, now_ns: int) -> Key:
    """A key with these fields. Raises UsageError."""
    key = Key(
        id=new_id(),
        created_ns=now_ns,
        revoked_ns=None,
        expires_ns=None if expires is None else parse_end(expires, "--expires", now_ns),
        **has,
    )
    check_together(key)
    refuse_name(key.name)
    check_expiry(key.expires_ns, now_ns)
    return key


def check_together(key: Key) -> None:
    """Refuse what contradicts itself. Raises UsageError."""
    if key.user and key.default_user:
        raise UsageError("--default-user has no effect with --user, which all requests have")
    if key.pass_through and key.models:
        raise UsageError(
            "--allow-pass-through contradicts --models: nobody knows which models a provider's own"
            " endpoint uses"
        )


def budget_for(key: Key, given: Mapping[str, Any]) -> Budget | None:
    """The key's own budget, if options say one. Raises UsageError."""
    from spanledger.commands.budget_edits import OPTION_LABELS
    from spanledger.config import budget_of, validate_budget

    entry = {option: value for option, value in given.items() if value is not None}
    if not entry:
        return None
    if "limit" not in entry:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in entry)
        raise UsageError(f"{options}: that is of the key's budget; add its --limit")
    name = f"key-{key.name}" if key.name else key.id
    return budget_of(validate_budget({"name": name, "key": key.id, **entry}, OPTION_LABELS))
