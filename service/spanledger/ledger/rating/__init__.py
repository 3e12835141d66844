"""Rates on the request path: each process's share of them, leased from the ledger."""

from __future__ import annotations

import os
import secrets

from spanledger.clock import Clock
from spanledger.ledger.ports import Store
from spanledger.ledger.rating.limiter import Limiter
from spanledger.ledger.rating.rated import RatedLedger

__all__ = ["Limiter", "RatedLedger", "open_limiter"]


def open_limiter(store: Store, clock: Clock, *, longest_request_s: float) -> Limiter:
    """The rates of this process, as a ledger has them now; close it with `await limiter.close()`."""
    owner = f"{os.getpid()}-{secrets.token_hex(6)}"
    limiter = Limiter(store.rates("create"), owner, clock, longest_request_s=longest_request_s)
    limiter.load()
    return limiter
