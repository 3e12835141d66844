"""Thinking and `max_tokens` of a Messages request: what the model accepts, and what combines.

Where a forced tool call and thinking exclude each other, thinking is dropped: the caller sees the tool
call in the answer, and not the thinking.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

import msgspec

from spanledger.wires.anthropic.models import Abilities
from spanledger.wires.anthropic.turns import lacks_thinking
from spanledger.wires.base import Outgoing
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, Fields, among

DEFAULT_MAX_TOKENS = 4096
MIN_THINKING_TOKENS = 1024
"""Anthropic's own lower bound of `thinking.budget_tokens`."""

_TOKENS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768}
_EFFORT = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
_ON = frozenset({"enabled", "adaptive"})

_MISSED = re.compile(rb"Expected\W{1,3}thinking\W{1,3}or\W{1,3}redacted_thinking\W")
"""How Anthropic, Bedrock and Vertex AI refuse to think on from an answer without thinking."""
_CLEARS = "clear_thinking_20251015"
"""The edit of `context_management` that is refused without thinking."""

Thinking = dict[str, Any]


def think(
    body: dict[str, object],
    values: dict[str, Any],
    out: Outgoing,
    able: Abilities,
    turns: list[dict[str, Any]],
) -> bool:
    """Set `thinking`, `output_config` and `max_tokens`; returns whether the model will think."""
    wanted = values.get("max_completion_tokens", values.get("max_tokens"))
    if wanted is not None and (not isinstance(wanted, int) or wanted < 0):
        raise invalid("'max_completion_tokens' must be a positive integer", param="max_tokens")
    max_tokens = DEFAULT_MAX_TOKENS if wanted is None else wanted
    given = values.get("output_config") or {}
    if not isinstance(given, dict):
        raise invalid("'output_config' must be an object", param="output_config")
    config = dict(given)
    own, effort = values.get("thinking"), values.get("reasoning_effort")
    field = "reasoning_effort" if own is None else "thinking"
    thinking: Thinking | None = None
    if own is not None:
        thinking = _taken(own, able)
    elif effort is not None:
        thinking = _of_effort(effort, able, config, out.changed)
    asked = own or (effort not in (None, "none") and {"type": "enabled"})
    if (
        thinking is not None
        and among(thinking.get("type"), _ON)
        and _excluded(thinking, body, turns)
    ):
        thinking = None
    if own is None and wanted is None and thinking is not None:
        max_tokens += thinking.get("budget_tokens", 0)
    if out.max_output_tokens is not None:
        max_tokens = min(max_tokens, out.max_output_tokens)
    if thinking is not None and thinking.get("type") == "enabled":
        thinking = fit(thinking, max_tokens)
    if (asked and thinking is None) or (own is not None and thinking != own):
        out.changed.append(field)
    if thinking is not None:
        body["thinking"] = thinking
    elif asked:
        leave_out(body)
    if config:
        body["output_config"] = config
    body["max_tokens"] = max_tokens
    return thinking is not None and among(thinking.get("type"), _ON)


def _of_effort(
    effort: object, able: Abilities, config: dict[str, Any], changed: list[str]
) -> Thinking | None:
    if effort == "none":
        return {"type": "disabled"} if able.thinks_on_demand else None
    if not isinstance(effort, str) or effort not in _EFFORT:
        levels = ", ".join(("none", *_EFFORT))
        raise invalid(f"'reasoning_effort' must be one of {levels}", param="reasoning_effort")
    if able.adaptive:
        level = _EFFORT[effort]
        if level == "xhigh" and not able.top_effort:
            level = "high"
            changed.append("reasoning_effort")
        config.setdefault("effort", level)
        return {"type": "adaptive"}
    return {"type": "enabled", "budget_tokens": _TOKENS[effort]} if able.budget else None


def _taken(own: Any, able: Abilities) -> Thinking | None:
    """The caller's own `thinking`, of a type that the model knows."""
    if not isinstance(own, dict):
        raise invalid("'thinking' must be an object", param="thinking")
    kind = own.get("type")
    if kind == "enabled" and not able.budget:
        return {"type": "adaptive"} if able.adaptive else None
    if kind == "adaptive" and not able.adaptive:
        return {"type": "enabled", "budget_tokens": _TOKENS["medium"]} if able.budget else None
    if kind == "disabled" and not able.thinks_on_demand:
        return None
    return own


def _excluded(thinking: Thinking, body: dict[str, object], turns: list[dict[str, Any]]) -> bool:
    """Whether the model must not think on this request."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        return True
    return thinking.get("type") == "enabled" and lacks_thinking(turns)


def fit(thinking: Thinking, max_tokens: int) -> Thinking | None:
    """A budget must be below `max_tokens`; if not, half of that is left for the answer."""
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        return thinking
    fitting = max(MIN_THINKING_TOKENS, budget if budget < max_tokens else max_tokens // 2)
    if fitting >= max_tokens:
        return None
    return thinking if fitting == budget else {**thinking, "budget_tokens": fitting}


def eased(out: Outgoing, status: int, body: bytes) -> Fields | None:
    """The fields to ask with again where the answer is a refusal to think on from an answer without
    thinking; None for any other.

    Claude Code leaves out the thinking of a model that it did not ask for, and other wires' models
    have none to give back: after a fallback, the same client would be refused at its next turn.
    """
    if status != 400 or "thinking" not in out.fields or not _MISSED.search(body):
        return None
    left = dict(out.fields)
    leave_out(left)
    out.changed.append("thinking")
    return left


def leave_out(fields: MutableMapping[str, Any]) -> None:
    """Remove `thinking` from a body, with what is refused without it."""
    fields.pop("thinking", None)
    raw = fields.get("context_management")
    if not isinstance(raw, msgspec.Raw) or _CLEARS.encode() not in bytes(raw):
        return
    try:
        management = msgspec.json.decode(raw)
        edits = [edit for edit in management["edits"] if edit["type"] != _CLEARS]
    except (*DECODE_ERRORS, KeyError, TypeError):
        return  # not in the API's form: it says so itself
    management["edits"] = edits
    if edits or len(management) > 1:
        fields["context_management"] = msgspec.Raw(msgspec.json.encode(management))
    else:
        del fields["context_management"]
