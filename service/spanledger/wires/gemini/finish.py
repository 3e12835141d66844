"""Why an answer ended: Google's words, and those of chat completions, which every row has.

Source: `FinishReason` of ai.google.dev/api/generate-content.
"""

from __future__ import annotations

_REASONS = {
    "MAX_TOKENS": "length",
    "BLOCKLIST": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "LANGUAGE": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "RECITATION": "content_filter",
    "SAFETY": "content_filter",
    "SPII": "content_filter",
}
"""Every other one is `stop`."""
_SHOWN = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}


def finish_of(reason: str, *, called: bool = False) -> str:
    """The word for rows."""
    found = _REASONS.get(reason, "stop")
    return "tool_calls" if called and found == "stop" else found


def shown_finish(reason: object) -> str:
    """The word for Google's clients."""
    return _SHOWN.get(reason, "STOP") if isinstance(reason, str) else "STOP"
