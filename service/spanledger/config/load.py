"""Reads a configuration: one frozen `Config`, fully validated before anything runs.

All mistakes of a file are collected and reported at once, each with its place and, for an unknown
name, the nearest valid one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spanledger.budgets.scopes import EACH, SCOPE_NAMES
from spanledger.config import litellm, litellm_keys
from spanledger.config.addresses import ledger_url, server_url
from spanledger.config.budgets import BudgetEntry, mistakes_of, subjects_of
from spanledger.config.fields import nearest
from spanledger.config.litellm import Environment, Problems
from spanledger.config.litellm_budgets import budgets_of
from spanledger.config.notice_entries import ALERT_KEYS, notices_of
from spanledger.config.pricing import PricingSettings
from spanledger.config.reading import read_yaml, with_includes
from spanledger.config.sections import (
    DEFAULT_LEDGER_URL,
    Config,
    GatewaySettings,
    LedgerSettings,
    ModelEntry,
    RouterSettings,
    TelemetrySettings,
)
from spanledger.config.validation import validated
from spanledger.errors import ConfigError, UsageError

_OURS: dict[str, type[BaseModel]] = {
    "gateway": GatewaySettings,
    "ledger": LedgerSettings,
    "pricing": PricingSettings,
    "telemetry": TelemetrySettings,
}
_TOP = [*Config.model_fields, *litellm_keys.keys_of(litellm_keys.TOP)]


_ASIDE = ("telemetry", "ledger", "notices", "environment_variables")
_LEDGER_VARIABLES = (
    ("SPANLEDGER_LEDGER_URL", "url", ledger_url, DEFAULT_LEDGER_URL),
    ("SPANLEDGER_LEDGER_DIRECT_URL", "direct_url", server_url, ""),
)
"""Variable, field, check, and what stands in for a URL that cannot be used."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The valid part of a file, and all its problems."""

    config: Config
    problems: tuple[str, ...]


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.

    `SPANLEDGER_LEDGER_URL` in the environment overrides `ledger.url`, and `SPANLEDGER_LEDGER_DIRECT_URL`
    `ledger.direct_url`.

    Raises:
        ConfigError: with every problem found, one per line, each with its place in the file.
    """
    return _whole(draft_config(path, environ), str(path))


def draft_config(path: Path, environ: Mapping[str, str] | None = None) -> Draft:
    """Read a file and keep its valid part, for commands that list all problems.

    Raises:
        ConfigError: it cannot be read, or is not a mapping.
    """
    data = read_yaml(path)
    if isinstance(data, dict) and "include" in data:
        data = with_includes(data, path)
    return _draft(data, os.environ if environ is None else environ, str(path))


def parse_config(data: Any, environ: Mapping[str, str], source: str) -> Config:
    """Validate a parsed file. Raises ConfigError."""
    return _whole(_draft(data, environ, source), source)


def load_aside(path: Path, environ: Mapping[str, str]) -> Config:
    """The sections that processes next to the gateway need: where the ledger is, and what they send.
    Deployments refer to providers' keys, which those processes do not have.

    Raises:
        ConfigError: as in `load_config`.
    """
    data = read_yaml(path)
    if isinstance(data, dict):
        data = with_includes(data, path) if "include" in data else data
        general = litellm.section_of(data, "general_settings", None)
        data = {
            **{name: value for name, value in data.items() if name in _ASIDE},
            "general_settings": {n: v for n, v in general.items() if n in ALERT_KEYS},
        }
    return parse_config(data, environ, str(path))


def load_budgets(path: Path) -> tuple[BudgetEntry, ...]:
    """Read `budgets.yaml`: a list of budgets, or a mapping with a `budgets` list.

    Raises:
        ConfigError: as in `load_config`.
    """
    data = read_yaml(path)
    entries = data.get("budgets") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected a list of budgets, or a `budgets:` key with a list")
    return parse_config({"budgets": entries}, {}, str(path)).budgets


def validate_budget(data: Mapping[str, Any], labels: Mapping[str, str] = {}) -> BudgetEntry:
    """Validate a budget given on the command line.

    Args:
        labels: what the command calls a key; by default `--key`, and NAME for the name.

    Raises:
        UsageError: with every problem, each with the option that it is about.
    """
    given = {key: value for key, value in data.items() if value is not None}
    try:
        return parse_config({"budgets": [given]}, {}, "").budgets[0]
    except ConfigError as error:
        lines = (line.removeprefix(": ") for line in str(error).splitlines())
        raise UsageError("\n".join(_of_option(line, labels) for line in lines)) from None


def _of_option(problem: str, labels: Mapping[str, str]) -> str:
    """A budget's problem, with the option in place of the key and of the position in its list."""
    place, colon, what = problem.partition(": ")
    if not place.startswith("budgets.0."):
        return problem
    key = place.split(".")[2]
    option = "NAME" if key == "name" else f"--{key.replace('_', '-')}"
    return f"{labels.get(key) or option}{colon}{what}"


