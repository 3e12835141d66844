"""What is found, once, on a ledger of each kind: a budget of a dollar a month, unless said otherwise."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prometheus.src.thresholds import Thresholds
from spanledger.budgets.limits import raised, without_raises
from spanledger.budgets.steps import reached, steps_of
from spanledger.errors import BudgetExceededError
from spanledger.ledger.copying import copy_ledger
from spanledger.ledger.notices import DeliveryEnd
from spanledger.notices import watch
from tests.service.notices.conftest import CENT, DAY, HOUR, SECOND, Rig, hook
from tests.support.ledgers import store_at


async def test_a_step_is_told_once(rig: Rig) -> None:
    """However often one looks, and also after a restart."""
    rig.book.budget()
    rig.watch()
    await rig.spend(49)
    rig.look()
    assert rig.told() == []
    await rig.spend(2)
    rig.look()
    assert rig.told() == ["b acme 50"]
    await rig.spend(2)
    rig.look()
    rig.sweep()
    rig.watch()
    rig.sweep()
    assert rig.told() == ["b acme 50"]


async def test_of_several_steps_at_once_the_highest_is_told(rig: Rig) -> None:
    """The lower ones are remembered, and not told later."""
    rig.book.budget()
    rig.watch(hook(), hook("low", steps=[50]))
    await rig.spend(85)
    rig.look()
    rig.watch(hook(), hook("low", steps=[50]))
    rig.sweep()
    assert rig.told() == ["b acme 80"]
    assert rig.told("low") == ["b acme 50"]


async def test_nobody_is_told_of_the_past(rig: Rig) -> None:
    """What was reached before anybody watched is remembered; the next step is told."""
    rig.book.budget()
    await rig.spend(85)
    rig.watch()
    rig.sweep()
    assert rig.told() == []
    assert rig.silent() == ["b acme 50", "b acme 80"]
    await rig.spend(11)
    rig.look()
    assert rig.told() == ["b acme 95"]


async def test_what_happens_while_nobody_watches_is_told_afterwards(rig: Rig) -> None:
    """The process was down, and the rows may have been pruned since."""
    rig.book.budget()
    rig.watch()
    await rig.spend(85)
    rig.watch()
    assert rig.told() == ["b acme 80"]


async def test_a_new_percentage_is_told_from_then_on(rig: Rig) -> None:
    """A destination that wants another step does not get all accounts that are past it."""
    rig.book.budget()
    rig.watch()
    await rig.spend(65)
    rig.look()
    rig.watch(hook(steps=[60, 70]))
    rig.sweep()
    await rig.spend(6)
    rig.look()
    assert rig.told() == ["b acme 50", "b acme 70"]


async def test_the_limit_counts_as_reached_just_before(rig: Rig) -> None:
    """At 99 %."""
    rig.book.budget()
    rig.watch()
    await rig.spend(99)
    rig.look()
    assert rig.told() == ["b acme 100"]
    assert rig.data("100")["refuses"] is False


async def test_a_refusal_tells_of_the_limit(rig: Rig) -> None:
    """A request that is too expensive for what is left; a second one says nothing new."""
    rig.book.budget("each", subject="*")
    rig.watch()
    await rig.spend(76, customer="beta")
    await rig.spend(78)
    rig.look()
    await rig.refused(30)
    rig.look()
    await rig.refused(30)
    rig.look()
    assert rig.told() == ["each acme 50", "each beta 50", "each acme 100"]
    assert rig.data("100") | {"period_start": "", "period_end": ""} == {
        "budget": "each",
        "scope": "customer",
        "subject": "acme",
        "subjects": {"customer": "acme"},
        "percent": 100,
        "currency": "USD",
        "spent_usd": "0.78",
        "held_usd": "0.00",
        "limit_usd": "1.00",
        "used_percent": 78,
        "period": "month",
        "period_in_words": "month",
        "timezone": "UTC",
        "period_start": "",
        "period_end": "",
        "action": "block",
        "blocks": True,
        "refuses": True,
    }


async def test_a_refusal_of_an_account_with_room_is_not_its_limit(rig: Rig) -> None:
    """One request was too expensive; three quarters are not spent."""
    rig.book.budget()
    rig.watch()
    await rig.spend(60)
    await rig.refused(60)
    rig.look()
    assert rig.told() == ["b acme 50"]


async def test_a_refusal_by_a_models_budget_finds_its_account(rig: Rig) -> None:
    """A refused request has no model in its row: the budget's accounts are looked at."""
    rig.book.budget("on", scope="customer,model", subject="*,*")
    rig.watch()
    await rig.spend(80, model="a")
    await rig.spend(80, model="b")
    await rig.spend(80, model="b", customer="beta")
    rig.look()
    await rig.refused(30, model="b")
    rig.look()
    assert [text for text in rig.told() if text.endswith(" 100")] == [
        "on acme,a 100",
        "on acme,b 100",
    ]


