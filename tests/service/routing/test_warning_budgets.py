"""A budget that only warns never changes where a request goes, or whether it is sent."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from spanledger.budgets.model import Budget
from spanledger.clock import Clock
from spanledger.errors import SpanledgerError
from spanledger.ledger import open_ledger
from spanledger.providers.base import Call
from tests.service.routing.rig import (
    FINISH,
    NOON_NS,
    OK,
    REPORT,
    ROLE,
    Site,
    Step,
    StrictLedger,
    content,
    fails,
)
from tests.support.ledgers import store_at

UNPRICED = {"input_cost_per_token": None, "output_cost_per_token": None}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FIELDS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 30},
    {"max_completion_tokens": 3_000, "n": 2},
    {"tools": [SEARCH]},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"service_tier": "priority"},
    {"web_search_options": {}},
    {"previous_response_id": "resp_1"},
]
STREAM = (ROLE, content(), FINISH, REPORT)

steps = st.sampled_from(
    [Step(frames=STREAM), Step(frames=STREAM), fails("rate_limited"), fails("timeout")]
)
deployments = st.sampled_from([{}, {}, UNPRICED, {"rpm": 2}])
subjects = st.sampled_from(
    [
        ("global", "*"),
        ("customer", "acme"),
        ("customer", "*"),
        ("model", "a1"),
        ("provider", "openai"),
    ]
)
limits = st.sampled_from([0, 1, 30_000, 9_000_000, 10**12])


@st.composite
def budgets(draw: st.DrawFn, action: str, most: int) -> list[Budget]:
    """Some budgets with the same action."""
    return [
        Budget(
            name=f"{action}-{number}",
            scope=cast("Any", scope),
            subject=subject,
            limit_nano=draw(limits),
            period=draw(st.sampled_from(["day", "month"])),
            action=cast("Any", action),
            strict=draw(st.booleans()),
        )
        for number, (scope, subject) in enumerate(draw(st.lists(subjects, max_size=most)))
    ]


@dataclass(frozen=True)
class World:
    """Deployments, what their providers do, and the requests."""

    routes: dict[str, list[tuple[str, dict[str, object]]]]
    scripts: dict[str, list[Step]]
    asked: list[tuple[bool, dict[str, Any]]]


worlds = st.builds(
    World,
    routes=st.fixed_dictionaries(
        {
            "a": st.tuples(deployments, deployments).map(
                lambda two: [("a1", two[0]), ("a2", two[1])]
            ),
            "b": deployments.map(lambda one: [("b1", one)]),
        }
    ),
    scripts=st.fixed_dictionaries(
        {unique: st.lists(steps, min_size=1, max_size=3) for unique in ("a1", "a2", "b1")}
    ),
    asked=st.lists(st.tuples(st.booleans(), st.sampled_from(FIELDS)), min_size=1, max_size=4),
)


def told(call: Call) -> dict[str, Any]:
    """Everything that an adapter gets for a call, as bytes if it is bytes."""
    said = asdict(call) | {"fields": {name: bytes(raw) for name, raw in call.fields.items()}}
    said["deployment"], said["wire"] = call.deployment.id, call.wire.name
    return said


async def play(world: World, held: list[Budget]) -> tuple[list[dict[str, Any]], list[str]]:
    """The calls of all providers in order, and how each request ended, over a real ledger."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        records = store_at(path).records("create")
        records.set_budgets(held, NOON_NS)
        records.close()
        ledger = open_ledger(store_at(path), Clock(lambda: NOON_NS, lambda: 0.0))
        site = Site(
            world.routes,
            world.scripts,
            ledger=cast("StrictLedger", ledger),
            fallbacks=[{"a": ["b"]}],
        )
        ends = []
        for stream, fields in world.asked:
            exchange = site.exchange(stream=stream, **fields)
            try:
                if stream:
                    _, error = await site.read(exchange)
                    ends.append(error.error_type if error else "ok")
                else:
                    await site.router.complete(exchange)
                    ends.append("ok")
            except SpanledgerError as error:
                ends.append(error.error_type)
        await site.router.close()
        await ledger.close()
        return [told(call) for call in site.provider.calls], ends


@settings(max_examples=60, deadline=None)
@given(worlds, budgets("block", 2), budgets("warn", 4))
def test_warning_budgets_change_no_call(
    world: World, blocking: list[Budget], warning: list[Budget]
) -> None:
    """With warning budgets added, providers get as many calls, in the same order and with the same
    bytes, and each request ends as it does without them."""
    assert asyncio.run(play(world, blocking + warning)) == asyncio.run(play(world, blocking))


WARN = Budget("w", "global", "*", 0, "month", action="warn", strict=True)


@pytest.mark.parametrize(
    ("fields", "route"),
    [
        ({"tools": [SEARCH]}, {}),
        ({"service_tier": "priority"}, {}),
        ({}, UNPRICED),
    ],
    ids=["hosted-tool", "unpriced-tier", "unpriced-model"],
)
def test_a_warning_budget_refuses_nothing(fields: dict[str, Any], route: dict[str, object]) -> None:
    """A request that a blocking budget refuses as unbounded is served under a budget that only
    warns, by the first deployment and not by a fallback that has a price."""
    world = World({"a": [("a1", route)], "b": [("b1", {})]}, {"a1": [OK]}, [(False, fields)])
    calls, ends = asyncio.run(play(world, [WARN]))

    assert ([call["deployment"] for call in calls], ends) == (["a1"], ["ok"])
    assert calls[0]["max_output_tokens"] is None
