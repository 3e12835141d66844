"""Errors in Google's shape: `{"error": {"code", "message", "status", "details"}}`.

Our own code and figures are in the details, as an `ErrorInfo`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from spanledger.errors import Category
from spanledger.wires.base import Problem


class _Status(NamedTuple):
    code: int
    name: str


_STATUSES: dict[Category, _Status] = {
    "invalid_request": _Status(400, "INVALID_ARGUMENT"),
    "authentication": _Status(401, "UNAUTHENTICATED"),
    "permission": _Status(403, "PERMISSION_DENIED"),
    "not_found": _Status(404, "NOT_FOUND"),
    "rate_limit": _Status(429, "RESOURCE_EXHAUSTED"),
    "quota": _Status(429, "RESOURCE_EXHAUSTED"),
    "overloaded": _Status(503, "UNAVAILABLE"),
    "server": _Status(500, "INTERNAL"),
}
_STATUSES_OF_CODES = {
    "model_not_found": _Status(404, "NOT_FOUND"),
    "unknown_url": _Status(404, "NOT_FOUND"),
    "timeout": _Status(504, "DEADLINE_EXCEEDED"),
}
"""Codes that Google has a status of its own for."""
_DOMAIN = "spanledger"
_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def error_body(problem: Problem) -> bytes:
    """The body of an error answer."""
    return msgspec.json.encode({"error": _error(problem)})


def error_event(problem: Problem) -> bytes:
    """The event that a broken stream ends with."""
    return b"data: " + error_body(problem) + b"\n\n"


def _error(problem: Problem) -> dict[str, object]:
    status = _STATUSES_OF_CODES.get(problem.code) or _STATUSES[problem.category]
    told = problem.told or {}
    message = told.get("message")
    facts = {name: str(value) for name, value in problem.figures.items() if value is not None}
    if problem.param is not None:
        facts["param"] = problem.param
    info = {"@type": _INFO, "reason": problem.code, "domain": _DOMAIN, "metadata": facts}
    return {
        "code": status.code,
        "message": message if isinstance(message, str) and message else problem.message,
        "status": status.name,
        "details": [info],
    }
