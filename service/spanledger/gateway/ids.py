"""Ids of requests, traces and spans; the W3C header that names a caller's trace."""

from __future__ import annotations

import random
import re

from spanledger.ledger.model import UNSAMPLED

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
MAX_TRACESTATE_BYTES = 512
"""As much as W3C asks everybody to forward."""
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


def parent_of(traceparent: bytes | None) -> tuple[str, str]:
    """Trace id and parent span id of a W3C `traceparent`, or two empty strings.

    A caller that does not sample its trace has `UNSAMPLED` after its span id: the request is traced
    all the same, and its spans say so in their flags.
    """
    if traceparent is None:
        return "", ""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return "", ""
    version, trace, span, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest) or trace == _NO_TRACE or span == _NO_SPAN:
        return "", ""
    sampled = int(flags, 16) & 1
    return trace.decode(), span.decode() + ("" if sampled else UNSAMPLED)


def tracestate_of(value: bytes | None) -> str:
    """A caller's W3C `tracestate`; empty if it is absent, or nothing to hand on."""
    if value is None or len(value) > MAX_TRACESTATE_BYTES or not value.isascii():
        return ""
    text = value.decode().strip()
    return text if text.isprintable() else ""


def new_request_id(rng: random.Random, now_ns: int) -> str:
    """`req_` and 24 hex digits: 12 of the time in milliseconds, 12 of chance.

    Ids that rise with time keep the ledger's rows of one moment on the same pages.
    """
    return f"req_{now_ns // 1_000_000 << 48 | rng.getrandbits(48):024x}"


def new_trace_id(rng: random.Random) -> str:
    """32 hex digits, not all zero."""
    return (rng.getrandbits(128) or 1).to_bytes(16).hex()


def new_span_id(rng: random.Random) -> str:
    """16 hex digits, not all zero."""
    return (rng.getrandbits(64) or 1).to_bytes(8).hex()
