"""What a provider's refusal means: one of our kinds, how long to wait, what the caller may read.

The shape of an error is read in `error_forms`, the wordings stand in `wordings`. Text from a
provider may carry secrets or the prompt: it goes into `body`, scrubbed, and only when the caller's
request was at fault; the message of an error holds our own words and the provider's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import msgspec

from spanledger.errors import CALLER_CAUSED, ProviderError
from spanledger.providers.base import Deployment
from spanledger.providers.error_forms import MESSAGE_KEYS, Failure
from spanledger.providers.wordings import CONTENT, CONTEXT, NOT_CONTEXT, codes_of, pattern_of

MAX_RETRY_AFTER_S = 3600.0
MIN_KEY_CHARS = 8
"""A shorter key is none but a word, such as `EMPTY`, and stands in texts for what it says."""
REDACTED = "[redacted]"

_OTHER_WORDS = frozenset({"object", "error", "choices", "id", "usage", "created", *MESSAGE_KEYS})
"""What an error in another shape has beside OpenAI's four fields, or says in their place."""
_IDENTIFIER = re.compile(r"[a-zA-Z][a-zA-Z_]{0,63}")
_SECRET = re.compile(r"\b(?:sk|rk|pk|gsk|xai)-[A-Za-z0-9_*-]{6,}|\bAIza[A-Za-z0-9_-]{20,}")
_CONTEXT = pattern_of(CONTEXT)
_NOT_CONTEXT = pattern_of(NOT_CONTEXT)
_FILTER = pattern_of(CONTENT)
_BAD_KEY = re.compile(
    r"(?:error: |your |the )?(?:api[ _]key (?:not valid|is invalid|expired|is missing)"
    r"|(?:invalid|incorrect) api[ _-]key)",
    re.IGNORECASE,
)
"""At the beginning only, as the next: further on may stand what a caller wrote, and it must not shut
a deployment for the others."""
_NO_MONEY = re.compile(
    r"(?:error: |your |you have )?(?:credit balance is too low|insufficient (?:balance|credits|funds))",
    re.IGNORECASE,
)
_REQUEST_ALONE = re.compile(
    r"request too large for|tokens must be reduced in order to run|reduce your message size"
    r"|required for long context requests|fewer max_tokens|can only afford",
    re.IGNORECASE,
)
"""Limits of tokens a minute, and accounts that would pay for a smaller request."""

_KIND_BY_CODE = {
    **codes_of("context_window_exceeded", CONTEXT),
    **codes_of("content_filtered", CONTENT),
    "insufficient_quota": "rate_limited",
    "billing_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "invalid_api_key": "authentication_failed",
    "authentication_error": "authentication_failed",
    "permission_error": "authentication_failed",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "overloaded": "overloaded",
    "service_unavailable": "overloaded",
    "timeout_error": "timeout",
    "timeout": "timeout",
    "server_error": "server_error",
    "api_error": "server_error",
    "internal_error": "server_error",
    "internal_server_error": "server_error",
    "invalid_request_error": "invalid_request",
    "request_too_large": "invalid_request",
    # vLLM and others write the names of Python's exceptions,
    "BadRequestError": "invalid_request",
    "UnprocessableEntityError": "invalid_request",
    "AuthenticationError": "authentication_failed",
    "PermissionDeniedError": "authentication_failed",
    "NotFoundError": "not_found",
    "RateLimitError": "rate_limited",
    "InternalServerError": "server_error",
    "ServiceUnavailableError": "overloaded",
    "APITimeoutError": "timeout",
    # Google the statuses of gRPC,
    "INVALID_ARGUMENT": "invalid_request",
    "UNAUTHENTICATED": "authentication_failed",
    "PERMISSION_DENIED": "authentication_failed",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limited",
    "UNAVAILABLE": "overloaded",
    "INTERNAL": "server_error",
    "DEADLINE_EXCEEDED": "timeout",
    # DashScope words of its own, and MiniMax and Zhipu numbers.
    "Throttling": "rate_limited",
    "Throttling.RateQuota": "rate_limited",
    "Throttling.AllocationQuota": "rate_limited",
    "Arrearage": "rate_limited",
    "InvalidApiKey": "authentication_failed",
    "base_resp.1001": "timeout",
    "base_resp.1002": "rate_limited",
    "base_resp.1004": "authentication_failed",
    "base_resp.1008": "rate_limited",
    "base_resp.1026": "content_filtered",
    "base_resp.1027": "content_filtered",
    "base_resp.1039": "rate_limited",
    "base_resp.2013": "invalid_request",
    "1113": "rate_limited",
    "1302": "rate_limited",
    "1305": "overloaded",
}
"""By `code`, then by `type`; decides alone only where there is no status (inside a stream)."""

