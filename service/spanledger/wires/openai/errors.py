"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import msgspec

from spanledger.errors import Category
from spanledger.wires.base import Problem

_TYPES: dict[Category, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "invalid_request_error",
    "permission": "invalid_request_error",
    "not_found": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "quota": "insufficient_quota",
    "overloaded": "api_error",
    "server": "api_error",
}
_CODES = {
    "context_window_exceeded": "context_length_exceeded",
    "content_filtered": "content_filter",
    "rate_limited": "rate_limit_exceeded",
}
"""Codes that OpenAI has a word of its own for."""


def error_body(problem: Problem) -> bytes:
    """The body of an error answer: the provider's own error, or ours with its figures."""
    return msgspec.json.encode({"error": problem.told or _ours(problem)})


def error_event(problem: Problem) -> bytes:
    """The event that a broken stream ends with in place of the end mark."""
    return b"data: " + msgspec.json.encode({"error": _ours(problem)}) + b"\n\n"


def response_error_event(problem: Problem) -> bytes:
    """The same on the Responses API. Its reference has the fields at the top, and its servers have
    them in `error`, which is what OpenAI's clients raise; some clients read one, some the other."""
    error = _ours(problem)
    event = {"type": "error", "sequence_number": 0, **error, "error": error}
    event["type"] = "error"
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _ours(problem: Problem) -> dict[str, object]:
    return {
        "message": problem.message,
        "type": _TYPES[problem.category],
        "param": problem.param,
        "code": _CODES.get(problem.code, problem.code),
        **problem.figures,
    }
