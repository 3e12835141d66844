"""What a budget does near its limit and at it: one row for each action.

Options of commands, keys of files, their checks and the pages derive from these rows. What an action
does is in `accounts` (limits and grace) and `steering` (throttles and other routes). Pure.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

ActionName = Literal["block", "warn", "grace", "throttle", "degrade"]

STEP_PERCENT = 80
"""From which percentage of the limit on a budget throttles or degrades, unless it says otherwise."""
MAX_THROTTLE = 120
"""Most requests a minute that a throttle may allow: an account remembers when each was admitted."""


class Action(NamedTuple):
    """What a budget does.

    Attributes:
        blocks: whether it refuses requests once nothing is left.
        meaning: for help and pages.
        needs: the options that it must have.
    """

    name: ActionName
    blocks: bool
    meaning: str
    needs: tuple[str, ...] = ()


ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action("block", True, "refuses requests that the limit has no room for"),
        Action("warn", False, "serves them, and marks them"),
        Action(
            "grace",
            True,
            "marks requests beyond the limit, up to the amount of `grace` in each period, and then"
            " refuses them",
            ("grace",),
        ),
        Action(
            "throttle",
            True,
            "near the limit, lets `throttle_to` requests a minute through; refuses at the limit",
            ("throttle_to",),
        ),
        Action(
            "degrade",
            True,
            "near the limit, sends requests to the route `degrade_to`; refuses at the limit",
            ("degrade_to",),
        ),
    )
}
"""All actions, in the order in which people read of them."""

OPTIONS = ("grace", "throttle_to", "throttle_at", "degrade_to", "degrade_at")
"""What any budget that blocks may have besides what its action needs."""
AFTER = {"throttle_at": "throttle_to", "degrade_at": "degrade_to"}
"""Options that say nothing without another one."""
