"""What keys may use, compared with a gateway's configuration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spanledger.commands.gateway import may_be, read_config
from spanledger.config import DEFAULT_CONFIG, nearest, served_by
from spanledger.errors import UsageError
from spanledger.ledger.keys import state_of

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.ledger.keys import Key
    from spanledger.routing.plan import Plan

MAX_WARNED_OF = 20
"""Keys that are warned about one by one at a start."""


def check_allowed(file: Path | None, routes: Sequence[str], models: Sequence[str]) -> None:
    """Refuse routes and models that a configuration does not have.

    Without a file, the one that a gateway started here would read is taken, if there is one that can be
    read.

    Raises:
        ConfigError: the given file cannot be read.
        UsageError: lists all of them.
    """
    if not (routes or models):
        return
    chosen = file or DEFAULT_CONFIG
    if file is None and not chosen.exists():
        return
    config, plan, problems = read_config(chosen, os.environ)
    if plan is None or problems:
        if file is None:
            return
        raise UsageError("\n".join(problems))
    lines = [*unknown_routes(config, plan, routes), *unknown_models(config, plan, models)]
    if lines:
        other = "" if file else "; --config names another file"
        raise UsageError("\n".join(f"{line} (in {chosen}{other})" for line in lines))


def unknown_routes(config: Config, plan: Plan, routes: Iterable[str]) -> Iterator[str]:
    """A line for each route that no caller could ask for."""
    names = [entry.model_name for entry in config.model_list]
    wildcards = [name for name in names if "*" in name]
    aliases = config.router_settings.aliases
    for route in routes:
        if route in plan.routes or served_by(route, wildcards) is not None:
            continue
        if route in aliases:
            yield f"--routes: {route!r} is an alias; name its route, {aliases[route]!r}"
        else:
            yield f"--routes: no deployment has model_name {route!r}{nearest(route, names)}"


def unknown_models(config: Config, plan: Plan, models: Iterable[str]) -> Iterator[str]:
    """A line for each model that no deployment has."""
    given = [entry.litellm_params.model for entry in config.model_list]
    # Also of deployments that are off; the name has no prefix of a provider.
    has = {name for each in given for name in (each, each.partition("/")[2]) if "*" not in name}
    has |= {name for d in plan.deployments for name in (d.model, d.label)}
    has -= {"", "*"}
    wildcards = [each for each in given if "*" in each]

    from spanledger.routing.models import means

    for model in models:
        known = any(means(model, name) for name in has)
        if not (known or any("*" in model or may_be(model, name) for name in wildcards)):
            yield (
                f"--models: no deployment has the model {model!r}{nearest(model, sorted(has))}; it is"
                " the provider's name, such as gpt-4o-mini"
            )


def unmatched_keys(config: Config, plan: Plan, keys: Iterable[Key], now_ns: int) -> list[str]:
    """A warning for each valid key that may use what does not exist."""
    lines = []
    for key in keys:
        if state_of(key, (), now_ns) != "valid":
            continue
        wrong = [
            *unknown_routes(config, plan, key.routes),
            *unknown_models(config, plan, key.models),
        ]
        lines += [f"key {key.shown}: {line.partition(': ')[2]}" for line in wrong]
    more = len(lines) - MAX_WARNED_OF
    return (
        lines
        if more <= 0
        else [*lines[:MAX_WARNED_OF], f"{more} more such routes or models of keys"]
    )
