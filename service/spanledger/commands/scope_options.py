"""Options for the subject of a budget: one for each scope, made from the table of scopes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from spanledger.budgets.scopes import SCOPES, Scope
from spanledger.commands.completion import Complete, customers, teams, valid_keys

_COMPLETIONS: dict[str, Complete] = {"customer": customers, "key": valid_keys, "team": teams}
"""Names that the shell offers, by scope."""


def with_scopes(help_of: Callable[[Scope], str]) -> Callable[[Callable[..., None]], Any]:
    """Give a command an option for each scope, in the place of its parameter `subjects`.

    The command gets the given subjects, by the names of their scopes.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters = [
            parameter
            for known in signature.parameters.values()
            for parameter in (_options(help_of) if known.name == "subjects" else [known])
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


def _options(help_of: Callable[[Scope], str]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            scope.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    f"--{scope.name}",
                    help=help_of(scope),
                    autocompletion=_COMPLETIONS.get(scope.name),
                ),
            ],
        )
        for scope in SCOPES
    ]
