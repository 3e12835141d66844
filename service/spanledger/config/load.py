"""Reads a configuration: one frozen `Config`, checked whole before anything runs.

The only reader of files and environment. An unknown key of ours is an error with the nearest
valid name; a key of LiteLLM's we do not support is reported in one warning.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from spanledger.config.budgets import SUBJECTS, BudgetEntry
from spanledger.config.fields import nearest
from spanledger.config.sections import Config, RouterSettings
from spanledger.errors import ConfigError, UsageError

DEFAULT_CONFIG = Path("spanledger.yaml")
M = TypeVar("M", bound=BaseModel)

LITELLM_SECTIONS = (
    "litellm_settings",
    "general_settings",
    "environment_variables",
    "callback_settings",
    "credential_list",
    "mcp_servers",
    "guardrails",
    "vector_store_registry",
)
"""Top-level keys of a LiteLLM proxy file that are accepted, and reported where they hold keys."""


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.

    `SPANLEDGER_LEDGER_URL` in the environment overrides `ledger.url`.

    Raises:
        ConfigError: with every problem found, one a line, each with its place in the file.
    """
    return parse_config(read_yaml(path), os.environ if environ is None else environ, str(path))


def load_budgets(path: Path) -> tuple[BudgetEntry, ...]:
    """Read `budgets.yaml`: a list of budgets, or a mapping with a `budgets` list.

    Raises:
        ConfigError: as `load_config`.
    """
    data = read_yaml(path)
    entries = data.get("budgets") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected a list of budgets, or `budgets:` with a list")
    return parse_config({"budgets": entries}, {}, str(path)).budgets


def validate_budget(data: Mapping[str, Any]) -> BudgetEntry:
    """Check one budget given on the command line. Raises UsageError."""
    given = {key: value for key, value in data.items() if value is not None}
    try:
        return parse_config({"budgets": [given]}, {}, "").budgets[0]
    except ConfigError as error:
        lines = (
            line.removeprefix(": ").removeprefix("budgets.0.") for line in str(error).splitlines()
        )
        raise UsageError("\n".join(lines)) from None


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises ConfigError when it cannot be read or parsed."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = "give one with --config, or print one to begin with: spanledger config example"
        missing = f"; {hint}" if path == DEFAULT_CONFIG else ""
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}{missing}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path} is not valid YAML: {where}{error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is not valid YAML: it is nested too deep") from None


def parse_config(data: Any, environ: Mapping[str, str], source: str) -> Config:
    """Check a parsed file. Raises ConfigError."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected a mapping at the top, got {type(data).__name__}")
    data = {key: value for key, value in data.items() if value is not None}  # a bare `budgets:`
    foreign = {key: data.pop(key) for key in LITELLM_SECTIONS if key in data}
    data["router_settings"] = _router_settings(data, foreign)
    data["model_list"] = [_from_environ(e, environ, source) for e in data.get("model_list") or ()]
    if url := environ.get("SPANLEDGER_LEDGER_URL"):
        data["ledger"] = {**(data.get("ledger") or {}), "url": url}
    data.pop("warnings", None)
    config = _validated(Config, data, source)
    _check_references(config, source)
    return config.model_copy(update={"warnings": tuple(_unsupported(config, foreign))})


def _router_settings(data: dict[str, Any], foreign: dict[str, Any]) -> dict[str, Any]:
    """LiteLLM reads the same routing keys from `litellm_settings`; ours from both, too."""
    settings = foreign.get("litellm_settings")
    shared = settings if isinstance(settings, dict) else {}
    taken = {key: shared.pop(key) for key in RouterSettings.model_fields if key in shared}
    if "request_timeout" in shared:
        taken.setdefault("timeout", shared.pop("request_timeout"))
    return {**taken, **(data.get("router_settings") or {})}


def _from_environ(value: Any, environ: Mapping[str, str], source: str) -> Any:
    """Replace LiteLLM's `os.environ/NAME` strings by the variable's value."""
    if isinstance(value, dict):
        return {key: _from_environ(item, environ, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_environ(item, environ, source) for item in value]
    if isinstance(value, str) and value.startswith("os.environ/"):
        name = value.removeprefix("os.environ/")
        if name not in environ:
            raise ConfigError(f"{source}: the variable {name} is not set; export it first")
        return environ[name]
    return value


def _check_references(config: Config, source: str) -> None:
    routes = [entry.model_name for entry in config.model_list]
    problems = []
    settings = config.router_settings
    for name in ("fallbacks", "context_window_fallbacks"):
        for mapping in getattr(settings, name):
            for key, targets in mapping.items():
                problems += [
                    f"router_settings.{name}: no deployment has model_name {route!r}"
                    + nearest(route, routes)
                    for route in (key, *targets)
                    if route not in routes
                ]
    problems += [
        f"router_settings.default_fallbacks: no deployment has model_name {route!r}"
        + nearest(route, routes)
        for route in settings.default_fallbacks
        if route not in routes
    ]
    ids = [entry.model_info.id for entry in config.model_list if entry.model_info.id]
    problems += [
        f"model_info.id {i!r} is used twice" for i in sorted({i for i in ids if ids.count(i) > 1})
    ]
    names = [budget.name for budget in config.budgets]
    problems += [
        f"budget {n!r} is set twice" for n in sorted({n for n in names if names.count(n) > 1})
    ]
    for budget in config.budgets:
        subjects = [s for s in SUBJECTS if getattr(budget, s)]
        # `customer:` with nothing behind it must not become a limit on everybody together.
        problems += [
            f"budget {budget.name!r}: {s} is empty; name one, write '*' for each, or leave it out"
            for s in SUBJECTS
            if s in budget.model_fields_set and s not in subjects
        ]
        if len(subjects) > 1:
            problems.append(f"budget {budget.name!r} names {' and '.join(subjects)}; choose one")
    if problems:
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems))


def _unsupported(config: Config, foreign: dict[str, Any]) -> list[str]:
    """Keys of LiteLLM's that have no effect here, dotted, sorted."""
    found: set[str] = set()
    for section, value in foreign.items():
        if isinstance(value, dict):
            found |= {f"{section}.{key}" for key in value}
        elif value:
            found.add(section)
    # LiteLLM has many more keys here; only a near miss of one of ours can be a slip of the pen.
    for key in config.router_settings.model_extra or ():
        slip = difflib.get_close_matches(key, RouterSettings.model_fields, n=1, cutoff=0.85)
        found.add(f"router_settings.{key}" + (f" (did you mean {slip[0]!r}?)" if slip else ""))
    for entry in config.model_list:
        found |= {f"model_list.{key}" for key in entry.model_extra or ()}
    return sorted(found)


def _validated(model: type[M], data: dict[str, Any], source: str) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_describe(model, item) for item in error.errors(include_input=False)]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def _describe(model: type[BaseModel], item: Any) -> str:
    """One validation problem as `place: what is wrong; what to write instead`."""
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        fields = _fields_at(model, parents)
        return f"unknown key {place!r}{nearest(str(key), fields)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}"


def _fields_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """The valid keys of the section that `path` leads to."""
    current = model
    for part in path:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        current = next(
            kind
            for kind in (annotation, *getattr(annotation, "__args__", ()))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return list(current.model_fields)
