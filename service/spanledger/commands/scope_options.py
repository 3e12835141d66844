"""Options for subjects: one for each scope, made from the table of scopes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from spanledger.budgets.scopes import SCOPES, Scope
from spanledger.commands.completion import (
    Complete,
    customers,
    of_keys,
    teams,
    valid_keys,
)

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
