"""Which web pages may call the gateway from a browser (`gateway.allow_origins`)."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

EXPOSED = (
    "request-id",
    "retry-after",
    "x-request-id",
    "x-should-retry",
    "x-spanledger-attempts",
    "x-spanledger-budget-remaining-usd",
    "x-spanledger-changed",
    "x-spanledger-cost-usd",
    "x-spanledger-degraded",
    "x-spanledger-deployment",
    "x-spanledger-estimated",
    "x-spanledger-trace-id",
)
"""Response headers that a page may read in addition to the CORS-safelisted ones."""
MAX_AGE_S = 600


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """The application with CORS for pages of these origins; `*` allows any."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("DELETE", "GET", "POST"),
        allow_headers=("*",),
        expose_headers=EXPOSED,
        max_age=MAX_AGE_S,
    )
