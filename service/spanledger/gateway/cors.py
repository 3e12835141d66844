"""Which web pages may call the gateway from a browser (`gateway.allow_origins`)."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

EXPOSED = (
    "retry-after",
    "x-request-id",
    "x-should-retry",
    "x-spanledger-attempts",
    "x-spanledger-budget-remaining-usd",
    "x-spanledger-changed",
    "x-spanledger-cost-usd",
    "x-spanledger-deployment",
    "x-spanledger-trace-id",
)
"""Headers of an answer that a page may read besides those that every page may."""
MAX_AGE_S = 600


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """The application behind answers to preflights, for pages of these origins; `*` is any."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=EXPOSED,
        max_age=MAX_AGE_S,
    )