async def test_a_raised_limit_has_its_own_steps(rig: Rig) -> None:
    """Each is told once for each limit that people set: also again at the old one, after a raise."""
    budget = rig.book.budget()
    rig.watch()
    await rig.spend(85)
    rig.look()
    now_s = rig.book.time.now // SECOND
    more = raised(budget, 100 * CENT, now_s, now_s, now_s + 3_600)
    with rig.book.store.records("change") as records:
        records.set_budgets([more], rig.book.time.now, noted=True)
    rig.look()
    assert rig.told() == ["b acme 80"]
    await rig.spend(20)
    rig.look()
    assert rig.told() == ["b acme 80", "b acme 50"]
    with rig.book.store.records("change") as records:
        records.set_budgets([without_raises(more)], rig.book.time.now, noted=True)
    rig.look()
    rig.sweep()
    assert rig.told() == ["b acme 80", "b acme 50", "b acme 100"]


async def test_the_end_of_a_raise_is_noticed(rig: Rig) -> None:
    """No row tells of it."""
    budget = rig.book.budget()
    rig.watch()
    now_s = rig.book.time.now // SECOND
    more = raised(budget, 900 * CENT, now_s, now_s, now_s + 3_600)
    with rig.book.store.records("change") as records:
        records.set_budgets([more], rig.book.time.now, noted=True)
    await rig.spend(110)
    rig.look()
    assert rig.told() == []
    rig.book.time.now += HOUR
    rig.sweep()
    assert rig.told() == ["b acme 100"]


async def test_a_lower_limit_is_noticed_at_once(rig: Rig) -> None:
    """Without any request."""
    rig.book.budget()
    rig.watch()
    await rig.spend(45)
    rig.look()
    rig.book.budget(limit_nano=50 * CENT)
    rig.look()
    assert rig.told() == ["b acme 80"]


async def test_what_rolls_over_moves_the_steps(rig: Rig) -> None:
    """Steps are of the limit with it, and it gives them no second message."""
    rig.book.budget(period="day", rollover_nano=100 * CENT)
    rig.watch()
    await rig.spend(10)
    rig.book.time.now += DAY
    await rig.spend(80)
    rig.look()
    assert rig.told() == []
    await rig.spend(20)
    rig.look()
    assert rig.told() == ["b acme 50"]
    assert rig.data("50")["limit_usd"] == "1.90"


async def test_grace_is_not_part_of_the_limit(rig: Rig) -> None:
    """Somebody in grace has used up the budget."""
    rig.book.budget(action="grace", grace_nano=100 * CENT)
    rig.watch()
    await rig.spend(99)
    await rig.spend(30)
    rig.look()
    assert rig.told() == ["b acme 100"]


async def test_a_new_period_has_new_steps_and_says_that_it_renewed(rig: Rig) -> None:
    """Only those get a renewal who got a notice of the period before."""
    rig.book.budget("each", subject="*", period="day")
    rig.watch(hook(), hook("late", steps=[100, "renewed"]), hook("never", steps=[50]))
    await rig.spend(60)
    await rig.spend(10, customer="beta")
    rig.look()
    rig.book.time.now += DAY
    rig.sweep()
    assert rig.told() == ["each acme 50", "each acme renewed"]
    assert rig.data("renewed")["spent_usd"] == "0.00"
    assert rig.told("late") == []
    await rig.spend(60)
    rig.look()
    assert rig.told() == ["each acme 50", "each acme renewed", "each acme 50"]
    rig.watch()
    rig.sweep()
    assert rig.told()[3:] == []
    assert rig.told("never") == ["each acme 50", "each acme 50"]