def _whole(draft: Draft, source: str) -> Config:
    if draft.problems:
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in draft.problems))
    return draft.config


def _draft(data: Any, environ: Mapping[str, str], source: str) -> Draft:
    try:
        return _read(data, environ, source)
    except RecursionError:
        raise ConfigError(f"{source}: a value contains itself, or is nested too deeply") from None


def _read(data: Any, environ: Mapping[str, str], source: str) -> Draft:
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected a mapping at the top, got {type(data).__name__}")
    data = {key: value for key, value in data.items() if value is not None}  # a bare `budgets:`
    problems = Problems()
    _check_top(data, problems)
    environment = Environment(environ, data.get("environment_variables"), problems)
    router = litellm.router_settings(data, environment, problems)
    found: dict[str, Any] = {
        "model_list": _entries(data, environment, router, problems),
        "router_settings": validated(RouterSettings, router, "router_settings", problems),
        "budgets": _budgets(data, environment, problems),
        "notices": notices_of(data, environment, problems),
        "drop_params": litellm.drop_params(data),
        "variables": environment.own,
    }
    addresses = _ledger_of(environ, problems)
    for name, model in _OURS.items():
        section = data.get(name, {})
        if name == "ledger" and addresses and isinstance(section, dict):
            section = {**section, **addresses}
        users = litellm.user_headers(data) if name == "gateway" else []
        if users and isinstance(section, dict):
            section = {"user_headers": users, **section}
        found[name] = validated(model, section, name, problems)
    litellm.review(data, problems)
    config = Config.model_construct(
        **{key: value for key, value in found.items() if value is not None},
        warnings=tuple(dict.fromkeys(problems.warnings)),
    )
    _check_references(config, _named_routes(data), problems)
    return Draft(config, tuple(dict.fromkeys(problems)))


