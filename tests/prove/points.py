"""Where a process kills itself: at the n-th passing of a point between two steps of its work.

Loaded only into processes that a proof starts. A point is a method of the product that is wrapped;
the kill is a real SIGKILL, and nothing is flushed or closed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

GATEWAY_POINTS = (
    "before reserve",
    "before commit",
    "within commit",
    "after commit",
    "after reserve",
    "before settle",
    "after settle",
)
SHIPPER_POINTS = ("before shipping", "before advance", "within advance", "after advance")


class Fuse(NamedTuple):
    """When a process kills itself.

    Attributes:
        passes: how often the point is passed before.
        delay_s: how long after the point, for one within a step.
    """

    point: str
    passes: int = 0
    delay_s: float = 0.0


def arm(fuse: Fuse) -> None:
    """Set it up in this process."""
    if fuse.point in GATEWAY_POINTS:
        _arm_gateway(fuse)
    else:
        _arm_shipper(fuse)


class _Count:
    """Kills at the right passing."""

    def __init__(self, fuse: Fuse) -> None:
        self._left, self._delay_s = fuse.passes, fuse.delay_s

    def passed(self) -> None:
        """The point is passed."""
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def begins(self) -> None:
        """The step that it is within begins."""
        self._left -= 1
        if self._left < 0:
            threading.Thread(target=self._later, daemon=True).start()

    def _later(self) -> None:
        time.sleep(self._delay_s)
        os.kill(os.getpid(), signal.SIGKILL)


def _arm_gateway(fuse: Fuse) -> None:
    from spanledger.ledger.group import GroupLedger

    count = _Count(fuse)
    name = {"reserve": "reserve", "settle": "finish", "commit": "_commit"}[fuse.point.split()[1]]
    if name == "_commit":
        _wrap(GroupLedger, name, fuse.point, count)
    else:
        _wrap_async(GroupLedger, name, fuse.point, count)


def _arm_shipper(fuse: Fuse) -> None:
    from spanledger.telemetry.pipeline import Pipeline

    name = "_ship" if fuse.point.endswith("shipping") else "_advance"
    _wrap(Pipeline, name, fuse.point, _Count(fuse))


def _wrap(owner: type, name: str, point: str, count: _Count) -> None:
    step: Callable[..., Any] = getattr(owner, name)

    def wrapped(self: object, batch: Any, *rest: Any, **named: Any) -> Any:
        counts = not _is_sweep(batch)
        if counts and point.startswith("before"):
            count.passed()
        if counts and point.startswith("within"):
            count.begins()
        result = step(self, batch, *rest, **named)
        if counts and point.startswith("after"):
            count.passed()
        return result

    setattr(owner, name, wrapped)


def _is_sweep(batch: Any) -> bool:
    """Whether a batch is the sweep alone, which an idle gateway makes as well."""
    return len(batch) == 1 and type(getattr(batch[0], "operation", None)).__name__ == "Sweep"


def _wrap_async(owner: type, name: str, point: str, count: _Count) -> None:
    step: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def wrapped(self: object, operation: Any) -> Any:
        if point.startswith("before"):
            count.passed()
        result = await step(self, operation)
        if point.startswith("after"):
            count.passed()
        return result

    setattr(owner, name, wrapped)