async def test_a_budget_that_ends_does_not_renew(rig: Rig) -> None:
    """Its period was the only one."""
    rig.book.budget(period="once@2026-11-23..2026-11-24")
    rig.watch()
    await rig.spend(60)
    rig.look()
    rig.book.time.now += 2 * DAY
    rig.sweep()
    assert rig.told() == ["b acme 50"]


async def test_a_forecast_must_hold_for_a_while(rig: Rig) -> None:
    """Two thirds spent in three quarters of the month are as planned; spent in a third, they are not.
    It is told once, and as late as the alert is."""
    assert Thresholds().forecast_for_s == watch.FORECAST_FOR_S
    rig.book.time.now -= 12 * DAY  # the 11th
    rig.book.budget(thresholds=(90,))
    rig.watch()
    await rig.spend(66)
    rig.sweep()
    assert rig.told() == []
    for _ in range(40):
        rig.sweep()
    assert rig.told() == ["b acme forecast"]
    assert rig.data("forecast")["runs_out_at"].startswith("2026-11-1")
    assert rig.data("forecast")["percent"] is None


async def test_a_forecast_that_ends_is_not_told(rig: Rig) -> None:
    """A burst that somebody has answered with a higher limit."""
    rig.book.time.now -= 12 * DAY
    rig.book.budget(thresholds=(90,))
    rig.watch()
    await rig.spend(66)
    for _ in range(20):
        rig.sweep()
    rig.book.budget(thresholds=(90,), limit_nano=1_000 * CENT)
    for _ in range(40):
        rig.sweep()
    assert rig.told() == []


async def test_destinations_get_what_they_ask_for(rig: Rig) -> None:
    """By budget, by scope and by step."""
    rig.book.budget()
    rig.book.budget("all", scope="global", subject="*", limit_nano=100 * CENT)
    rig.watch(
        hook("b", budgets=["b"]),
        hook("everybody", scopes=["global"]),
        hook("steps", steps=["30%", 100]),
        hook("none", budgets=["other"]),
    )
    await rig.spend(35)
    rig.look()
    await rig.spend(20)
    rig.look()
    assert rig.told("b") == ["b acme 50"]
    assert rig.told("everybody") == ["all * 50"]
    assert rig.told("steps") == ["all * 30", "b acme 30"]
    assert rig.told("none") == []


async def test_a_default_budget_tells_only_of_those_it_limits(rig: Rig) -> None:
    """Somebody with a budget of their own is not told of the default one."""
    rig.book.budget("default", subject="*", default=True)
    rig.book.budget("acmes", limit_nano=1_000 * CENT)
    rig.watch()
    await rig.spend(60)
    await rig.spend(60, customer="beta")
    rig.look()
    rig.sweep()
    assert rig.told() == ["default beta 50"]


async def test_a_blocked_subject_is_not_near_a_limit(rig: Rig) -> None:
    """A limit of nothing is set on purpose."""
    rig.book.budget(limit_nano=0)
    rig.watch()
    await rig.refused(1)
    rig.look()
    rig.sweep()
    assert rig.told() == []


