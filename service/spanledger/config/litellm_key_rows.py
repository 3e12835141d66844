"""What LiteLLM's rows of virtual keys mean here. Pure; mistakes are collected, never raised.

A field that decides who may do what, or who pays, is read or refused. What else a row has is counted, and
reported as not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from spanledger.config.litellm_dumps import (
    BUDGET_TABLE,
    KEY_TABLE,
    TEAM_TABLE,
    LitellmRow,
    TableRows,
    as_amount,
    as_list,
    as_moment,
    as_object,
    as_objects,
    as_text,
    is_set,
)
from spanledger.config.litellm_durations import SINCE, read_duration

T = TypeVar("T")

DASHBOARD = "litellm-dashboard"
"""The team of sessions in LiteLLM's own pages."""
ADMIN = "default_user_id"
"""The user that LiteLLM gives to what its administrator makes."""
ANY_MODEL = frozenset({"all-proxy-models", "*"})
TEAM_MODELS = "all-team-models"
NO_MODEL = "no-default-models"
ANY_PATH = "llm_api_routes"
MANAGES = frozenset({"management_routes", "info_routes"})
_DIGEST = re.compile(r"[0-9a-f]{64}")

DECIDES: Mapping[str, str] = {
    "aliases": "the key gives models other names",
    "config": "the key changes LiteLLM's settings",
    "router_settings": "the key changes where requests go",
    "allowed_routes": "the key may call some paths only",
}
"""Fields that are refused where they are set, unless they are to be ignored."""
_READ = frozenset(
    {
        *("token", "key_alias", "expires", "models", "team_id", "user_id", "organization_id"),
        *(
            "project_id",
            "metadata",
            "tags",
            "blocked",
            "max_budget",
            "budget_duration",
            "soft_budget",
        ),
        *("model_max_budget", "budget_limits", "budget_id", "litellm_budget_table", "spend"),
    }
)
_SILENT = frozenset(
    {
        *("key_name", "token_id", "created_at", "created_by", "updated_at", "updated_by"),
        *(
            "last_active",
            "budget_reset_at",
            "soft_budget_cooldown",
            "model_spend",
            "last_refreshed_at",
        ),
        *("rotation_count", "last_rotation_at", "key_rotation_at", "user", "created_by_user"),
        *(
            "budget_limits_usage",
            "team_alias",
            "organization_alias",
            "project_alias",
            "key",
            "org_id",
        ),
    }
)
"""What describes the key in LiteLLM, and nothing that it may do."""


@dataclass
class LitellmKey:
    """A key to be created, with its budgets as entries without name and key."""

    place: str
    digest: str
    name: str
    customer: str
    team: str
    default_user: str
    project: str
    tags: tuple[str, ...]
    routes: tuple[str, ...]
    expires: datetime | None
    metadata: dict[str, str]
    budgets: list[tuple[str, dict[str, Any]]]
    """Each with what is added to the name of the key's budget."""


class Skipped(NamedTuple):
    """A row that was left out, and why."""

    place: str
    why: str


@dataclass
class KeyReading:
    """What was read, and what was not."""

    keys: list[LitellmKey] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_read: Counter[str] = field(default_factory=Counter)
    warnings: dict[str, None] = field(default_factory=dict)


def read_keys(
    tables: TableRows,
    customer_of: Callable[[LitellmRow], str],
    now: datetime,
    ignored: Container[str] = (),
) -> KeyReading:
    """All keys of an export.

    Args:
        customer_of: the customer of a row, which has its team's `team_alias`; empty if there is none.
        ignored: fields that decide something and are left out all the same.
    """
    reading = KeyReading()
    teams = _by_id(tables.get(TEAM_TABLE, ()), "team_id")
    budgets = _by_id(tables.get(BUDGET_TABLE, ()), "budget_id")
    seen: dict[str, str] = {}
    for number, row in enumerate(tables.get(KEY_TABLE, ()), 1):
        reader = _Reader(row, number, reading, teams, budgets, ignored)
        found = reader.key(customer_of, now)
        if found is None:
            continue
        for what, value in (("token", found.digest), ("key_alias", found.name)):
            if value and (other := seen.setdefault(f"{what} {value}", found.place)) != found.place:
                shown = "" if what == "token" else f" {value!r}"
                reading.problems.append(f"{found.place}: {what}:{shown} is also that of {other}")
        reading.keys.append(found)
    return reading


def _by_id(rows: Iterable[LitellmRow], column: str) -> dict[str, LitellmRow]:
    return {str(row[column]): row for row in rows if row.get(column)}


