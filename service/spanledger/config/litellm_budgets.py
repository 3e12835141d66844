"""The budgets of a LiteLLM file as budgets of ours. Mistakes are collected, never raised.

`max_budget` limits everything together, `provider_budget_config` providers, `tag_budget_config` tags, and
`max_end_user_budget` each user that has no other budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from spanledger.config.litellm import SECTIONS, Environment, Problems, section_of
from spanledger.config.litellm_durations import SINCE, read_duration

GLOBAL_BUDGET = "litellm-max-budget"
"""Name of the budget made from a LiteLLM file's `max_budget`."""
END_USER_BUDGET = "litellm-max-end-user-budget"


class _Written(NamedTuple):
    """A budget as a LiteLLM file has it.

    Attributes:
        place: of the key that holds it.
        lasts: the key of its duration, in the same section.
        ours: what the entry has besides limit and period.
    """

    place: str
    limit: Any
    lasts: str
    duration: Any
    ours: Mapping[str, Any]


def budgets_of(
    data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> list[tuple[str, dict[str, Any]]]:
    """All budgets of a LiteLLM file as entries of ours, each with its place."""
    found = []
    for written in _written(data, problems):
        entry = _entry(written, data, environment, problems)
        if entry is not None:
            found.append((written.place, entry))
    return found


def _written(data: Mapping[Any, Any], problems: Problems) -> Iterator[_Written]:
    seen = False
    for section in SECTIONS:
        settings = section_of(data, section, None)
        if settings.get("max_budget") is not None:
            name = GLOBAL_BUDGET if not seen else f"{GLOBAL_BUDGET}-{section.partition('_')[0]}"
            seen = True
            duration = settings.get("budget_duration")
            place, lasts = f"{section}.max_budget", f"{section}.budget_duration"
            yield _Written(place, settings["max_budget"], lasts, duration, {"name": name})
    settings = section_of(data, "litellm_settings", None)
    if (limit := settings.get("max_end_user_budget")) is not None:
        ours = {"name": END_USER_BUDGET, "user": "*", "default": True, "period": "once"}
        place = "litellm_settings.max_end_user_budget"
        yield _Written(place, limit, "", None, {**ours, "period_from": SINCE})
    for place, scope in (
        ("router_settings.provider_budget_config", "provider"),
        ("litellm_settings.tag_budget_config", "tag"),
    ):
        section, _, key = place.partition(".")
        yield from _by_name(section_of(data, section, None).get(key), place, scope, problems)


def _by_name(given: Any, place: str, scope: str, problems: Problems) -> Iterator[_Written]:
    """Budgets of a mapping from names to limits and durations."""
    if given is None:
        return
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        problems.append(f"{place}: expected a mapping from each {scope} to its budget")
        return
    for name, budget in given.items():
        limit = budget.get("budget_limit", budget.get("max_budget"))
        lasts = "time_period" if "time_period" in budget else "budget_duration"
        at = f"{place}.{name}"
        ours = {"name": f"litellm-{scope}-{name}", scope: str(name)}
        yield _Written(at, limit, f"{at}.{lasts}", budget.get(lasts), ours)


def _entry(
    written: _Written, data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> dict[str, Any] | None:
    place, unset = written.place, list[str]()
    limit = environment.resolve(written.limit, unset)
    given = environment.resolve(written.duration, unset)
    zone = environment.resolve(
        section_of(data, "litellm_settings", None).get("timezone", "UTC"), unset
    )
    if unset:
        problems.append(f"{place}: the environment variable {unset[0]} is not set")
        return None
    entry = {**written.ours, "limit": limit, "timezone": zone}
    if not written.lasts:
        return entry
    if given is None:
        problems.append(
            f"{place}: it needs a {written.lasts.rpartition('.')[2]}, like 1d, 7d or 30d (a day, a week"
            " or a month)"
        )
        return None
    duration = read_duration(str(given).strip().lower())
    if duration.problem:
        problems.append(f"{written.lasts}: {duration.problem}")
        return None
    if duration.warning:
        problems.warnings.append(f"{written.lasts}: {duration.warning}")
    entry["period"] = duration.period
    if duration.period_from:
        entry["period_from"] = duration.period_from
    return entry
