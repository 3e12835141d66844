"""The paths the gateway serves, and the variants that clients send.

The most common mistake of all is a base URL with `/v1` missing, with a trailing slash, or with a
`/v1` that the client adds itself. All variants mean the same path, so all are served.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spanledger.wires import COUNTERS, GOOGLE_ALONE, INBOUND, LISTS_MODELS, RESPONSES

MODELS = "/v1/models"
LIVE = ("/healthz", "/health/liveliness", "/health/liveness", "/api/hello")
"""The process answers. The paths under `/health` are LiteLLM's, which existing probes request;
Claude Code says hello to open its connection early."""
READY = ("/readyz", "/health/readiness")
"""Requests can be served."""
METRICS_PATH = "/metrics"

SERVED = ", ".join(
    (
        *(f"POST {path}" for path in (*INBOUND, *COUNTERS)),
        "GET /v1/responses/{id}",
        *("POST /v1/files", "GET /v1/files", "POST /v1/batches", "GET /v1/batches"),
        f"GET {MODELS}",
        f"GET {READY[0]}",
        f"GET {METRICS_PATH}",
    )
)
"""The paths that a 404 lists."""

REALTIME = "/v1/realtime"
"""OpenAI's conversations by audio, over WebSockets or WebRTC. They are not served."""
_SLASHES = re.compile("/{2,}")
_ALSO = {"/v2/rerank": "/v1/rerank"}
"""Where Cohere's client sends its requests."""
_WITHOUT_PREFIX = _ALSO | {
    path.removeprefix("/v1"): path
    for path in (*INBOUND, *COUNTERS, MODELS)
    if path.startswith("/v1/")
}
_WITH_IDS = ("/realtime/", "/models/", "/responses/", "/files/", "/batches/")
_ANSWER = re.compile(re.escape(RESPONSES.path) + r"/([^/]+)(|/cancel|/input_items)")


class AnswerPath(NamedTuple):
    """The path of a kept answer: its id, and what is asked of it; empty for the answer itself."""

    answer: str
    action: str


def answer_path(path: str) -> AnswerPath | None:
    """What a canonical path says, if it is that of a kept answer."""
    found = _ANSWER.fullmatch(path)
    return None if found is None else AnswerPath(found[1], found[2])


def call_path(path: str) -> str | None:
    """The canonical path of the call that `path` means, or None if it is not a call.

    Unserved paths under `/v1` are returned unchanged, so that they get an error of the same shape.
    """
    if path in INBOUND:
        return path
    plain = _SLASHES.sub("/", path).rstrip("/")
    if plain.startswith("/v1/v1/"):
        plain = plain.removeprefix("/v1")
    if plain in _WITHOUT_PREFIX:
        return _WITHOUT_PREFIX[plain]
    if plain in ("/files", "/batches", "/realtime") or plain.startswith(_WITH_IDS):
        return "/v1" + plain
    return plain if plain.startswith(("/v1/", *GOOGLE_ALONE)) else None


def is_realtime(path: str) -> bool:
    """Whether a canonical path is that of the realtime API."""
    return path == REALTIME or path.startswith(REALTIME + "/")


def is_model(path: str) -> bool:
    """Whether a path is the list of models or a single model.

    Paths of Google's API start the same way (`/v1/models/gemini-2.5-pro:generateContent`).
    """
    if LISTS_MODELS(path):
        return True
    return path == MODELS or (path.startswith(MODELS + "/") and ":" not in path.rsplit("/", 1)[1])
