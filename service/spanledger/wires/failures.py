"""What a provider's refusal means: which kind it is, how long to wait, what the caller may read.

`error_forms` reads the shape of an error, and `wordings` lists its phrases. Text from a provider may
contain secrets or the prompt. It goes into `told`, scrubbed, and only when the caller's request was
at fault; the error's own message has our words and the provider's code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import msgspec

from spanledger.errors import CALLER_CAUSED, ProviderError
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Answer, FailedAnswerError, Frame, Server
from spanledger.wires.error_forms import (
    MESSAGE_KEYS,
    Failure,
    failure_of,
    read_error_event,
    read_failure,
)
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.sse import ErrorPayload
from spanledger.wires.wordings import CONTENT, CONTEXT, NOT_CONTEXT, codes_of, pattern_of

MAX_RETRY_AFTER_S = 3600.0
MIN_KEY_CHARS = 8
"""A shorter key is a placeholder, such as `EMPTY`; replacing it would garble ordinary text."""
REDACTED = "[redacted]"

_OTHER_WORDS = frozenset({"object", "error", "choices", "id", "usage", "created", *MESSAGE_KEYS})
"""Fields that other shapes have in addition to OpenAI's four, or instead of them."""
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
"""Matched at the beginning only, as the next one: later text may quote a caller, and a quotation must
not shut a deployment for everybody else."""
_NO_MONEY = re.compile(
    r"(?:error: |your |you have )?(?:credit balance is too low|insufficient (?:balance|credits|funds))",
    re.IGNORECASE,
)
_REQUEST_ALONE = re.compile(
    r"request too large for|tokens must be reduced in order to run|reduce your message size"
    r"|required for long context requests|fewer max_tokens|can only afford",
    re.IGNORECASE,
)
"""Token limits per minute, and accounts that could still pay for a smaller request."""

_CALLERS_THING = re.compile(
    r"(?<![A-Za-z0-9_/-])(?:file|batch|vs|cntr|conv|pmpt|resp|rs|msg|fc)[-_][A-Za-z0-9]{3,}"
)
"""The id of something that only a request can name. What a 404 is about otherwise is the deployment."""

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
    # Responses that failed have codes of their own,
    "invalid_prompt": "invalid_request",
    "bio_policy": "content_filtered",
    "image_content_policy_violation": "content_filtered",
    **dict.fromkeys(
        (
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "invalid_image_mode",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_file_too_large",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
        ),
        "invalid_request",
    ),
    "vector_store_timeout": "timeout",
    # vLLM and others the names of Python's exceptions,
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
"""Looked up by `code`, then by `type`. Decides alone only without a status, inside a stream."""

_KIND_BY_STATUS = {
    401: "authentication_failed",
    402: "rate_limited",  # our account is empty: not the caller's fault
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
"""A proxy gave up waiting; the model may have finished its answer."""


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
        # A caller that names a file which is not there must not shut a deployment for everybody.
        named_by_caller = status in (404, 410) and failure.code != "model_not_found"
        if named_by_caller and _CALLERS_THING.search(failure.message):
            return "invalid_request"
        return _KIND_BY_STATUS[status]
    if status >= 500:
        return "server_error"
    if status < 300:
        return "malformed_response"  # 101 and the like
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
    server: Server,
    status: int | None,
    failure: Failure,
    *,
    headers: Mapping[str, str] | None = None,
    now_s: float = 0.0,
    billed: str = "no",
) -> ProviderError:
    """The error to raise for a provider's refusal."""
    kind = kind_of(status, failure)
    message = f"deployment {server.id!r} ({server.provider}): {kind.replace('_', ' ')}"
    if status is not None:
        message += f", HTTP {status}"
        if 300 <= status < 400:
            message += ": a redirect, which is not followed; correct its api_base"
    for name in (failure.code, failure.type):
        if _IDENTIFIER.fullmatch(name) and name != kind and scrub(name, server) == name:
            message += f", {name}"
            break
    return ProviderError(
        kind,
        message,
        status=status,
        retry_after_s=retry_after_s(headers, now_s) if headers is not None else None,
        told=_caller_error(kind, failure, server) if kind in CALLER_CAUSED else None,
        billed="unknown" if (status or _status_in(failure)) in _MAYBE_BILLED else billed,
        request_alone=kind == "rate_limited" and bool(_REQUEST_ALONE.search(failure.message)),
    )


