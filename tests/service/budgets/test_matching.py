"""Which budgets apply to an attempt: by index, and by looking at all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.budgets import matching
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import Budget
from spanledger.budgets.scopes import (
    SCOPE_NAMES,
    account_subjects,
    covers,
    named,
    subject_parts,
    subject_text,
    subjects_by_scope,
)
from tests.service.budgets import brute_force

NOON_S = 1_795_435_200
"""2026-11-23 12:00 UTC."""
NAMES = ("a", "b", "a,b", "a\\", "\\,", "*x", "å")
"""Few, so that budgets and attempts meet, with the characters that combinations write otherwise."""
SOME = st.sampled_from(NAMES)
OFTEN = st.sampled_from(("a", "a", "a", "a,b", "\\", ""))
"""Of an attempt: mostly what budgets name, so that several of a scope meet in it."""
POOLS = st.lists(
    st.lists(st.sampled_from(SCOPE_NAMES), max_size=3, unique=True), min_size=1, max_size=2
)
"""The scopes of an example's budgets: few, so that there are several of each."""


@st.composite
def _budgets(draw: st.DrawFn) -> list[Budget]:
    found = []
    pools = draw(POOLS)
    for number in range(draw(st.integers(2, 12))):
        names = draw(st.sampled_from(pools)) or ["user"]
        scope, subject = named(
            {name: draw(st.sampled_from(("*", "*", "a", "a,b"))) for name in names}
        )
        found.append(
            Budget(
                f"b{number}",
                scope,
                subject,
                100,
                draw(
                    st.sampled_from(("day", "day", "month", "day[..2026-11-01]", "once@2026-12-01"))
                ),
                action=draw(st.sampled_from(("block", "warn"))),
                default=draw(st.booleans()),
            )
        )
    return found


@st.composite
def _attempts(draw: st.DrawFn) -> dict[str, str | tuple[str, ...]]:
    found: dict[str, str | tuple[str, ...]] = {
        name: draw(OFTEN) for name in SCOPE_NAMES if name != "tag"
    }
    tags = draw(st.lists(st.one_of(st.just("a"), SOME), max_size=3, unique=True))
    return {**found, "tag": tuple(tags)}


@settings(max_examples=400)
@given(budgets=_budgets(), attempts=st.lists(_attempts(), min_size=1, max_size=5))
def test_index_finds_what_looking_at_all_budgets_finds(
    budgets: list[Budget], attempts: list[dict[str, str | tuple[str, ...]]]
) -> None:
    """The index finds the same accounts, and the same of them limit, as a look at every budget."""
    index = BudgetIndex(budgets)
    for attempt in attempts:
        dimensions = tuple(attempt[name] for name in SCOPE_NAMES)
        matched = index.matched(dimensions, NOON_S)
        every, limiting = brute_force.accounts(budgets, attempt, NOON_S)
        assert {(key.budget, key.subject) for key in matched.keys} == every
        assert len(matched.keys) == len(every)
        assert {(b.name, key.subject) for b, key, _ in matched.counted} == limiting
        assert matched.keys[: len(matched.counted)] == tuple(key for _, key, _ in matched.counted)
        assert {
            (key.budget, key.subject) for key in matched.keys if index.limiting(key) is not None
        } >= limiting


@given(parts=st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_subjects_of_a_combination_come_back_from_their_text(parts: list[str]) -> None:
    """Whatever characters subjects have, one text stands for one list of them."""
    scope = ",".join(SCOPE_NAMES[: len(parts)])
    text = subject_text(parts)
    assert subject_parts(scope, text) == tuple(parts)
    assert subjects_by_scope(scope, text) == dict(
        zip(SCOPE_NAMES[: len(parts)], parts, strict=True)
    )
    assert covers(scope, text, text)
    assert covers(scope, subject_text(["*"] * len(parts)), text)
    if len(parts) > 1:
        assert text == brute_force.account_text(parts)


def test_a_combination_is_written_in_the_order_of_the_scopes() -> None:
    """The same subjects are the same budget, in whatever order they are named."""
    assert named({"model": "m", "customer": "c"}) == ("customer,model", "c,m")
    assert named({"customer": "c", "model": "m"}) == ("customer,model", "c,m")
    assert named({}) == ("global", "*")


def test_an_attempt_counts_once_for_each_tag() -> None:
    """With tags, an account counts each tag of an attempt; without one, none does."""
    dimensions = ("c", "", "", "m", "", "", "", "", ("x", "y"))
    assert account_subjects("customer,tag", dimensions) == ["c,x", "c,y"]
    assert account_subjects("tag", dimensions) == ["x", "y"]
    assert account_subjects("team,tag", dimensions) == []
    assert account_subjects("customer,tag", (*dimensions[:-1], ())) == []


def test_what_no_budget_asks_for_does_not_fill_the_cache() -> None:
    """Subjects of scopes without a budget do not make further matches: callers choose users."""
    index = BudgetIndex(
        [Budget("b", "customer", "*", 1, "day"), Budget("m", "model", "m", 1, "day")]
    )
    found = {
        id(index.matched(("c", "", "", "m", "p", f"user{n}", "", "", (f"t{n}",)), NOON_S))
        for n in range(100)
    }
    assert len(found) == 1
    assert matching.MAX_CACHED_MATCHES >= len(index._matched) == 1


@settings(max_examples=200)
@given(
    before=_budgets(),
    after=_budgets(),
    removed=st.sets(st.integers(0, 11)),
    attempts=st.lists(_attempts(), min_size=1, max_size=4),
)
def test_an_index_with_changes_is_the_index_of_what_they_lead_to(
    before: list[Budget],
    after: list[Budget],
    removed: set[int],
    attempts: list[dict[str, str | tuple[str, ...]]],
) -> None:
    """Whatever is set, replaced or removed, the changed index finds what a new one finds, and the old
    one what it found before."""
    old = BudgetIndex(before)
    gone = {f"b{number}" for number in removed} - {budget.name for budget in after}
    changed = old.with_changes({*gone, *(budget.name for budget in after)}, after)
    wanted = {b.name: b for b in (*before, *after) if b.name not in gone}

    assert changed.by_name == wanted
    for index, budgets in ((changed, list(wanted.values())), (old, before)):
        for attempt in attempts:
            dimensions = tuple(attempt[name] for name in SCOPE_NAMES)
            keys = index.matched(dimensions, NOON_S).keys
            assert sorted(keys) == sorted(BudgetIndex(budgets).matched(dimensions, NOON_S).keys)
