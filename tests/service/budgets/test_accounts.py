"""The hold ladder, and which budgets an attempt touches."""

from __future__ import annotations

import pytest

from spanledger.budgets.accounts import Account, AccountKey, Balance, decide
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import Budget, HoldSizes
from spanledger.errors import BudgetExceededError


def account(limit: int, spent: int = 0, held: int = 0, **changes: object) -> Account:
    """An account with a limit in nano-USD."""
    settings: dict[str, object] = {"scope": "customer", "subject": "acme", "period": "month"}
    budget = Budget(name="b", limit_nano=limit, **(settings | changes))  # type: ignore[arg-type]  # test shorthand
    return Account.of(
        budget, Balance(AccountKey("b", "customer", "month", "UTC", 0, "acme"), 10, spent, held)
    )


@pytest.mark.parametrize(
    ("limit", "spent", "sizes", "strict", "granted"),
    [
        pytest.param(1000, 0, HoldSizes(100, 10, 5), False, 100, id="a tenth of the room: full"),
        pytest.param(1000, 1, HoldSizes(100, 10, 5), False, 10, id="more than a tenth: usual"),
        pytest.param(1000, 900, HoldSizes(100, 100, 5), False, 100, id="own cap that just fits"),
        pytest.param(1000, 901, HoldSizes(100, 100, 5), False, None, id="own cap, one too many"),
        pytest.param(1000, 995, HoldSizes(100, 10, 5), False, None, id="usual does not fit"),
        pytest.param(1000, 995, HoldSizes(100, 10, 5), True, 5, id="strict takes what is left"),
        pytest.param(1000, 996, HoldSizes(100, 10, 5), True, None, id="strict, useless rest"),
        pytest.param(1000, 990, HoldSizes(20, 10, 5, learnt=True), False, 10, id="experience"),
        pytest.param(1000, 0, HoldSizes(20, 10, 5, learnt=True), True, None, id="strict, no proof"),
        pytest.param(0, 0, HoldSizes(1, 1, 1), False, None, id="a limit of nothing"),
        pytest.param(0, 0, HoldSizes(0, 0, 0), False, 0, id="a free model"),
    ],
)
def test_ladder(
    limit: int, spent: int, sizes: HoldSizes, strict: bool, granted: int | None
) -> None:
    """Each rung, at the exact nano-dollar where it begins."""
    accounts = [account(limit, spent, strict=strict)]
    if granted is None:
        with pytest.raises(BudgetExceededError):
            decide(accounts, sizes)
    else:
        assert decide(accounts, sizes).hold_nano == granted


def test_the_tightest_account_decides_and_is_named() -> None:
    """With several budgets the least room counts, ignoring those that only warn."""
    accounts = [
        account(1000),
        account(100, spent=60, held=30),
        account(1, action="warn"),
    ]

    grant = decide(accounts, HoldSizes(10, 10, 10))
    assert (grant.hold_nano, grant.remaining_nano, grant.warned) == (10, 0, ("b",))

    with pytest.raises(BudgetExceededError) as caught:
        decide(accounts, HoldSizes(11, 11, 11))
    refusal = caught.value.refusal
    assert (refusal.limit_nano, refusal.spent_nano, refusal.held_nano) == (100, 60, 30)
    assert (refusal.needed_nano, refusal.renews_at_s) == (11, 10)


def test_matching() -> None:
    """A named subject and `*` both apply, `*` for each subject separately; an empty subject has none."""

    def named(name: str, scope: str, subject: str) -> Budget:
        return Budget(name, scope, subject, 1, "day")

    index = BudgetIndex(
        [
            named("acme", "customer", "acme"),
            named("other", "customer", "globex"),
            named("each", "customer", "*"),
            named("team", "team", "*"),
            named("model", "model", "gpt-4o"),
            named("all", "global", "*"),
        ]
    )

    found = index.match(("acme", "", "", "gpt-4o", "openai"))

    assert [(budget.name, subject) for budget, subject in found] == [
        ("acme", "acme"),
        ("each", "acme"),
        ("model", "gpt-4o"),
        ("all", "*"),
    ]
