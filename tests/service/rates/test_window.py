"""A minute's window against a list of everything that was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanledger.rates.model import WINDOW_S
from spanledger.rates.window import BUCKET_S, SlidingWindow

STEPS = st.lists(
    st.tuples(st.floats(0, 45), st.integers(0, 50), st.one_of(st.none(), st.integers(0, 50))),
    max_size=60,
)


@given(STEPS)
def test_what_it_counts_is_all_of_the_last_minute_and_hardly_more(
    steps: list[tuple[float, int, int | None]],
) -> None:
    """Amounts stay counted for a minute, and a bucket longer at most, also when they are corrected."""
    window, now, counted = SlidingWindow(), 1000.0, list[tuple[float, int]]()
    for passes, amount, becomes in steps:
        now += passes
        window.add(now, amount)
        counted.append((now, amount))
        if becomes is not None and counted:
            at, before = counted[0]
            if at > now - WINDOW_S:
                window.correct(at, becomes - before)
                counted[0] = (at, becomes)

        total = window.total(now)

        assert total >= sum(n for at, n in counted if at > now - WINDOW_S)
        assert total <= sum(n for at, n in counted if at > now - WINDOW_S - BUCKET_S)


@given(STEPS, st.integers(0, 100))
def test_when_it_falls_is_when_it_has_fallen(
    steps: list[tuple[float, int, int | None]], most: int
) -> None:
    """After the wait that it says there is room, and a bucket earlier there was none."""
    window, now = SlidingWindow(), 1000.0
    for passes, amount, _ in steps:
        now += passes
        window.add(now, amount)

    wait = window.falls_in(now, most)

    assert wait is not None
    assert 0 <= wait <= WINDOW_S + BUCKET_S
    if wait > BUCKET_S:
        assert window.total(now + wait - BUCKET_S) > most
    assert window.total(now + wait + 1e-6) <= most


def test_it_never_falls_below_zero() -> None:
    """Nobody waits for what cannot be."""
    window = SlidingWindow()
    window.add(1.0, 5)

    assert window.falls_in(1.0, -1) is None
    assert window.empties_in(1.0) == WINDOW_S + BUCKET_S
    assert SlidingWindow().empties_in(1.0) == 0
