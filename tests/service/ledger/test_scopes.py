"""Every scope and combination on a real ledger, compared with a matcher that looks at every budget."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.budgets.scopes import SCOPE_NAMES, named
from spanledger.errors import BudgetExceededError
from spanledger.ledger.model import AttemptEnd, Hold, RequestEnd, RequestStart, Reservation
from tests.service.budgets import brute_force
from tests.service.budgets.brute_force import Attempt
from tests.service.ledger.conftest import NOON, Book
from tests.service.ledger.stores import KINDS, new_store

EXAMPLES = {"sqlite": 60, "postgres": 10}
LIMIT = 1_000
NAMES = ("a", "b", "a,b", "\\", "å")
"""With what combinations write otherwise."""
SOME = st.sampled_from(NAMES)


class Set(NamedTuple):
    """A budget is set, under one of few names."""

    budget: Budget


class Remove(NamedTuple):
    """It is removed."""

    name: str


class Ask(NamedTuple):
    """An attempt is held, and perhaps ended."""

    attempt: Attempt
    nano: int
    cost: int | None


@st.composite
def _set(draw: st.DrawFn, scopes: list[str]) -> Set:
    names = draw(st.sampled_from((scopes, scopes, scopes, [*scopes, "tag"][:1], [])))
    scope, subject = named({name: draw(st.sampled_from(("*", "*", "a", "a,b"))) for name in names})
    return Set(
        Budget(
            draw(st.sampled_from(("one", "two", "three"))),
            scope,
            subject,
            draw(st.sampled_from((0, LIMIT, 3 * LIMIT))),
            "day",
            action=draw(st.sampled_from(("block", "block", "warn"))),
            default=draw(st.booleans()),
        )
    )


@st.composite
def _ask(draw: st.DrawFn) -> Ask:
    attempt: dict[str, str | tuple[str, ...]] = {
        name: draw(st.sampled_from(("a", "a", "a,b"))) for name in ("customer", "model", "provider")
    }
    for name in ("key", "team", "user", "project", "route"):
        attempt[name] = draw(st.sampled_from(("a", "a", "a,b", "\\", "")))
    attempt["tag"] = tuple(draw(st.lists(SOME, max_size=2, unique=True)))
    return Ask(
        attempt, draw(st.integers(1, LIMIT)), draw(st.one_of(st.none(), st.integers(0, LIMIT)))
    )


@st.composite
def _steps(draw: st.DrawFn) -> list[Set | Remove | Ask]:
    """Budgets of few scopes, so that several meet in an attempt."""
    scopes = draw(st.lists(st.sampled_from(SCOPE_NAMES), min_size=1, max_size=3, unique=True))
    step = st.one_of(
        _set(scopes),
        _set(scopes),
        _ask(),
        _ask(),
        st.builds(Remove, st.sampled_from(("one", "two"))),
    )
    return draw(st.lists(step, min_size=3, max_size=25))


@dataclass
class Model:
    """What a ledger should know, counted attempt by attempt."""

    budgets: dict[str, Budget] = field(default_factory=dict)
    attempts: list[tuple[Attempt, int]] = field(default_factory=list)
    """Each with what it has spent or holds."""

    def used(self) -> dict[tuple[str, str], int]:
        """Every account of a budget, in this period, by budget and subject."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for attempt, nano in self.attempts:
            for account in self.accounts(attempt)[0]:
                found[account] += nano
        return found

    def accounts(self, attempt: Attempt) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """The accounts that count an attempt, and those that limit it."""
        return brute_force.accounts(self.budgets.values(), attempt, NOON // 10**9)

    def room(self, attempt: Attempt) -> int | None:
        """What an attempt may hold; None if nothing blocks."""
        used = self.used()
        rooms = [
            self.budgets[name].limit_nano - used[name, subject]
            for name, subject in self.accounts(attempt)[1]
            if self.budgets[name].action == "block"
        ]
        return min(rooms, default=None)


def _reservation(number: int, attempt: Attempt, nano: int) -> Reservation:
    given_ = {name: value for name, value in attempt.items() if isinstance(value, str)}
    tags = attempt["tag"]
    assert isinstance(tags, tuple)
    start = RequestStart(
        request_id=f"req_{number:024x}",
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id="",
        started_ns=NOON,
        customer=given_["customer"],
        team=given_["team"],
        key_id=given_["key"],
        route=given_["route"],
        operation="chat",
        stream=False,
        user=given_["user"],
        project=given_["project"],
        tags=tags,
    )
    return Reservation(
        request=start,
        number=1,
        span_id=f"{number + 2**60:016x}",
        now_ns=NOON,
        deployment="d",
        provider=given_["provider"],
        model=given_["model"],
        sizes=HoldSizes(nano, nano, nano),
        priced=True,
        price_id="p",
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_scopes_the_ledger_is_the_brute_force_model(kind: str) -> None:
    """In any order of budgets and attempts, each refusal and each balance is what looking at every
    budget gives, whenever the budget was set; `ledger verify` agrees."""

    @settings(max_examples=EXAMPLES[kind], deadline=None)
    @given(steps=_steps())
    def run(steps: list[Set | Remove | Ask]) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = new_store(kind, folder)
            records = stack.enter_context(store.records("create"))
            writer = store.writer("owner", 10**12, lambda: NOON)
            stack.callback(writer.close)
            model = Model()
            for number, step in enumerate(steps):
                if isinstance(step, Set):
                    records.set_budgets([step.budget], NOON)
                    model.budgets[step.budget.name] = step.budget
                elif isinstance(step, Remove):
                    records.remove_budget(step.name, NOON)
                    model.budgets.pop(step.name, None)
                else:
                    room = model.room(step.attempt)
                    reservation = _reservation(number, step.attempt, step.nano)
                    [result] = writer.commit([reservation])
                    if room is not None and step.nano > room:
                        assert isinstance(result, BudgetExceededError)
                        continue
                    assert isinstance(result, Hold)
                    spent = step.nano
                    if step.cost is not None:
                        done = RequestEnd("ok", "", 200, NOON)
                        writer.commit(
                            [AttemptEnd(reservation.attempt_id, NOON, step.cost, request=done)]
                        )
                        spent = step.cost
                    model.attempts.append((step.attempt, spent))
            with store.reports() as reports:
                assert reports.verify().problems == []
                states = reports.budget_states(NOON // 10**9)
            used, shown = model.used(), {(s.budget.name, s.subject): s for s in states}
            for place, nano in used.items():
                if place in shown:
                    assert shown[place].spent_nano + shown[place].held_nano == nano
            limiting = {p for attempt, _ in model.attempts for p in model.accounts(attempt)[1]}
            assert {place for place in used if place in shown} == limiting

    run()


async def test_a_default_budget_limits_only_whom_no_other_one_names(book: Book) -> None:
    """The limit for each user does not hold for the one with a budget, which may be higher, until that
    budget is removed; then all that was spent counts."""
    book.budget("each", scope="user", subject="*", limit_nano=100, default=True)
    book.budget("vip", scope="user", subject="ada", limit_nano=1_000)
    await book.ledger.reserve(_asked(book, 500, user="ada"))
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(_asked(book, 500, user="bob"))
    assert "ada" not in book.accounts("each")
    with book.store.records("change") as records:
        records.remove_budget("vip", book.time.now)
    assert book.accounts("each")["ada"] == (0, 500, 0)
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(_asked(book, 1, user="ada"))


async def test_a_warning_for_a_user_does_not_lift_the_default_limit(book: Book) -> None:
    """Only a budget that refuses replaces one that does."""
    book.budget("each", scope="user", subject="*", limit_nano=100, default=True)
    book.budget("look", scope="user", subject="ada", limit_nano=10, action="warn")
    with pytest.raises(BudgetExceededError):
        await book.ledger.reserve(_asked(book, 500, user="ada"))


async def test_spend_by_tag_counts_an_attempt_for_each_of_its_tags(book: Book) -> None:
    """A report by tag has each tag's cost, and without one what had none."""
    for tags, cost in ((("x", "y"), 100), (("y",), 10), ((), 1)):
        asked = _asked(book, 1_000, tags=tags)
        await book.ledger.reserve(asked)
        await book.ledger.finish(book.end(asked, cost))
    with book.store.reports() as reports:
        found = {row.group: row.cost_nano for row in reports.spend(("tag",))}
        assert found == {("x",): 100, ("y",): 110, ("",): 1}
        [whole] = reports.spend(())
        assert whole.cost_nano == 111
        by_route = reports.spend(("tag", "route"))
        assert {row.group for row in by_route} == {("x", "chat"), ("y", "chat"), ("", "chat")}


async def test_rows_from_before_a_budget_count_by_route_and_tag(book: Book) -> None:
    """A budget for a route or a tag counts what was spent before it was set, with what is held."""
    ended = _asked(book, 1_000, tags=("x", "z"))
    await book.ledger.reserve(_asked(book, 30, tags=("x",)))
    await book.ledger.reserve(ended)
    await book.ledger.finish(book.end(ended, 5))
    book.budget("route", scope="route", subject="chat")
    book.budget("tag", scope="customer,tag", subject="*,*")
    assert book.accounts("route") == {"chat": (5, 30, 0)}
    assert book.accounts("tag") == {"acme,x": (5, 30, 0), "acme,z": (5, 0, 0)}


async def test_a_usual_hold_is_the_average_of_such_attempts(book: Book) -> None:
    """Of those with the same subjects, or of all; there is none where nobody asked."""
    book.budget("b", limit_nano=10**9)
    for model, nano in (("m", 100), ("m", 300), ("n", 900)):
        asked = structs.replace(book.reservation(nano), model=model)
        await book.ledger.reserve(asked)
        await book.ledger.finish(book.end(asked, 1))
    with book.store.reports() as reports:
        assert reports.usual_hold(model="m", customer="acme") == 200
        assert reports.usual_hold(model="x") is None
        assert reports.usual_hold() == 433


def test_a_budget_set_before_the_first_commit_of_a_writer_limits(book: Book) -> None:
    """What a new gateway has read ahead is brought up to date before it decides anything."""
    book.budget("wide", limit_nano=10**12)
    book.budget("gone", limit_nano=0)
    writer = book.store.writer("late", 10**12, book.time.now_ns)
    book.budget("tight", limit_nano=1)
    with book.store.records("change") as records:
        records.remove_budget("gone", book.time.now)
    [result] = writer.commit([book.reservation(500)])
    assert isinstance(result, BudgetExceededError)
    assert result.refusal.budget == "tight"
    assert writer.budgets.by_name.keys() == {"wide", "tight"}
    writer.close()


def _asked(book: Book, nano: int, **changes: object) -> Reservation:
    """An attempt of a new request with these names."""
    found = book.reservation(nano)
    return structs.replace(found, request=structs.replace(found.request, **changes))