async def test_only_accounts_near_a_step_are_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows say what they cost, so the balances of most requests are not looked at."""
    rig.book.budget("each", subject="*")
    rig.watch()
    read: list[Any] = []
    reports = rig.notices.reports
    whole = reports.account_states

    def counted(accounts: Any, now_s: int) -> Any:
        read.extend(accounts)
        return whole(accounts, now_s)

    monkeypatch.setattr(reports, "account_states", counted)
    for _ in range(30):
        await rig.spend(1)
        await rig.spend(1, customer="beta")
        rig.look()
    # Each once when it was seen first, and a sweep each minute reads no account by itself.
    assert [subject for _, subject in read] == ["acme", "beta"]
    await rig.spend(21)
    rig.look()
    assert [subject for _, subject in read[2:]] == ["acme"]
    assert rig.told() == ["each acme 50"]


async def test_what_is_forgotten_is_not_told_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the process is bounded; the ledger knows."""
    monkeypatch.setattr(watch, "REMEMBERED_ACCOUNTS", 0)
    rig.book.budget()
    rig.watch()
    await rig.spend(60)
    rig.look()
    await rig.spend(1)
    rig.look()
    assert rig.told() == ["b acme 50"]


async def test_old_notices_are_removed(rig: Rig) -> None:
    """Thirty days after their period, but not what still waits."""
    rig.book.budget(period="day")
    rig.watch()
    await rig.spend(60)
    rig.look()
    [due] = rig.notices.due("hook", rig.book.time.now, 10)
    rig.book.time.now += 40 * DAY
    rig.sweep()
    assert "b acme 50" in rig.told()
    rig.notices.settle([_sent(due.notice.id, rig.book.time.now)])
    rig.book.time.now += 2 * HOUR
    rig.sweep()
    assert "b acme 50" not in rig.told()


def _sent(id_: str, now_ns: int) -> DeliveryEnd:
    return DeliveryEnd(id_, "hook", "sent", now_ns)


async def test_a_copied_ledger_tells_nothing_twice(rig: Rig, tmp_path: Path) -> None:
    """Notices come along, and the same fact has the same id in the copy."""
    rig.book.budget()
    rig.watch()
    await rig.spend(60)
    rig.look()
    await rig.book.ledger.close()
    target = store_at(tmp_path / "copy.db")
    clock = rig.book.time
    clock.now += HOUR  # the gateway's lease has ended
    assert (
        copy_ledger(rig.book.store, target, lambda _done, _all: None, clock.now_ns).problems == []
    )
    book = target.notices()
    watcher = watch.Watcher(book, [hook()])
    watcher.begin(clock.now)
    assert len(book.due("hook", clock.now, 10)) == 1
    assert len(book.reports.notices(10)) == 1
    book.close()


@pytest.mark.parametrize("seed", range(4))
async def test_a_model_finds_the_same(rig: Rig, seed: int) -> None:
    """Requests, changed limits and days in any order: what was recorded is what a model that looks at
    every account each time has found."""
    dice = random.Random(seed)
    budgets = [
        rig.book.budget("each", subject="*", period="day"),
        rig.book.budget("acme", period="month", limit_nano=300 * CENT, thresholds=(10, 60)),
    ]
    rig.watch()
    expected: set[tuple[str, str, int, str, int]] = set()
    for _ in range(60):
        choice = dice.random()
        if choice < 0.7:
            with suppress(BudgetExceededError):  # nothing is written of it
                await rig.spend(
                    dice.randint(1, 40), customer=dice.choice(["acme", "beta", "gamma"])
                )
        elif choice < 0.85:
            budget = dice.choice(budgets)
            changed = replace(budget, limit_nano=dice.randint(50, 300) * CENT)
            with rig.book.store.records("change") as records:
                records.set_budgets([changed], rig.book.time.now)
        else:
            rig.book.time.now += dice.choice([HOUR, 5 * HOUR, DAY])
        rig.look()
        with rig.book.store.reports() as reports:
            states = reports.budget_states(rig.book.time.now // SECOND)
        expected |= {
            (s.budget.name, s.subject, s.period_start_s, str(step), s.budget.limit_nano)
            for s in states
            for step in reached(s, steps_of(s.budget))
        }
    with rig.book.store.reports() as reports:
        found = [d.notice for d in reports.notices(10_000) if d.notice.step.isdecimal()]
    recorded = {
        (n.account.budget, n.account.subject, n.account.period_start_s, n.step) for n in found
    }
    assert recorded == {entry[:4] for entry in expected}
    assert len({n.id for n in found}) == len(expected)
