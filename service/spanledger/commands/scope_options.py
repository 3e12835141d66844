"""Options for subjects: one for each scope, made from the table of scopes."""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.budgets.scopes import SCOPES, Scope
from spanledger.commands.completion import (
    Complete,
    customers,
    of_keys,
    teams,
    valid_keys,
)
from spanledger.errors import UsageError

if TYPE_CHECKING:
    from spanledger.ledger.keys import Key
    from spanledger.ledger.records import Records

_COMPLETIONS: dict[str, Complete] = {
    "customer": customers,
    "key": valid_keys,
    "team": teams,
    "user": of_keys(lambda key: [key.user]),
    "project": of_keys(lambda key: [key.project]),
    "tag": of_keys(lambda key: key.tags),
}
"""Names that the shell offers, by scope."""


def with_scopes(
    help_of: Callable[[Scope], str], *, several: bool = False
) -> Callable[[Callable[..., None]], Any]:
    """Give a command an option for each scope, in the place of its parameter `subjects`.

    The command gets the given subjects, by the names of their scopes.

    Args:
        several: where a request may have several subjects of a scope, a list of them is given.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        options = [_option(scope, help_of(scope), several and scope.several) for scope in SCOPES]
        parameters = [
            parameter
            for known in signature.parameters.values()
            for parameter in (options if known.name == "subjects" else [known])
        ]

        @wraps(command)
        def run(**options: Any) -> None:
            given = {scope.name: options.pop(scope.name) for scope in SCOPES}
            subjects = {name: value for name, value in given.items() if value is not None}
            command(subjects=subjects, **options)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by `inspect`
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _option(scope: Scope, text: str, several: bool) -> inspect.Parameter:
    option = typer.Option(
        f"--{scope.name}",
        help=f"{text} May be repeated." if several else text,
        autocompletion=_COMPLETIONS.get(scope.name),
    )
    kind = Annotated[list[str] | None, option] if several else Annotated[str | None, option]
    return inspect.Parameter(
        scope.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind
    )


def known_subjects(
    subjects: Mapping[str, str | list[str]], records: Records
) -> dict[str, str | tuple[str, ...]]:
    """What options say of a request, as budgets and rates compare it, with what its key has.

    Raises:
        UsageError: there is no such key, or it has something else.
    """
    given = _normal(subjects)
    if "key" not in given:
        return given
    key = next((key for key in records.keys() if key.id == given["key"]), None)  # noqa: SIM118 - not a dict's
    if key is None:
        raise UsageError(f"there is no key {given['key']!r}; `spanledger keys list` shows all")
    return _with_key(given, key)


def _normal(subjects: Mapping[str, str | list[str]]) -> dict[str, str | tuple[str, ...]]:
    """What was given, as budgets compare it."""
    found: dict[str, str | tuple[str, ...]] = {}
    for scope in SCOPES:
        value = subjects.get(scope.name)
        if isinstance(value, list):
            found[scope.name] = tuple(unicodedata.normalize("NFC", each) for each in value)
        elif value:
            found[scope.name] = unicodedata.normalize("NFC", value) if scope.owner else value
    return found


def _with_key(
    given: Mapping[str, str | tuple[str, ...]], key: Key
) -> dict[str, str | tuple[str, ...]]:
    """With what the key has, which no request changes. Raises UsageError if something else is given."""
    has = {"customer": key.customer, "team": key.team, "user": key.user, "project": key.project}
    for name, value in has.items():
        if value and given.get(name, value) != value:
            raise UsageError(f"--{name} {given[name]}: the key {key.id} has {name} {value!r}")
        if name in ("customer", "team") and not value and name in given:
            raise UsageError(f"--{name} {given[name]}: the key {key.id} has no {name}")
    tags = (*key.tags, *given.get("tag", ()))
    usual = {"user": key.default_user} if key.default_user else {}
    return {
        **usual,
        **given,
        **{name: value for name, value in has.items() if value},
        "tag": tuple(dict.fromkeys(tags)),
    }
