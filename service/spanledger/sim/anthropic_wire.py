"""Anthropic's wire: the Messages API, as api.anthropic.com writes it.

It reads and writes JSON and decides nothing: no faults, no billing, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import msgspec

from spanledger.sim.anthropic_rules import check
from spanledger.sim.bill import Usage
from spanledger.sim.prompt import (
    MESSAGES_MAX,
    Prefixes,
    Prompt,
    RefusalError,
    Tool,
    asked_of,
    digest_of,
    model_of,
    objects,
    string,
    whole,
)
from spanledger.sim.scenarios import WireName
from spanledger.sim.tokens import COUNTING, TOKENS_PER_MESSAGE, file_tokens, pieces, tokens
from spanledger.sim.wire import Chunk, Headers
from spanledger.sim.writer import Answer, Choice

IMAGE_TOKENS_MAX = 4_784
"""What the newest models count for the largest image; `detail` is not a field of this API."""
_IGNORED = frozenset({"stream", "metadata"})
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "stop_sequence": "stop_sequence",
}


class AnthropicWire:
    """Messages."""

    name: WireName = "anthropic"
    id_prefix = "msg_01"

    def key(self, headers: Mapping[str, str]) -> str:
        """The `x-api-key`, or the bearer token that newer clients send; a version is required too."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        key = headers.get("x-api-key", "").strip() or bearer
        if not key:
            raise RefusalError(401, "x-api-key header is required")
        if not headers.get("anthropic-version", "").strip():
            raise RefusalError(400, "anthropic-version: header is required")
        return key

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a Messages request."""
        return self.read_prompt(body, cap_required=True)

    def read_prompt(self, body: dict[str, object], *, cap_required: bool) -> Prompt:
        """Read a Messages request, or a token counting request."""
        model, script = model_of(body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
            raise RefusalError(400, f"messages: expected 1 to {MESSAGES_MAX} messages")
        cap = whole(body, "max_tokens", 1, 1_000_000)
        if cap is None and cap_required:
            raise RefusalError(400, "max_tokens: Field required")
        if not all(isinstance(message, dict) for message in messages):
            raise RefusalError(400, "messages: Input should be a list of objects")
        check(body, model)
        prefixes = Prefixes()
        tools = _tools(body, prefixes)
        if body.get("system"):
            _add(prefixes, "system", body["system"])
        for index, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
                raise RefusalError(
                    400, f"messages.{index}.role: Input should be 'user' or 'assistant'"
                )
            _add(prefixes, string(message["role"]), message.get("content"))
        last = messages[-1]
        content = last.get("content")
        answered = any(block.get("type") == "tool_result" for block in objects(content))
        choice = body.get("tool_choice")
        choice = choice if isinstance(choice, dict) else {}
        force = {"any": "*", "tool": string(choice.get("name"))}.get(string(choice.get("type")), "")
        stop = body.get("stop_sequences")
        return Prompt(
            wire="anthropic",
            model=model,
            digest=digest_of("anthropic", model, body, _IGNORED),
            segments=tuple(prefixes.segments),
            input_tokens=prefixes.total,
            stream=body.get("stream") is True,
            output_tokens_max=cap,
            asked="" if answered or last.get("role") != "user" else asked_of(content),
            tools=tools,
            force_tool=force,
            tools_barred=choice.get("type") == "none",
            parallel_tools=choice.get("disable_parallel_tool_use") is not True,
            schema=_schema(body),
            thinking_tokens_max=_thinking(body),
            stop=tuple(map(string, stop)) if isinstance(stop, list) else (),
            script=script,
        )

    def refusal(self, refusal: RefusalError, request_id: str) -> tuple[bytes, Headers]:
        """Anthropic's error object."""
        kind = _KINDS.get(refusal.status, "api_error")
        if 400 <= refusal.status < 500 and refusal.status not in _KINDS:
            kind = "invalid_request_error"
        data = {
            "type": "error",
            "error": {"type": kind, "message": refusal.message},
            "request_id": request_id,
        }
        headers = self.headers(request_id)
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(math.ceil(refusal.retry_after_s)).encode()))
        if refusal.status == 429:
            headers += [
                (b"anthropic-ratelimit-requests-limit", b"50"),
                (b"anthropic-ratelimit-requests-remaining", b"0"),
            ]
        return msgspec.json.encode(data), headers

    def headers(self, request_id: str, processing_s: float = 0.0) -> Headers:
        """Headers of every answer; this provider does not report its processing time."""
        del processing_s
        return [
            (b"request-id", request_id.encode()),
            (b"anthropic-organization-id", b"00000000-0000-4000-8000-000000000000"),
        ]

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """A `message` object."""
        del prompt
        choice = answer.choices[0]
        data = _message(answer, usage)
        data["content"] = _blocks(choice)
        data["stop_reason"] = _STOPS[choice.finish]
        data["stop_sequence"] = choice.stop_sequence or None
        return msgspec.json.encode(data)

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """`message_start`: input usage is known, output has just begun."""
        del prompt
        message = _message(answer, usage)
        if usage is not None:
            message["usage"] = usage_json(usage, output_tokens=1)
        yield Chunk(_event("message_start", {"message": message}))

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """The blocks in order, one delta per token."""
        del prompt
        pinged = False
        for index, (block, deltas) in enumerate(_streamed(answer.choices[0])):
            yield Chunk(_event("content_block_start", {"index": index, "content_block": block}))
            if not pinged:
                yield Chunk(_event("ping", {}))
                pinged = True
            for delta, added in deltas:
                yield Chunk(_event("content_block_delta", {"index": index, "delta": delta}), added)
            yield Chunk(_event("content_block_stop", {"index": index}))

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """`message_delta` with the final usage, then `message_stop`."""
        del prompt
        choice = answer.choices[0]
        delta = {
            "stop_reason": _STOPS[choice.finish],
            "stop_sequence": choice.stop_sequence or None,
        }
        data: dict[str, object] = {"delta": delta}
        if usage is not None:
            shown = usage_json(usage)
            names = (
                "input_tokens",
                "cache_creation_input_tokens",
                "cache_read_input_tokens",
                "output_tokens",
            )
            data["usage"] = {name: shown[name] for name in names}
        yield Chunk(_event("message_delta", data))
        yield Chunk(_event("message_stop", {}))

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return (
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","index":0,"delta":{"ty\n\n'
        )