class _Reader:
    """Reads one row."""

    def __init__(
        self,
        row: LitellmRow,
        number: int,
        reading: KeyReading,
        teams: Mapping[str, LitellmRow],
        budgets: Mapping[str, LitellmRow],
        ignored: Container[str],
    ) -> None:
        self._row = row
        self._out = reading
        self._teams = teams
        self._budgets = budgets
        self._ignored = ignored
        alias = row.get("key_alias")
        self._place = f"row {number} ({alias})" if alias else f"row {number}"

    def key(self, customer_of: Callable[[LitellmRow], str], now: datetime) -> LitellmKey | None:
        """The key; None if there is none, or if it cannot be read."""
        expires = self._value("expires", as_moment)
        if why := self._why_not(expires, now):
            self._out.skipped.append(Skipped(self._place, why))
            return None
        before = len(self._out.problems)
        team_id = self._text("team_id")
        team = self._teams.get(team_id, {})
        team_name = str(team.get("team_alias") or self._row.get("team_alias") or team_id)
        digest, metadata = self._digest(), self._value("metadata", as_object) or {}
        routes = self._routes(team_id, team)
        row = {**self._row, "team_alias": team_name, "metadata": metadata}
        customer = customer_of(row)
        if not customer:
            self._wrong("nothing says which customer pays for it; add --customer for those")
        user = self._text("user_id")
        found = LitellmKey(
            place=self._place,
            digest=digest,
            name=self._text("key_alias"),
            customer=customer,
            team=team_name,
            default_user="" if user == ADMIN else user,
            project=self._text("project_id"),
            tags=self._tags(metadata),
            routes=routes,
            expires=expires,
            metadata={n: str(text) for n, text in metadata.items() if _is_note(n, text)},
            budgets=self._own_budgets(),
        )
        self._others(metadata)
        return found if len(self._out.problems) == before else None

    def _why_not(self, expires: datetime | None, now: datetime) -> str:
        if self._row.get("team_id") == DASHBOARD:
            return "a session of LiteLLM's own pages"
        if is_set(self._row.get("blocked")):
            return "it is blocked"
        if expires is not None and expires <= now:
            return f"it expired on {expires:%Y-%m-%d %H:%M} {expires.tzname() or ''}".rstrip()
        paths = self._value("allowed_routes", as_list) or []
        if paths and MANAGES.issuperset(paths):
            return "it is only for LiteLLM's management"
        if (self._value("models", as_list) or []) == [NO_MODEL]:
            return "it has no model"
        return ""

    def _digest(self) -> str:
        token = self._row.get("token")
        if not isinstance(token, str) or not _DIGEST.fullmatch(token):
            # It may be a key itself, so it is not repeated.
            self._wrong(
                "token: it must be LiteLLM's hash, 64 hex digits; export the database's column"
            )
            return ""
        return token

    def _routes(self, team_id: str, team: LitellmRow) -> tuple[str, ...]:
        own = self._value("models", as_list) or []
        of_team = self._parsed("its team's models", team.get("models"), as_list) or []
        if team_id and not team:
            if TEAM_MODELS in own:
                self._wrong(
                    f"models: {TEAM_MODELS!r}: give the teams ({TEAM_TABLE}) with --teams, or in the same"
                    " pg_dump"
                )
            elif not own:
                self._out.warnings[
                    "keys of teams without models of their own may use every route; LiteLLM limits"
                    " them to their team's models, which --teams reads"
                ] = None
        if ANY_MODEL.intersection(of_team):
            of_team = []
        own = (
            [name for name in own if name not in (TEAM_MODELS, NO_MODEL)]
            if TEAM_MODELS not in own
            else []
        )
        if ANY_MODEL.intersection(own):
            own = []
        if own and of_team:
            both = tuple(name for name in own if name in of_team)
            if not both:
                self._wrong(f"models: its team may use none of {', '.join(own)}")
            return both
        return tuple(dict.fromkeys(own or of_team))

    def _tags(self, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        tags = self._value("tags", as_list) or []
        tags += self._parsed("metadata.tags", metadata.get("tags"), as_list) or []
        return tuple(dict.fromkeys(tags))

    # budgets ------------------------------------------------------------------------------

    def _own_budgets(self) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        row = self._budget_row()
        limit, soft = self._amount(row, "max_budget"), self._amount(row, "soft_budget")
        duration = as_text(row.get("budget_duration") or "")
        if limit is not None:
            percent = int(soft / limit * 100) if soft is not None and limit else 0
            steps = {"thresholds": [percent]} if 1 <= percent <= 100 else {}
            found += self._budget("", "max_budget", limit, duration, steps)
        elif soft is not None:
            found += self._budget("-soft", "soft_budget", soft, duration, {"action": "warn"})
        for entry in self._value("budget_limits", as_objects) or []:
            duration = str(entry.get("budget_duration") or "")
            limit = self._amount(entry, "max_budget", "budget_limits.")
            if limit is not None:
                found += self._budget(f"-{duration}", "budget_limits", limit, duration, {})
        for model, entry in (self._value("model_max_budget", as_object) or {}).items():
            entry = entry if isinstance(entry, dict) else {"budget_limit": entry}
            name = "budget_limit" if "budget_limit" in entry else "max_budget"
            limit = self._amount(entry, name, f"model_max_budget.{model}.")
            duration = str(entry.get("time_period") or entry.get("budget_duration") or "")
            if limit is not None:
                place = f"model_max_budget.{model}"
                found += self._budget(f"-{model}", place, limit, duration, {"route": model})
        return found

    def _budget_row(self) -> LitellmRow:
        """Where the key's limit is: in its row, or in the one of another table that it names."""
        own = ("max_budget", "soft_budget")
        row = {name: self._row.get(name) for name in (*own, "budget_duration")}
        if any(row[name] is not None for name in own):
            return row
        nested = self._value("litellm_budget_table", as_object)
        if nested:
            return nested
        budget_id = self._text("budget_id")
        if budget_id and budget_id not in self._budgets and "budget_id" not in self._ignored:
            self._wrong(
                f"budget_id: {budget_id!r} is a row of {BUDGET_TABLE}, which is not in this file; export it"
                " with pg_dump, or leave the budget out with --ignore budget_id"
            )
        return self._budgets.get(budget_id, {})

    def _budget(
        self, suffix: str, place: str, limit: Decimal, duration: str, more: dict[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        if duration:
            read = read_duration(duration.strip().lower())
            if read.problem:
                self._wrong(f"{place}: budget_duration: {read.problem}")
                return []
            if read.warning:
                self._out.warnings[read.warning] = None
            period = {"period": read.period}
            if read.period_from:
                period["period_from"] = read.period_from
        else:
            # For good, so what LiteLLM has counted is gone.
            spent = self._amount(self._row, "spend") if place == "max_budget" else None
            limit = max(limit - (spent or 0), Decimal(0))
            period = {"period": "once", "period_from": SINCE}
            if spent:
                self._out.warnings[
                    "budgets without a duration get what LiteLLM had left of them as their limit"
                ] = None
        text = f"{limit.quantize(Decimal('0.000000001')).normalize():f}"
        return [(suffix, {"limit": text, **period, **more})]

    # fields -------------------------------------------------------------------------------

    def _others(self, metadata: Mapping[str, Any]) -> None:
        """Refuse what decides something, and count what else is not read."""
        for name, value in self._row.items():
            if not is_set(value) or name in _READ or name in _SILENT:
                continue
            if name in DECIDES and name not in self._ignored:
                if name == "allowed_routes" and ANY_PATH in (self._value(name, as_list) or []):
                    continue
                self._wrong(
                    f"{name}: {DECIDES[name]}, which is not read; change that in LiteLLM first, or leave"
                    f" it out with --ignore {name}"
                )
            else:
                self._out.not_read[name] += 1
        for name, value in metadata.items():
            if name != "tags" and is_set(value) and not _is_note(name, value):
                self._out.not_read[f"metadata.{name}"] += 1

    def _text(self, name: str) -> str:
        return (self._value(name, as_text) or "").strip()

    def _amount(self, row: LitellmRow, name: str, place: str = "") -> Decimal | None:
        return self._parsed(f"{place}{name}", row.get(name), as_amount)

    def _value(self, name: str, read: Callable[[Any], T]) -> T | None:
        return self._parsed(name, self._row.get(name), read)

    def _parsed(self, place: str, value: Any, read: Callable[[Any], T]) -> T | None:
        try:
            return read(value)
        except ValueError as error:
            self._wrong(f"{place}: {error}")
            return None

    def _wrong(self, problem: str) -> None:
        line = f"{self._place}: {problem}"
        if line not in self._out.problems:
            self._out.problems.append(line)


def _is_note(name: str, value: Any) -> bool:
    """Whether a value of LiteLLM's metadata is a note for people."""
    plain = isinstance(value, str | int | Decimal) and not isinstance(value, bool)
    return name != "tags" and plain and is_set(value) and len(str(value)) <= 512


def customer_from(field: str) -> Callable[[LitellmRow], str]:
    """The customer of a row by one of its fields, or by one in its metadata (`metadata.NAME`)."""
    inner = field.removeprefix("metadata.")

    def of(row: LitellmRow) -> str:
        value = row.get(field) if inner == field else row["metadata"].get(inner)
        return str(value).strip() if is_set(value) else ""

    return of


CUSTOMER_FIELDS: Sequence[str] = (
    "organization_id",
    "team_id",
    "team_alias",
    "user_id",
    "project_id",
)
