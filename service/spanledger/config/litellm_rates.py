"""The rates of a LiteLLM file as rates of ours. Mistakes are collected, never raised.

LiteLLM's limits are on its keys, users and teams, which are in its database. A file has what new ones get:
here, what each has that no other rate names. A limit by model is one by route, which is what LiteLLM means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spanledger.config.litellm import Environment, Problems, section_of

DEFAULT_PARAMS = (
    ("default_key_generate_params", "key"),
    ("default_team_params", "team"),
    ("default_internal_user_params", "user"),
)
"""Sections of `litellm_settings`, and whom their limits are for."""
LITELLM_LIMITS = ("rpm_limit", "tpm_limit", "max_parallel_requests")
BY_MODEL = {"model_rpm_limit": "rpm_limit", "model_tpm_limit": "tpm_limit"}


def rates_of(
    data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> list[tuple[str, dict[str, Any]]]:
    """All rates of a LiteLLM file as entries of ours, each with its place."""
    found = []
    for place, entry in _written(data, problems):
        unset = list[str]()
        resolved = {key: environment.resolve(value, unset) for key, value in entry.items()}
        if unset:
            problems.append(f"{place}: the environment variable {unset[0]} is not set")
        else:
            found.append((place, resolved))
    return found


def _written(data: Mapping[Any, Any], problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    settings = section_of(data, "litellm_settings", None)
    for section, scope in DEFAULT_PARAMS:
        given, place = settings.get(section), f"litellm_settings.{section}"
        if given is None:
            continue
        if not isinstance(given, dict):
            problems.append(f"{place}: expected a mapping, got {type(given).__name__}")
            continue
        limits = {key: given[key] for key in LITELLM_LIMITS if given.get(key) is not None}
        problems.warnings.extend(
            f"{place}.{key} has no effect: it is read for rates only"
            for key in given
            if key not in LITELLM_LIMITS and key not in BY_MODEL
        )
        each = {"name": f"litellm-{scope}", scope: "*", "default": True}
        if limits:
            yield place, {**each, **limits}
        for route, limits in _by_model(given, place, problems).items():
            yield place, {**each, "name": f"litellm-{scope}-{route}", "route": route, **limits}
    most = section_of(data, "general_settings", None).get("global_max_parallel_requests")
    if most is not None:
        entry = {"name": "litellm-global", "max_parallel_requests": most}
        yield "general_settings.global_max_parallel_requests", entry


def _by_model(
    given: Mapping[Any, Any], place: str, problems: Problems
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, limit in BY_MODEL.items():
        limits = given.get(key)
        if limits is None:
            continue
        if not isinstance(limits, dict):
            problems.append(f"{place}.{key}: expected a mapping from models to limits")
            continue
        for route, value in limits.items():
            found.setdefault(str(route), {})[limit] = value
    return found
