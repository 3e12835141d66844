"""The Response object: what it echoes of the request, its usage and its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from spanledger.pricing.usage import Usage
from spanledger.wires.base import Seen, Server
from spanledger.wires.fields import is_set
from spanledger.wires.responses_as_chat.mistakes import Item
from spanledger.wires.responses_as_chat.tools import Toolbox

_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
"""What the client's type knows; another provider's tier is `default`."""
_DEFAULTS: Item = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
"""What an answer repeats of its request, and says where the request has nothing."""
_FIXED: Item = {
    "background": False,
    "error": None,
    "previous_response_id": None,
    "store": False,
    "truncation": "disabled",
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""By the finish reason; with every other one an answer is complete."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What is remembered of a request until its answer is written.

    Attributes:
        box: what its tools stand for.
        fields: what its answer repeats.
    """

    box: Toolbox
    fields: Item = field(default_factory=dict)


def echo_of(fields: Mapping[str, msgspec.Raw], box: Toolbox) -> Echo:
    """What the answer to these fields repeats of them."""
    said = {n: raw for n in _DEFAULTS if (raw := fields.get(n)) is not None and is_set(raw)}
    return Echo(box, {**_DEFAULTS, **said, **_FIXED})


def new_response(echo: Echo, server: Server, key: str, model: str, created: int) -> Item:
    """A response that has only begun. Its id is none of those by which kept answers are found
    (`answer_ids`): this one is not kept."""
    return {
        "id": f"resp_{key}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "completed_at": None,
        "incomplete_details": None,
        "model": model or server.model,
        "output": [],
        **echo.fields,
        "service_tier": None,
        "usage": None,
    }


def finish(response: Item, finish_reason: str, usage: Usage | None, service: str) -> None:
    """Say how it ended, and what it used."""
    reason = _INCOMPLETE.get(finish_reason)
    response["status"] = "completed" if reason is None else "incomplete"
    response["incomplete_details"] = None if reason is None else {"reason": reason}
    if reason is None:
        response["completed_at"] = response["created_at"]
    response["service_tier"] = service if service in _TIERS else "default"
    response["usage"] = usage_shown(usage)


def key_of(seen: Seen, chat_id: str) -> str:
    """What the ids of a response and its items have in common. Servers have given the same id
    twice; the gateway's own id of the request is unique."""
    return seen.ours.removeprefix("req_") or chat_id.removeprefix("chatcmpl-") or "unknown"


def item_status(finish_reason: str) -> str:
    """The status of an answer's last item."""
    return "incomplete" if finish_reason in _INCOMPLETE else "completed"


def usage_shown(usage: Usage | None) -> Item:
    """Usage as this API has it."""
    told = usage or Usage()
    return {
        "input_tokens": told.input_tokens,
        "input_tokens_details": {
            "cached_tokens": told.cache_read_input_tokens,
            "cache_write_tokens": told.cache_write_input_tokens,
        },
        "output_tokens": told.output_tokens,
        "output_tokens_details": {"reasoning_tokens": told.reasoning_output_tokens},
        "total_tokens": told.input_tokens + told.output_tokens,
    }


def citations(value: Any) -> list[Item]:
    """Annotations of a message; a chat has each below the name of its type."""
    found: list[Item] = []
    for one in value if isinstance(value, list) else ():
        inner = one.get("url_citation") if isinstance(one, dict) else None
        if isinstance(inner, dict):
            empty: Item = {"start_index": 0, "end_index": 0, "title": "", "url": ""}
            found.append({"type": "url_citation", **empty, **inner})
    return found


def logprobs_of(value: Any) -> list[Item]:
    """Log probabilities of a choice's text."""
    tokens = value.get("content") if isinstance(value, dict) else None
    return [
        {
            "token": one.get("token") or "",
            "bytes": one.get("bytes") or [],
            "logprob": one.get("logprob") or 0.0,
            "top_logprobs": [
                {**top, "bytes": top.get("bytes") or []}
                for top in one.get("top_logprobs") or ()
                if isinstance(top, dict)
            ],
        }
        for one in (tokens if isinstance(tokens, list) else ())
        if isinstance(one, dict)
    ]
