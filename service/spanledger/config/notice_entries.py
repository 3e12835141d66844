"""Reads the section `notices`, or what a LiteLLM file has in its place. Mistakes are collected, never
raised, and never show a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spanledger.config.fields import nearest
from spanledger.config.litellm import Environment, Problems, section_of, without_nulls
from spanledger.config.notices import (
    KINDS,
    MAX_DESTINATIONS,
    AnyDestination,
    NoticeSettings,
    mistakes_of,
)
from spanledger.config.validation import validated

_ENVIRONMENT = "os.environ/"
_STAND_INS: dict[str, Any] = {
    "url": "https://unset.invalid/",
    "secrets": [f"whsec_{'A' * 32}"],
    "headers": {},
}
"""What an entry is checked with where a variable is not set, so that its other mistakes are found."""
ALERT_KEYS = ("alerting", "alert_types", "alert_to_webhook_url")
"""LiteLLM's keys of `general_settings` that are read here."""
LITELLM_VARIABLES = {"slack": "SLACK_WEBHOOK_URL", "webhook": "WEBHOOK_URL"}
"""Where LiteLLM sends its alerts, by the name that `alerting` has for it."""


def notices_of(
    data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> NoticeSettings:
    """The destinations of a file."""
    section = data.get("notices")
    if section is None:
        entries, place = _of_litellm(data, environment, problems), "general_settings.alerting"
    else:
        entries, place = _written(section, problems), "notices.destinations"
        if section_of(data, "general_settings", None).get("alerting"):
            problems.warnings.append(
                "general_settings.alerting has no effect: `notices` says who is told"
            )
    found = [
        destination
        for index, entry in enumerate(entries)
        if (destination := _destination(entry, f"{place}.{index}", environment, problems))
    ]
    names = [destination.name for destination in found]
    problems.extend(
        f"{place}: the name {n!r} is used twice"
        for n in sorted({n for n in names if names.count(n) > 1})
    )
    if len(entries) > MAX_DESTINATIONS:
        problems.append(
            f"{place}: there may be {MAX_DESTINATIONS} destinations, not {len(entries)}"
        )
    return NoticeSettings(destinations=tuple(found), variables=frozenset(_variables(entries)))


def _written(section: Any, problems: Problems) -> list[Any]:
    if not isinstance(section, dict):
        problems.append(f"notices: expected a mapping, got {type(section).__name__}")
        return []
    problems.extend(
        f"unknown key 'notices.{key}'{nearest(str(key), ['destinations'])}"
        for key in section
        if key != "destinations"
    )
    entries = section.get("destinations")
    if entries is not None and not isinstance(entries, list):
        problems.append(f"notices.destinations: expected a list, got {type(entries).__name__}")
        return []
    return entries or []


def _destination(
    entry: Any, place: str, environment: Environment, problems: Problems
) -> AnyDestination | None:
    if not isinstance(entry, dict):
        problems.append(f"{place}: expected a mapping, got {type(entry).__name__}")
        return None
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        given = "it is missing" if kind is None else f"got {str(kind)[:64]!r}"
        hint = nearest(kind, list(KINDS)) if isinstance(kind, str) else ""
        problems.append(f"{place}.kind: expected webhook, slack or mail; {given}{hint}")
        return None
    shaped, usable = {}, True
    for key, value in without_nulls(entry).items():
        unset: list[str] = []
        shaped[key] = environment.resolve(value, unset)
        if unset:
            usable = False
            shaped[key] = _STAND_INS.get(key, value)
            problems.warnings.extend(
                f"{place} ({str(entry.get('name'))[:64]}) is off: {key} needs the environment variable"
                f" {name}, which is not set"
                for name in unset
            )
    found = validated(KINDS[kind], _shaped(shaped, place, problems), place, problems)
    if found is None:
        return None
    mistakes = mistakes_of(found)
    reported = tuple(problems)
    problems.extend(
        f"{place}.{part}: {text}"
        for part, text in mistakes
        if not any(problem.startswith(f"{place}.{part}") for problem in reported)
    )
    return found if usable and not mistakes else None


def _shaped(entry: dict[Any, Any], place: str, problems: Problems) -> dict[Any, Any]:
    """An entry whose secrets are texts, however YAML has read them: a message about a wrong type would
    show the value."""
    shaped = dict(entry)
    for key in ("url", "password"):
        if key in shaped:
            shaped[key] = _text(shaped[key])
    if (secrets := shaped.get("secrets")) is not None:
        shaped["secrets"] = [
            _text(s) for s in (secrets if isinstance(secrets, list) else [secrets])
        ]
    if (headers := shaped.get("headers")) is not None:
        if not isinstance(headers, dict):
            problems.append(f"{place}.headers: expected a mapping of names to values")
            headers = {}
        shaped["headers"] = {name: _text(value) for name, value in headers.items()}
    return shaped


def _text(value: Any) -> Any:
    return value if isinstance(value, dict | list) else str(value)


def _variables(value: Any) -> Iterator[str]:
    """The names of all variables that a value refers to."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _variables(item)
    elif isinstance(value, str) and value.startswith(_ENVIRONMENT):
        yield value.removeprefix(_ENVIRONMENT)


# LiteLLM -------------------------------------------------------------------------------------


def _of_litellm(
    data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> list[dict[str, Any]]:
    """The destinations that `general_settings` names for alerts on budgets."""
    settings = section_of(data, "general_settings", None)
    alerting = settings.get("alerting")
    if not isinstance(alerting, list):
        return []
    types = settings.get("alert_types")
    if isinstance(types, list) and "budget_alerts" not in types:
        return []
    found = []
    for name in alerting:
        variable = LITELLM_VARIABLES.get(name) if isinstance(name, str) else None
        if variable is None:
            problems.warnings.append(
                f"general_settings.alerting: {str(name)[:64]!r} has no effect; add a destination to"
                " `notices`"
            )
            continue
        urls = _urls(settings, name, variable)
        for number, url in enumerate(urls, start=1):
            missing: list[str] = []
            environment.resolve(url, missing)
            if missing:
                problems.warnings.append(
                    f"general_settings.alerting: {name} has no effect, because {missing[0]} is not set"
                )
                continue
            suffix = f"-{number}" if len(urls) > 1 else ""
            entry = {"name": f"litellm-{name}{suffix}", "kind": name, "url": url}
            found.append(entry if name == "slack" else {**entry, "signed": False})
    return found


def _urls(settings: Mapping[str, Any], name: str, variable: str) -> list[Any]:
    by_type = settings.get("alert_to_webhook_url")
    if name == "slack" and isinstance(by_type, dict) and (own := by_type.get("budget_alerts")):
        return own if isinstance(own, list) else [own]
    return [f"{_ENVIRONMENT}{variable}"]
