"""The paths the gateway serves, and the other ways in which people's clients write them.

A base URL with or without `/v1`, with or without a slash at its end, is the most common slip of all:
each of them means the same path, so each is served.
"""

from __future__ import annotations

import re

from spanledger.wires import INBOUND

MODELS = "/v1/models"
LIVE = ("/healthz", "/health/liveliness", "/health/liveness")
"""The process answers. The longer ones are LiteLLM's, which people's probes ask for."""
READY = ("/readyz", "/health/readiness")
"""Requests can be served."""
METRICS = "/metrics"

SERVED = ", ".join(
    (*(f"POST {path}" for path in INBOUND), f"GET {MODELS}", f"GET {READY[0]}", f"GET {METRICS}")
)
"""What a 404 says is there."""

_SLASHES = re.compile("/{2,}")
_WITHOUT_PREFIX = {path.removeprefix("/v1"): path for path in (*INBOUND, MODELS)}


def call_path(path: str) -> str | None:
    """The path of a call that `path` means, or None where it means none of them.

    Paths under `/v1` that are not served are returned as they are: they are answered as calls are.
    """
    if path in INBOUND:
        return path
    plain = _SLASHES.sub("/", path).rstrip("/")
    if plain in _WITHOUT_PREFIX:
        return _WITHOUT_PREFIX[plain]
    if plain.startswith("/models/"):
        return "/v1" + plain
    if plain.startswith("/v1/"):
        return plain
    return None


def is_model(path: str) -> bool:
    """Whether a path is the list of models or one of them.

    Google's paths also begin so (`/v1/models/gemini-2.5-pro:generateContent`); they are another API.
    """
    return path == MODELS or (path.startswith(MODELS + "/") and ":" not in path.rsplit("/", 1)[1])
