"""Errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}}`.

Our code and figures follow the message; Anthropic's clients show them.
"""

from __future__ import annotations

import msgspec

from spanledger.errors import Category
from spanledger.wires.base import Problem
from spanledger.wires.fields import among

_TYPES: dict[Category, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "rate_limit": "rate_limit_error",
    "quota": "billing_error",
    "overloaded": "overloaded_error",
    "server": "api_error",
}
_TYPES_OF_CODES = {
    "model_not_found": "not_found_error",
    "not_found": "api_error",
    "request_too_large": "request_too_large",
    "timeout": "timeout_error",
    "unknown_url": "not_found_error",
}
"""Codes that Anthropic has a type of its own for."""
_KNOWN = frozenset({*_TYPES.values(), *_TYPES_OF_CODES.values()})


def error_body(problem: Problem) -> bytes:
    """The body of an error answer: the provider's own error, or ours with its figures."""
    return _encoded(_ours(problem) if problem.told is None else _told(problem))


def error_event(problem: Problem) -> bytes:
    """The event that a broken stream ends with in place of `message_stop`."""
    return b"event: error\ndata: " + _encoded(_ours(problem)) + b"\n\n"


def _encoded(error: dict[str, object]) -> bytes:
    return msgspec.json.encode({"type": "error", "error": error})


def _ours(problem: Problem) -> dict[str, object]:
    kind = _TYPES_OF_CODES.get(problem.code) or _TYPES[problem.category]
    shown: dict[str, object] = {"type": kind, "message": problem.message, "code": problem.code}
    if problem.param is not None:
        shown["param"] = problem.param
    return {**shown, **problem.figures}


def _told(problem: Problem) -> dict[str, object]:
    """What a provider said, with a type that Anthropic's clients know."""
    told = {name: value for name, value in (problem.told or {}).items() if value is not None}
    known = among(told.get("type"), _KNOWN)
    return {**told, "type": told["type"] if known else _TYPES[problem.category]}
