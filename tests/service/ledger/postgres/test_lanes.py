"""Who numbers which rows: every gateway has a lane of its own, and loses it only while it is gone."""

from __future__ import annotations

import pytest

from spanledger.clock import NANOS
from spanledger.ledger.model import Hold, Settled, Sweep
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres.batch import Batch
from spanledger.ledger.postgres.owner import LANE_GRACE_S
from tests.service.ledger.postgres.rig import (
    balance,
    end,
    reservation,
    set_budget,
    states,
    writing,
)
from tests.service.ledger.stores import raw

HOUR_NS = 3600 * NANOS


def lanes(store: Store) -> list[tuple[int, str | None]]:
    """Each lane with its owner."""
    return raw(store, "SELECT lane, id FROM owners ORDER BY lane")


def sleep_past_lease(store: Store, owner: str) -> None:
    """Make an owner look as if it had slept for long."""
    past = (LANE_GRACE_S + 60) * NANOS
    raw(store, "UPDATE owners SET lease_ns = lease_ns - ? WHERE id = ?", past, owner)


def test_a_gateway_takes_the_lowest_free_lane_and_goes_on_with_its_numbers(store: Store) -> None:
    """There are as many lanes as gateways ever ran at once, and no number is used twice."""
    with writing(store, "a") as a, writing(store, "b") as b, writing(store, "c") as c:
        for writer in (a, b, c):
            held = reservation()
            writer.commit([held])
            writer.commit([end(held)])
        assert lanes(store) == [(0, "a"), (1, "b"), (2, "c")]
        b.close()

        with writing(store, "d") as d:
            held = reservation()
            d.commit([held])
            d.commit([end(held)])

            assert lanes(store) == [(0, "a"), (1, "d"), (2, "c")]

    assert lanes(store) == [(0, None), (1, None), (2, None)]
    assert raw(store, "SELECT lane, array_agg(seq ORDER BY seq) FROM attempts GROUP BY 1") == [
        (0, [1]),
        (1, [1, 3]),
        (2, [1]),
    ]


def test_a_lane_of_a_clock_that_was_far_ahead_is_taken(store: Store) -> None:
    """A killed gateway's lease that no clock will reach soon frees its lane, unless something is held;
    a clock that is a little ahead is as good as any. Who loses a lane although it lives takes another."""
    with (
        writing(store, "near") as near,
        writing(store, "far") as far,
        writing(store, "held") as held,
    ):
        for writer in (near, far, held):
            one = reservation()
            writer.commit([one])
            if writer is not held:
                writer.commit([end(one)])
        little, much = (LANE_GRACE_S - 60) * NANOS, 24 * HOUR_NS
        for name, ahead in (("near", little), ("far", much), ("held", much)):
            raw(store, "UPDATE owners SET lease_ns = lease_ns + ? WHERE id = ?", ahead, name)

        with writing(store, "new") as new:
            new.commit([reservation()])
            assert lanes(store) == [(0, "near"), (1, "new"), (2, "held")]
            far.commit([reservation()])
            assert lanes(store) == [(0, "near"), (1, "new"), (2, "held"), (3, "far")]


def test_a_lane_with_holds_is_not_taken(store: Store) -> None:
    """Neither at its owner's end nor after its lease, until the sweep has expired them."""
    with writing(store, "a") as a:
        a.commit([reservation()])
    assert lanes(store) == [(0, "a")]
    sleep_past_lease(store, "a")

    with writing(store, "b") as b:
        b.commit([reservation()])
        assert lanes(store) == [(0, "a"), (1, "b")]
        [expired] = b.commit([Sweep(reservation().now_ns, HOUR_NS)])
        assert expired == 1

        with writing(store, "c") as c:
            c.commit([reservation()])
            assert lanes(store) == [(0, "c"), (1, "b")]


def test_a_gateway_that_slept_loses_its_lane_and_takes_another(store: Store) -> None:
    """Its next batch is decided again in the new lane; nothing is numbered in the old one."""
    set_budget(store, 100)
    with writing(store, "sleeper") as sleeper:
        first = reservation()
        sleeper.commit([first])
        sleeper.commit([end(first)])
        sleep_past_lease(store, "sleeper")
        with writing(store, "other") as other:
            other.commit([reservation()])
            assert lanes(store) == [(0, "other")]

            second = reservation()
            results = sleeper.commit([second])
            assert isinstance(results[0], Hold)
            assert lanes(store) == [(0, "other"), (1, "sleeper")]
            assert isinstance(sleeper.commit([end(second)])[0], Settled)

    assert raw(store, "SELECT lane, seq FROM attempts WHERE lane IS NOT NULL ORDER BY 1") == [
        (0, 1),
        (1, 1),
    ]
    assert (states(store), balance(store)) == ({"held": 1, "settled": 2}, (14, 10))


def test_a_hold_that_expired_while_its_gateway_slept_is_corrected(store: Store) -> None:
    """Another gateway has expired it; the end that comes late has the last word, once."""
    set_budget(store, 100)
    with writing(store, "sleeper") as sleeper, writing(store, "other") as other:
        held = reservation()
        sleeper.commit([held])
        sleep_past_lease(store, "sleeper")
        other.commit([Sweep(held.now_ns, HOUR_NS)])
        assert (states(store), balance(store)) == ({"expired": 1}, (10, 0))

        [settled] = sleeper.commit([end(held)])

        assert isinstance(settled, Settled)
        assert (states(store), balance(store)) == ({"settled": 1}, (7, 0))
        assert raw(store, "SELECT corrected FROM attempts") == [(1,)]
        [again] = sleeper.commit([end(held)])
        assert isinstance(again, Settled)
    assert balance(store) == (7, 0)


def test_a_batch_that_was_committed_before_its_lane_was_lost_is_not_held_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost and so was the lane: its rows say what was held."""
    set_budget(store, 100)
    with writing(store, "a") as a:
        a.commit([reservation()])

        def lose_answer_and_lane(batch: Batch) -> None:
            monkeypatch.undo()
            batch._commit()
            raw(store, "UPDATE owners SET id = 'thief' WHERE id = 'a'")
            a._owner.batch -= 1
            batch._settle("the answer was lost")

        monkeypatch.setattr(Batch, "_commit", lose_answer_and_lane)

        [result] = a.commit([reservation()])

    assert isinstance(result, Hold)
    assert result.hold_nano == 10
    assert (states(store), balance(store)) == ({"held": 2}, (0, 20))
