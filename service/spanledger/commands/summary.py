"""What a gateway logs at startup: enough to see at a glance that it runs as intended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spanledger import __version__
from spanledger.commands.common import store_of
from spanledger.config.addresses import shown_ledger
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.keys import state_of

if TYPE_CHECKING:
    from spanledger.config import Config
    from spanledger.routing.plan import Plan

MAX_NAMED = 12
"""How many routes and budgets are named; the rest are counted."""


def start_summary(file: Path, config: Config, plan: Plan) -> list[tuple[str, dict[str, object]]]:
    """Messages with their fields."""
    from spanledger.pricing.book import PriceBook
    from spanledger.telemetry.endpoints import shown_endpoint

    telemetry = config.telemetry
    return [
        (
            f"spanledger {__version__} is ready",
            {
                "config": str(file),
                "ledger": shown_ledger(config.ledger.url),
                "prices": PriceBook.load().date,
                "telemetry": shown_endpoint(telemetry.endpoint, os.environ)
                if telemetry.enabled
                else "off",
                "content": telemetry.content,
            },
        ),
        (
            "serving",
            {
                "routes": named(sorted({d.route for d in plan.deployments})),
                "deployments": len(plan.deployments),
                "providers": ",".join(sorted({d.provider for d in plan.deployments})),
            },
        ),
        *_told(config),
        *_stored(config.ledger.url),
    ]


def _told(config: Config) -> list[tuple[str, dict[str, object]]]:
    """Who gets notices, if anybody does."""
    names = [f"{d.name} ({d.kind})" for d in config.notices.destinations]
    return [("notices on budgets are sent", {"to": named(names)})] if names else []


def _stored(url: str) -> list[tuple[str, dict[str, object]]]:
    """What the ledger has of budgets and keys. A gateway that serves does not end because it cannot be
    read just now."""
    try:
        with store_of(url).records("read") as records:
            now_ns = time.time_ns()
            keys = sum(state_of(key, (), now_ns) == "valid" for key in records.keys())  # noqa: SIM118  # not a dict
            keyed = records.has_keys()
            budgets = records.budgets()
    except LedgerUnavailableError as error:
        return [(f"budgets and keys are not known yet: {error}", {})]
    return [
        (
            "budgets",
            {
                "blocking": named(sorted(b.name for b in budgets if b.blocks)),
                "warning": named(sorted(b.name for b in budgets if not b.blocks)),
            },
        ),
        (
            f"callers need one of {keys} keys"
            if keyed
            else "no keys yet: only programs on this machine may call, without a key"
            " (`spanledger keys create --customer NAME` creates one)",
            {},
        ),
    ]


def named(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MAX_NAMED
    shown = ",".join(names[:MAX_NAMED]) or "none"
    return f"{shown} and {more} more" if more > 0 else shown
