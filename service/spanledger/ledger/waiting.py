"""Operations and the callers that wait for their results in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.model import AttemptEnd, LedgerOperation, LedgerResult, Reservation


class Waiting(msgspec.Struct, eq=False):
    """An operation and its waiting caller; a retried end has none."""

    operation: LedgerOperation
    future: asyncio.Future[LedgerResult] | None
    loop: asyncio.AbstractEventLoop | None


def unsent(reservation: Reservation, now_ns: int) -> AttemptEnd:
    """The release of a hold that nobody knows of."""
    error_type = LedgerUnavailableError.error_type
    return AttemptEnd(reservation.attempt_id, now_ns, None, error_type=error_type)


def deliver(batch: Sequence[Waiting], results: Sequence[LedgerResult]) -> None:
    """Wake each event loop once with all its results."""
    by_loop: dict[
        asyncio.AbstractEventLoop, list[tuple[asyncio.Future[LedgerResult], LedgerResult]]
    ] = {}
    for waiting, result in zip(batch, results, strict=True):
        if waiting.future is not None and waiting.loop is not None:
            by_loop.setdefault(waiting.loop, []).append((waiting.future, result))
    for loop, pairs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[asyncio.Future[LedgerResult], LedgerResult]]) -> None:
    for future, result in pairs:
        if not future.done():  # the caller may have been cancelled
            future.set_result(result)
