"""Turns in the order that the Messages API requires: results after their calls, no empty text, and an
end that it accepts."""

from __future__ import annotations

from typing import Any

from spanledger.wires.fields import among

Block = dict[str, Any]

NO_RESULT = "No result was given for this call."
GO_ON = "Continue."
NOTHING = "."
"""A user's empty message: a text needs something other than white space."""
_THINKING = frozenset({"thinking", "redacted_thinking"})


def mend(turns: list[Block], *, prefill: bool, changed: list[str]) -> list[Block]:
    """The turns in an order that is accepted. Roles alternate before and after."""
    if turns[0]["role"] == "assistant":
        changed.append("messages")
        turns.insert(0, {"role": "user", "content": [_text(NOTHING)]})
    turns = _paired(turns, changed)
    last = turns[-1]
    if last["role"] == "assistant" and not prefill:
        changed.append("messages")
        turns.append({"role": "user", "content": [_text(GO_ON)]})
    elif last["role"] == "assistant":
        _trim_prefill(last, changed)
    return turns


def _paired(turns: list[Block], changed: list[str]) -> list[Block]:
    """Put each call's result first in the turn after it; no result without a call."""
    paired: list[Block] = []
    waiting: list[str] = []
    for turn in turns:
        if turn["role"] == "user":
            turn = _results_first(turn, waiting, changed)
        paired.append(turn)
        waiting = [block["id"] for block in turn["content"] if block.get("type") == "tool_use"]
    if waiting:
        paired.append(_results_first({"role": "user", "content": []}, waiting, changed))
    return paired


def _results_first(turn: Block, waiting: list[str], changed: list[str]) -> Block:
    results: dict[str, Block] = {}
    others: list[Block] = []
    for block in turn["content"]:
        if block.get("type") != "tool_result":
            others.append(block)
        elif block["tool_use_id"] in waiting and block["tool_use_id"] not in results:
            results[block["tool_use_id"]] = block
        else:
            others += _as_text(block)
    for unique in waiting:
        if unique not in results:
            results[unique] = {
                "type": "tool_result",
                "tool_use_id": unique,
                "content": NO_RESULT,
                "is_error": True,
            }
    content = [*results.values(), *others]
    if content != turn["content"]:
        changed.append("messages")
    return {**turn, "content": content or [_text(NOTHING)]}


def _as_text(result: Block) -> list[Block]:
    """A result without a call, as a text of the user."""
    content = result.get("content") or ""
    if isinstance(content, str):
        return [_text(f"Result of a tool: {content}")]
    return [_text("Result of a tool:"), *content]


def _trim_prefill(last: Block, changed: list[str]) -> None:
    """A prefilled answer must not end in white space."""
    block = last["content"][-1]
    if block.get("type") == "text" and block["text"] != (text := block["text"].rstrip()):
        changed.append("messages")
        block["text"] = text


def lacks_thinking(turns: list[Block]) -> bool:
    """Whether the answer continues a turn that began without thinking, which a model with a thinking
    budget refuses."""
    for turn in reversed(turns):
        if turn["role"] == "assistant":
            return not among(turn["content"][0].get("type"), _THINKING)
        if not any(block.get("type") == "tool_result" for block in turn["content"]):
            return False
    return False


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
