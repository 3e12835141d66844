"""A message as the events of a stream, and the events of a stream as a message."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from spanledger.pricing.reported import add_counts
from spanledger.wires.anthropic.turns import Block
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.sse import is_stream

LAST_EVENT = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
"""The event that ends a stream."""
MAX_BLOCKS = 4096
"""Blocks of a stream that are followed."""

_PIECES = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "compaction_delta": "content",
}
"""Deltas that add to a text of their block."""
_ENCODER = msgspec.json.Encoder()


def event(name: str, data: Block) -> bytes:
    """One event of a stream."""
    return relayed(name, _ENCODER.encode({"type": name, **data}))


def relayed(name: str, payload: bytes) -> bytes:
    """An event with its data as they came."""
    if b"\n" in payload:
        payload = payload.replace(b"\n", b"\ndata: ")
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"


def events_of_message(message: Block) -> bytes:
    """All events of a stream that adds up to this message, but the one that ends it."""
    usage = message.get("usage") or {}
    opening = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    opening["usage"] = {**usage, "output_tokens": 0}
    parts = [event("message_start", {"message": opening})]
    for index, block in enumerate(message.get("content") or ()):
        parts.append(_events_of_block(index, block))
    delta = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    parts.append(event("message_delta", {"delta": delta, "usage": usage}))
    return b"".join(parts)


def _events_of_block(index: int, block: Block) -> bytes:
    begun, deltas = dict(block), []
    for kind, name in _PIECES.items():
        if block.get("type") == kind.removesuffix("_delta") and block.get(name):
            begun[name] = ""
            deltas.append({"type": kind, name: block[name]})
    if block.get("type") == "thinking" and block.get("signature"):
        begun["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    if block.get("type") in ("tool_use", "server_tool_use"):
        begun["input"] = {}
        text = _ENCODER.encode(block.get("input", {})).decode()
        deltas.append({"type": "input_json_delta", "partial_json": text})
    if isinstance(found := begun.get("citations"), list):
        begun["citations"] = []
        deltas += [{"type": "citations_delta", "citation": one} for one in found]
    return b"".join(
        (
            event("content_block_start", {"index": index, "content_block": begun}),
            *(event("content_block_delta", {"index": index, "delta": one}) for one in deltas),
            event("content_block_stop", {"index": index}),
        )
    )


class Collected:
    """The message that the events of a stream add up to, as far as they came."""

    def __init__(self) -> None:
        self.message: Block = {}
        self._blocks: dict[int, Block] = {}
        self._json: dict[int, list[str]] = {}

    def add(self, payload: bytes) -> None:
        """Add an event; anything else is left out."""
        try:
            data = msgspec.json.decode(payload)
        except DECODE_ERRORS:
            return
        if not isinstance(data, dict):
            return
        index = data.get("index", 0)
        kind, delta = data.get("type"), data.get("delta")
        if kind == "message_start" and isinstance(data.get("message"), dict):
            self.message = data["message"]
        elif kind == "content_block_start" and isinstance(data.get("content_block"), dict):
            if isinstance(index, int) and len(self._blocks) < MAX_BLOCKS:
                self._blocks[index] = data["content_block"]
        elif kind == "content_block_delta" and isinstance(delta, dict) and index in self._blocks:
            self._delta(index, delta)
        elif kind == "message_delta":
            self.message |= delta if isinstance(delta, dict) else {}
            if isinstance(usage := data.get("usage"), dict):
                told = self.message.setdefault("usage", {})
                add_counts(told, usage)

    def whole(self) -> Block:
        """The message."""
        for index, pieces in self._json.items():
            try:
                self._blocks[index]["input"] = msgspec.json.decode("".join(pieces) or "{}")
            except DECODE_ERRORS:
                self._blocks[index]["input"] = {}  # the cap cut the JSON short
        self.message["content"] = [block for _, block in sorted(self._blocks.items())]
        return self.message

    def _delta(self, index: int, delta: Block) -> None:
        block, kind = self._blocks[index], delta.get("type")
        if kind == "input_json_delta":
            self._json.setdefault(index, []).append(str(delta.get("partial_json") or ""))
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]
        elif (name := _PIECES.get(str(kind))) is not None:
            block[name] = str(block.get(name) or "") + str(delta.get(name) or "")


def collected(events: Iterable[bytes]) -> Block:
    """The message that events add up to, each as it was relayed."""
    found = Collected()
    for one in events:
        for line in one.splitlines() if is_stream(one) else (one,):
            if line.startswith((b"data:", b"{")):
                found.add(line.removeprefix(b"data:").strip())
    return found.whole()