def invalid(
    message: str, *, param: str | None = None, code: str = "unsupported_value"
) -> ProviderError:
    """A request that the provider's wire cannot express; nothing was sent."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return ProviderError("invalid_request", message, status=400, told=error)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long the provider asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or a date."""
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


def scrub(text: str, server: Server) -> str:
    """`text` without our key, its beginning or another spelling of it, and without anything that
    looks like a key."""
    key = server.api_key or ""
    if len(key) >= MIN_KEY_CHARS:
        for form in {key, msgspec.json.encode(key).decode()[1:-1], quote(key, safe="")}:
            beginning = re.escape(form[: len(form) // 2])
            text = re.sub(beginning + r"[^\s\"'<>(),;]*", REDACTED, text.replace(form, REDACTED))
    return _SECRET.sub(REDACTED, text)


def hide_key(text: str, server: Server) -> str:
    """A name or id from a successful answer, without our key. Runs on every request, so it only
    looks for the key itself."""
    key = server.api_key
    if key and key in text and len(key) >= MIN_KEY_CHARS:
        return text.replace(key, REDACTED)
    return text


def _scrubbed(value: Any, server: Server) -> Any:
    """Decoded JSON, every text in it scrubbed."""
    if isinstance(value, str):
        return scrub(value, server)
    if isinstance(value, list):
        return [_scrubbed(item, server) for item in value]
    if isinstance(value, dict):
        return {scrub(k, server): _scrubbed(v, server) for k, v in value.items()}
    return value


def _status_in(failure: Failure) -> int | None:
    """The status that an error inside a successful answer would have had."""
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


def _caller_error(kind: str, failure: Failure, server: Server) -> dict[str, Any] | None:
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
    scrubbed: dict[str, Any] = _scrubbed(error, server)
    return scrubbed


def malformed(server: Server, what: str) -> ProviderError:
    """The error for an answer that is not in the expected wire; it may still be billed."""
    return ProviderError(
        "malformed_response",
        f"deployment {server.id!r} ({server.provider}): {what}",
        billed="unknown",
    )


def embedded_error(server: Server, raw: bytes, *, billed: str) -> ProviderError:
    """The error for an `error` object in a successful answer."""
    try:
        data = msgspec.json.decode(raw)
    except DECODE_ERRORS:
        data = None
    return refusal(server, None, failure_of({"error": data}), billed=billed)


def unreadable(server: Server, body: bytes, what: str) -> ProviderError:
    """The error for a body that is not in this wire, perhaps because it is an error."""
    told = type(body) is ErrorPayload
    failure = read_error_event(body) if told else read_failure(body)
    if failure.named:
        return refusal(server, None, failure)
    if body[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        # A website or a proxy answered: no model ran.
        error = malformed(server, "it answered with a web page; check its api_base")
        error.billed = "no"
        return error
    return malformed(server, what)


def failed_after(error: ProviderError, frames: Iterable[Frame]) -> ProviderError:
    """The error with the usage that earlier events reported: that much is billed."""
    usage = reported_by(frames)
    if usage is None:
        return error
    return FailedAnswerError(error, Answer(b"", usage, finish_reasons=("error",)))


def reported_by(frames: Iterable[Frame]) -> Usage | None:
    """The usage that the events of a stream add up to."""
    told: Usage | None = None
    for frame in frames:
        if frame.usage is not None:
            told = frame.usage if told is None else told.followed_by(frame.usage)
    return told