def usage_json(usage: Usage, *, output_tokens: int | None = None) -> dict[str, object]:
    """`usage` of a message: unlike OpenAI's, input excludes tokens read from or written to the cache."""
    written, kept = usage.cache_write_input_tokens, usage.cache_write_1h_input_tokens
    return {
        "input_tokens": usage.input_tokens - usage.cache_read_input_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - kept,
            "ephemeral_1h_input_tokens": kept,
        },
        "output_tokens": usage.output_tokens if output_tokens is None else output_tokens,
        "service_tier": "standard",
    }


def _event(name: str, data: dict[str, object]) -> bytes:
    payload = msgspec.json.encode({"type": name, **data})
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"


def _message(answer: Answer, usage: Usage | None) -> dict[str, object]:
    data: dict[str, object] = {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    if usage is not None:
        data["usage"] = usage_json(usage)
    return data


def _blocks(choice: Choice) -> list[dict[str, object]]:
    blocks: list[dict[str, object]] = []
    if choice.thinking:
        signature = _signature(choice.thinking)
        blocks.append({"type": "thinking", "thinking": choice.thinking, "signature": signature})
    if choice.text:
        blocks.append({"type": "text", "text": choice.text})
    blocks.extend(
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in choice.calls
    )
    return blocks


def _input(arguments: str) -> object:
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}  # the cap cut the JSON short


def _signature(thinking: str) -> str:
    return f"sim{len(thinking):08d}"


_Delta = tuple[dict[str, object], int]