_KIND_BY_STATUS = {
    401: "authentication_failed",
    402: "rate_limited",  # our account there is empty: not the caller's fault
    403: "authentication_failed",
    404: "not_found",
    405: "not_found",
    408: "timeout",
    409: "server_error",
    410: "not_found",
    425: "server_error",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
_MAYBE_BILLED = frozenset({408, 499, 504, 524})
"""A proxy gave up waiting: the model may have run to the end."""


def kind_of(status: int | None, failure: Failure) -> str:
    """The kind of an error answer (`status`) or of an error inside a stream (None)."""
    if status is None:
        status = _status_in(failure)
    named = _KIND_BY_CODE.get(failure.code) or _KIND_BY_CODE.get(failure.type)
    if status is None:
        if named in (None, "invalid_request"):
            return _kind_by_text(failure) or named or "server_error"
        return named
    if status in _KIND_BY_STATUS:
        # Azure, xAI and some gateways refuse content with 403.
        if status == 403 and (named == "content_filtered" or _FILTER.search(failure.message)):
            return "content_filtered"
        return _KIND_BY_STATUS[status]
    if status >= 500:
        return "server_error"
    if status < 300:
        return "malformed_response"  # 101 and the like: not what was asked for
    if status < 400:
        return "not_found"
    if named in CALLER_CAUSED - {"invalid_request"} or named in (
        "authentication_failed",
        "rate_limited",
        "not_found",
    ):
        return named
    return _kind_by_text(failure) or "invalid_request"


def refusal(
    deployment: Deployment,
    status: int | None,
    failure: Failure,
    *,
    headers: Mapping[str, str] | None = None,
    now_s: float = 0.0,
    billed: str = "no",
) -> ProviderError:
    """The error to raise for a provider's refusal."""
    kind = kind_of(status, failure)
    message = f"deployment {deployment.id!r} ({deployment.provider}): {kind.replace('_', ' ')}"
    if status is not None:
        message += f", HTTP {status}"
        if 300 <= status < 400:
            message += ": a redirect, which is not followed; correct its api_base"
    for name in (failure.code, failure.type):
        if _IDENTIFIER.fullmatch(name) and name != kind and scrub(name, deployment) == name:
            message += f", {name}"
            break
    return ProviderError(
        kind,
        message,
        status=status,
        retry_after_s=retry_after_s(headers, now_s) if headers is not None else None,
        body=_caller_body(kind, failure, deployment) if kind in CALLER_CAUSED else None,
        billed="unknown" if (status or _status_in(failure)) in _MAYBE_BILLED else billed,
        request_alone=kind == "rate_limited" and bool(_REQUEST_ALONE.search(failure.message)),
    )


def invalid(
    message: str, *, param: str | None = None, code: str = "unsupported_value"
) -> ProviderError:
    """A request that the provider's wire cannot express; nothing was sent."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return ProviderError(
        "invalid_request", message, status=400, body=msgspec.json.encode({"error": error})
    )


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """What the provider asks to wait: `retry-after-ms`, or `Retry-After` as seconds or a date."""
    value = headers.get("retry-after-ms")
    scale = 0.001
    if value is None:
        value = headers.get("retry-after")
        scale = 1.0
    if value is None:
        return None
    try:
        seconds = float(value) * scale
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    if seconds != seconds:  # NaN
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def scrub(text: str, deployment: Deployment) -> str:
    """`text` without our key there, its beginning or another spelling of it, and without anything
    that looks like a key."""
    key = deployment.api_key or ""
    if len(key) >= MIN_KEY_CHARS:
        for form in {key, msgspec.json.encode(key).decode()[1:-1], quote(key, safe="")}:
            beginning = re.escape(form[: len(form) // 2])
            text = re.sub(beginning + r"[^\s\"'<>(),;]*", REDACTED, text.replace(form, REDACTED))
    return _SECRET.sub(REDACTED, text)


def hide_key(text: str, deployment: Deployment) -> str:
    """A name or id out of a good answer, without our key there; for every request, so no more."""
    key = deployment.api_key
    if key and key in text and len(key) >= MIN_KEY_CHARS:
        return text.replace(key, REDACTED)
    return text


def _scrubbed(value: Any, deployment: Deployment) -> Any:
    """Decoded JSON, every text in it scrubbed."""
    if isinstance(value, str):
        return scrub(value, deployment)
    if isinstance(value, list):
        return [_scrubbed(item, deployment) for item in value]
    if isinstance(value, dict):
        return {scrub(k, deployment): _scrubbed(v, deployment) for k, v in value.items()}
    return value


def _status_in(failure: Failure) -> int | None:
    """The status that an error inside a good answer would have had."""
    return int(failure.code) if re.fullmatch(r"[3-5]\d\d", failure.code) else None


def _kind_by_text(failure: Failure) -> str | None:
    text = failure.message
    if _CONTEXT.search(text) and not _NOT_CONTEXT.search(text):
        return "context_window_exceeded"
    if _BAD_KEY.match(text):
        return "authentication_failed"
    if _NO_MONEY.match(text):
        return "rate_limited"
    if _FILTER.search(text):
        return "content_filtered"
    return None


def _caller_body(kind: str, failure: Failure, deployment: Deployment) -> bytes | None:
    if failure.error is None or not failure.message:
        return None
    kept = {k: v for k, v in failure.error.items() if k not in _OTHER_WORDS}
    code: object = failure.error.get("code")
    if kind == "context_window_exceeded":
        code = "context_length_exceeded"
    elif kind == "content_filtered" and not isinstance(code, str):
        code = "content_filter"
    error = {
        "message": failure.message,
        **kept,
        "type": failure.type or "invalid_request_error",
        "param": failure.error.get("param"),
        "code": code,
    }
    return msgspec.json.encode({"error": _scrubbed(error, deployment)})
