"""How an outage of the ledger is logged: once as an error, however often its reason changes."""

from __future__ import annotations

import logging
from collections.abc import Collection

log = logging.getLogger(__name__)


def log_outage(problem: str, known: Collection[str], then: str) -> None:
    """Log a reason why the ledger cannot be used, unless it is known. While another is known, which
    makes it the same outage, it is only a warning.

    Args:
        known: the present reasons; empty texts are none.
        then: what the gateway does about it.
    """
    if problem not in known:
        log.log(logging.WARNING if any(known) else logging.ERROR, "%s; %s", problem, then)