def _ledger_of(environ: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """The ledger's URLs of the environment; one that cannot be used is a problem, and the default
    stands in for it."""
    found: dict[str, str] = {}
    for name, field, check, default in _LEDGER_VARIABLES:
        if not (url := environ.get(name)):
            continue
        try:
            found[field] = check(url)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            found[field] = default
    return found


def _check_top(data: Mapping[Any, Any], problems: Problems) -> None:
    """Unknown sections: one close to a known name is an error, any other is a warning."""
    for key in data:
        if key in _TOP:
            continue
        near = nearest(str(key), _TOP, cutoff=0.75)
        if near or not isinstance(key, str):
            problems.append(f"unknown key {str(key)!r}{near}")
        else:
            problems.warnings.append(f"{key} has no effect: the section is unknown")
    problems.extend(
        f"unknown key {name!r}" for name in ("drop_params", "variables", "warnings") if name in data
    )


def _entries(
    data: Mapping[Any, Any],
    environment: Environment,
    router: dict[str, Any],
    problems: Problems,
) -> tuple[ModelEntry, ...]:
    entries = data.get("model_list", [])
    credentials = litellm.credentials_of(data.get("credential_list"), problems)
    defaults = router.pop("default_litellm_params", {})
    if not isinstance(defaults, dict):
        problems.append("router_settings.default_litellm_params: expected a mapping")
        defaults = {}
    if not isinstance(entries, list):
        problems.append(f"model_list: expected a list of deployments, got {type(entries).__name__}")
        return ()
    found = []
    for index, entry in enumerate(entries):
        place = f"model_list.{index}"
        if entry is None:
            continue
        shaped = litellm.entry_of(entry, place, environment, credentials, defaults, problems)
        if (model := validated(ModelEntry, shaped, place, problems)) is not None:
            found.append(model.at(index))
    return tuple(found)


def _budgets(
    data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> tuple[BudgetEntry, ...]:
    entries = data.get("budgets", [])
    if not isinstance(entries, list):
        problems.append(f"budgets: expected a list of budgets, got {type(entries).__name__}")
        entries = []
    placed = [(f"budgets.{index}", entry) for index, entry in enumerate(entries)]
    placed += budgets_of(data, environment, problems)
    found = [validated(BudgetEntry, entry, place, problems) for place, entry in placed]
    # A missing or wrong limit must not hide another mistake of the same budget.
    limited = [(p, {**entry, "limit": "0"}) for p, entry in placed if isinstance(entry, dict)]
    named = [(p, validated(BudgetEntry, entry, "", Problems())) for p, entry in limited]
    _check_budgets([budget for _, budget in named if budget is not None], problems)
    for place, budget in named:
        mistakes = [] if budget is None else mistakes_of(budget)
        problems.extend(f"{place}.{part}: {text}" for part, text in mistakes)
    return tuple(b for b in found if b is not None and not mistakes_of(b))


def _named_routes(data: Mapping[Any, Any]) -> list[str]:
    """Routes that the file names, including those of invalid entries: they are not missing."""
    entries = data.get("model_list")
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("model_name") for entry in listed if isinstance(entry, dict)]
    return [name for name in names if isinstance(name, str)]


def _check_references(config: Config, served: list[str], problems: Problems) -> None:
    _check_routes(config, served, problems)
    ids = [entry.model_info.id for entry in config.model_list if entry.model_info.id]
    problems.extend(
        f"model_info.id {i!r} is used twice" for i in sorted({i for i in ids if ids.count(i) > 1})
    )


def _check_budgets(budgets: Sequence[BudgetEntry], problems: Problems) -> None:
    """Names are unique, and subjects say whom they mean."""
    names = [budget.name for budget in budgets]
    problems.extend(
        f"budget {n!r} is set twice" for n in sorted({n for n in names if names.count(n) > 1})
    )
    for budget in budgets:
        subjects = subjects_of(budget)
        # `customer:` without a value must not become a limit on everybody together.
        problems.extend(
            f"budget {budget.name!r}: {s} is empty; name one, write '*' for every {s}, or remove it"
            for s in SCOPE_NAMES
            if s in budget.model_fields_set and s not in subjects
        )
        if budget.default and EACH not in subjects.values():
            problems.append(
                f"budget {budget.name!r}: only one for each subject ('*') can be a default; name '*', or"
                " remove default"
            )


def _check_routes(config: Config, served: list[str], problems: Problems) -> None:
    """Aliases and fallbacks must refer to routes that exist or that a wildcard serves."""
    settings = config.router_settings
    problems.extend(
        f"router_settings.model_group_alias.{alias}: no deployment has model_name {target!r}"
        + nearest(target, served)
        for alias, target in settings.aliases.items()
        if target not in served and not served_by(target, served)
    )
    routes = [*served, *settings.model_group_alias]
    named = [("default_fallbacks", route) for route in settings.default_fallbacks]
    named += [("model_group_retry_policy", route) for route in settings.model_group_retry_policy]
    for name in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        for mapping in getattr(settings, name):
            named += [
                (name, route)
                for key, targets in mapping.items()
                for route in (key, *targets)
                if route != "*" or route is not key
            ]
    for name, route in named:
        if route not in routes and not served_by(route, routes):
            problems.append(
                f"router_settings.{name}: no deployment has model_name {route!r}"
                + nearest(route, routes)
            )


def served_by(route: str, patterns: Sequence[str]) -> str | None:
    """The wildcard that serves a name: the most specific match."""
    matching = [p for p in patterns if "*" in p and matches(p, route) is not None]
    return max(matching, key=lambda p: (len(p.replace("*", "")), -p.count("*")), default=None)


def matches(pattern: str, name: str) -> tuple[str, ...] | None:
    """The text that each `*` of a pattern matches, as short as possible for all but the last; None
    if the name does not match. Linear in the name's length, unlike a regular expression."""
    first, *parts = pattern.split("*")
    if not name.startswith(first):
        return None
    rest, found = name[len(first) :], []
    for part in parts[:-1]:
        head, separator, rest = rest.partition(part)
        if not separator:
            return None
        found.append(head)
    last = parts[-1]
    if not rest.endswith(last):
        return None
    found.append(rest[: len(rest) - len(last)])
    return tuple(found)