def _streamed(choice: Choice) -> Iterator[tuple[dict[str, object], Iterator[_Delta]]]:
    if choice.thinking:
        yield {"type": "thinking", "thinking": "", "signature": ""}, _thinking_deltas(choice)
    if choice.text:
        yield {"type": "text", "text": ""}, _deltas("text_delta", "text", choice.text)
    for call in choice.calls:
        block: dict[str, object] = {
            "type": "tool_use",
            "id": call.id,
            "name": call.name,
            "input": {},
        }
        yield block, _deltas("input_json_delta", "partial_json", call.arguments)


def _deltas(kind: str, name: str, text: str) -> Iterator[_Delta]:
    for piece, added in pieces(text):
        yield {"type": kind, name: piece}, added


def _thinking_deltas(choice: Choice) -> Iterator[_Delta]:
    yield from _deltas("thinking_delta", "thinking", choice.thinking)
    yield {"type": "signature_delta", "signature": _signature(choice.thinking)}, 0


def _add(prefixes: Prefixes, role: str, content: object) -> None:
    """Add a message block by block, so a cache breakpoint can follow any of them."""
    if not isinstance(content, list):
        text = string(content)
        prefixes.add([role, text], TOKENS_PER_MESSAGE + tokens(text))
        return
    extra = TOKENS_PER_MESSAGE
    for block in objects(content):
        plain = {key: value for key, value in block.items() if key != "cache_control"}
        prefixes.add([role, plain], extra + _block_tokens(block), _ttl(block))
        extra = 0


def _block_tokens(block: dict[str, object]) -> int:
    kind = block.get("type")
    if kind == "image":
        return min(COUNTING.get().image, IMAGE_TOKENS_MAX)
    if kind == "document":
        return _document_tokens(block)
    if kind == "tool_use":
        return tokens(msgspec.json.encode(block.get("input")).decode())
    if kind == "tool_result":
        content = block.get("content")
        if isinstance(content, str):
            return tokens(content)
        return sum(map(_block_tokens, objects(content)))
    if kind == "thinking":
        return tokens(string(block.get("thinking")))
    return tokens(string(block.get("text")))


def _document_tokens(block: dict[str, object]) -> int:
    given = block.get("source")
    source = given if isinstance(given, dict) else {}
    named = tokens(string(block.get("title"))) + tokens(string(block.get("context")))
    if source.get("type") == "text":
        return named + tokens(string(source.get("data")))
    if source.get("type") == "content":
        content = source.get("content")
        if isinstance(content, str):
            return named + tokens(content)
        return named + sum(map(_block_tokens, objects(content)))
    return named + file_tokens(source.get("data") or source.get("url") or source.get("file_id"))


def _ttl(block: dict[str, object]) -> str:
    control = block.get("cache_control")
    if not isinstance(control, dict):
        return ""
    return "1h" if control.get("ttl") == "1h" else "5m"


def _tools(body: dict[str, object], prefixes: Prefixes) -> tuple[Tool, ...]:
    given = objects(body.get("tools"))
    if not given:
        return ()
    ttls = [ttl for ttl in map(_ttl, given) if ttl]
    hosted = sum("type" in tool and string(tool["type"]).startswith("web_") for tool in given)
    count = COUNTING.get().tools + hosted * COUNTING.get().hosted_tool
    count += tokens(msgspec.json.encode(given).decode())
    prefixes.add(given, count, ttls[-1] if ttls else "")
    return tuple(Tool(string(tool.get("name")), tool.get("input_schema")) for tool in given)


def _schema(body: dict[str, object]) -> object:
    for place in (body.get("output_config"), body):
        chosen = (
            place.get("format" if place is not body else "output_format")
            if isinstance(place, dict)
            else None
        )
        if isinstance(chosen, dict) and chosen.get("type") == "json_schema":
            return chosen.get("schema") or {}
    return None


def _thinking(body: dict[str, object]) -> int:
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return 0
    return whole(thinking, "budget_tokens", 1, 1_000_000, 1_024) or 0
