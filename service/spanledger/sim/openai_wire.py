"""OpenAI's wire: chat completions and embeddings, as api.openai.com writes them.

It reads and writes JSON and decides nothing: no faults, no billing, no clock.
"""

from __future__ import annotations

import array
import base64
import hashlib
import math
import sys
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest

import msgspec

from spanledger.sim.bill import DEFAULT_SERVICE, Usage
from spanledger.sim.chat_rules import check
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
    text_of,
    whole,
)
from spanledger.sim.scenarios import WireName
from spanledger.sim.tokens import COUNTING, TOKENS_PER_MESSAGE, file_tokens, pieces, tokens
from spanledger.sim.wire import Chunk, Headers
from spanledger.sim.writer import Answer, Choice

CHOICES_MAX = 16
EMBEDDING_INPUTS_MAX = 2_048
FINGERPRINT = "fp_50cad350e4"
_IGNORED = frozenset({"stream", "stream_options", "metadata", "user", "store", "safety_identifier"})
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_KINDS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("billing_error", None),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
    503: ("service_unavailable_error", None),
    529: ("service_unavailable_error", "overloaded"),
}


class OpenAIWire:
    """Chat completions."""

    name: WireName = "openai"
    id_prefix = "chatcmpl-"

    def key(self, headers: Mapping[str, str]) -> str:
        """The bearer token."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RefusalError(
                401,
                "You didn't provide an API key. You need to provide your API key in an "
                "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )
        return key.strip()

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a chat completion request."""
        model, script = model_of(body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
            raise RefusalError(
                400, f"'messages' must be an array of 1 to {MESSAGES_MAX}.", param="messages"
            )
        check(body, model)
        prefixes = Prefixes()
        tools = _tools(body, prefixes)
        for name in ("functions", "response_format"):
            if given := body.get(name):
                prefixes.add(given, tokens(msgspec.json.encode(given).decode()))
        for index, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in _ROLES:
                raise RefusalError(
                    400,
                    f"Invalid value: 'messages[{index}].role' is one of {', '.join(_ROLES)}.",
                    param=f"messages[{index}].role",
                )
            prefixes.add(message, _message_tokens(message))
        last = messages[-1]
        stream = body.get("stream") is True
        options = body.get("stream_options")
        if options is not None and not stream:
            raise RefusalError(
                400,
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param="stream_options",
            )
        cap = whole(body, "max_completion_tokens", 1, 1_000_000)
        if cap is None:
            cap = whole(body, "max_tokens", 1, 1_000_000)
        stop = body.get("stop")
        force, barred = _tool_choice(body)
        return Prompt(
            wire="openai",
            model=model,
            digest=digest_of("openai", model, body, _IGNORED),
            segments=tuple(prefixes.segments),
            input_tokens=prefixes.total,
            stream=stream,
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
            choices=whole(body, "n", 1, CHOICES_MAX, 1) or 1,
            output_tokens_max=cap,
            asked=asked_of(last.get("content")) if last.get("role") == "user" else "",
            tools=tools,
            force_tool=force,
            tools_barred=barred,
            parallel_tools=body.get("parallel_tool_calls") is not False,
            schema=_schema(body.get("response_format")),
            reasoning=string(body.get("reasoning_effort")),
            service=string(body.get("service_tier")),
            stop=tuple([stop] if isinstance(stop, str) else map(string, stop or ()))
            if isinstance(stop, str | list | None)
            else (),
            script=script,
        )

    def refusal(self, refusal: RefusalError, request_id: str) -> tuple[bytes, Headers]:
        """OpenAI's error object."""
        kind, code = _KINDS.get(refusal.status, ("server_error", None))
        if 400 <= refusal.status < 500 and refusal.status not in _KINDS:
            kind = "invalid_request_error"
        error = {
            "message": refusal.message,
            "type": kind,
            "param": refusal.param,
            "code": None if refusal.code is None else refusal.code or code,
        }
        headers = self.headers(request_id)
        if refusal.retry_after_s is not None:
            headers += [
                (b"retry-after", str(math.ceil(refusal.retry_after_s)).encode()),
                (b"retry-after-ms", str(round(refusal.retry_after_s * 1000)).encode()),
            ]
        if refusal.status == 429:
            headers += [
                (b"x-ratelimit-limit-requests", b"500"),
                (b"x-ratelimit-remaining-requests", b"0"),
            ]
        return msgspec.json.encode({"error": error}), headers

    def headers(self, request_id: str, processing_s: float = 0.0) -> Headers:
        """Headers of every answer."""
        return [
            (b"openai-processing-ms", str(round(processing_s * 1000)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"openai-version", b"2020-10-01"),
            (b"openai-organization", b"sim"),
        ]

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """A `chat.completion` object."""
        data: dict[str, object] = {
            "id": answer.id,
            "object": "chat.completion",
            "created": answer.created_s,
            "model": answer.model,
            "choices": [_whole_choice(i, choice) for i, choice in enumerate(answer.choices)],
        }
        if usage is not None:
            data["usage"] = usage_json(usage)
        data["service_tier"] = prompt.service or DEFAULT_SERVICE
        data["system_fingerprint"] = FINGERPRINT
        return msgspec.json.encode(data)

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The chunk with the role, for each choice."""
        del usage
        for index, choice in enumerate(answer.choices):
            delta: dict[str, object] = {
                "role": "assistant",
                "content": None if choice.calls else "",
                "refusal": None,
            }
            yield Chunk(_chunk(prompt, answer, [_delta(index, delta)]))

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """One chunk per token, alternating between choices."""
        before, after = _template(prompt, answer)
        streams = [_tokens_of(i, choice) for i, choice in enumerate(answer.choices)]
        for token in (
            streams[0] if len(streams) == 1 else chain.from_iterable(zip_longest(*streams))
        ):
            if token is not None:
                delta, added = token
                yield Chunk(before + delta + after, added)

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Each choice's finish reason, the usage if requested, and the end marker."""
        for index, choice in enumerate(answer.choices):
            yield Chunk(_chunk(prompt, answer, [_delta(index, {}, _finish(choice))]))
        if prompt.include_usage and usage is not None:
            yield Chunk(_chunk(prompt, answer, [], usage))
        yield Chunk(b"data: [DONE]\n\n")

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return b'data: {"id":"chatcmpl-broken","object":"chat.completion.chunk","choi\n\n'


def usage_json(usage: Usage) -> dict[str, object]:
    """`usage` of a chat completion."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "audio_tokens": 0,
            **_written(usage),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_output_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _written(usage: Usage) -> dict[str, object]:
    """Only models that charge for writing to the cache report it."""
    written = usage.cache_write_input_tokens
    return {"cache_write_tokens": written} if written else {}


def read_embedding_inputs(body: dict[str, object]) -> list[str | list[int]]:
    """The texts or token lists to embed. Raises RefusalError."""
    given = body.get("input")
    items = given if isinstance(given, list) else [given]
    if items and all(_is_token(item) for item in items):
        items = [items]
    inputs: list[str | list[int]] = []
    for item in items[: EMBEDDING_INPUTS_MAX + 1]:
        if (isinstance(item, str) and item) or (
            isinstance(item, list) and item and all(_is_token(token) for token in item)
        ):
            inputs.append(item)
        else:
            raise RefusalError(
                400, "'input' must be text, tokens or a list of these, not empty.", param="input"
            )
    if not 1 <= len(inputs) <= EMBEDDING_INPUTS_MAX:
        raise RefusalError(400, f"'input' takes 1 to {EMBEDDING_INPUTS_MAX} items.", param="input")
    return inputs


def embedding_tokens(item: str | list[int]) -> int:
    """Tokens of one input."""
    return tokens(item) if isinstance(item, str) else len(item)


def write_embeddings(
    body: dict[str, object],
    model: str,
    inputs: list[str | list[int]],
    seed: int,
    usage: Usage | None,
) -> bytes:
    """A list of vectors: the same text always has the same unit vector."""
    size = whole(body, "dimensions", 1, 4_096, 3_072 if "large" in model else 1_536) or 1
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise RefusalError(400, "'encoding_format' is float or base64.", param="encoding_format")
    rows: list[dict[str, object]] = []
    for index, item in enumerate(inputs):
        vector = _vector(f"{seed}\0{model}\0{item!r}", size)
        shown: object = vector.tolist()
        if encoding == "base64":
            if sys.byteorder == "big":
                vector.byteswap()
            shown = base64.b64encode(vector.tobytes()).decode()
        rows.append({"object": "embedding", "index": index, "embedding": shown})
    data: dict[str, object] = {"object": "list", "data": rows, "model": model}
    if usage is not None:
        data["usage"] = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return msgspec.json.encode(data)


def _vector(key: str, size: int) -> array.array[float]:
    drawn = array.array(
        "h", hashlib.shake_256(key.encode("utf-8", "surrogatepass")).digest(size * 2)
    )
    length = math.sqrt(sum(value * value for value in drawn)) or 1.0
    return array.array("f", [value / length for value in drawn])


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _message_tokens(message: dict[str, object]) -> int:
    content = message.get("content")
    media = sum(map(_media_tokens, objects(content)))
    arguments = 0
    for call in objects(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            arguments += tokens(string(function.get("arguments")))
    return TOKENS_PER_MESSAGE + tokens(text_of(content)) + media + arguments


def _media_tokens(part: dict[str, object]) -> int:
    if part.get("type") == "file":
        file = part.get("file")
        given = file if isinstance(file, dict) else {}
        return file_tokens(given.get("file_data") or given.get("file_id"))
    if part.get("type") != "image_url":
        return 0
    image = part.get("image_url")
    small = isinstance(image, dict) and image.get("detail") == "low"
    return COUNTING.get().small_image if small else COUNTING.get().image


def _tools(body: dict[str, object], prefixes: Prefixes) -> tuple[Tool, ...]:
    given = objects(body.get("tools"))
    if not given:
        return ()
    prefixes.add(given, COUNTING.get().tools + tokens(msgspec.json.encode(given).decode()))
    functions = [tool.get("function") for tool in given]
    return tuple(
        Tool(string(function.get("name")), function.get("parameters"))
        for function in functions
        if isinstance(function, dict)
    )


def _tool_choice(body: dict[str, object]) -> tuple[str, bool]:
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        return (string(function.get("name")) if isinstance(function, dict) else ""), False
    return ("*" if choice == "required" else ""), choice == "none"


def _schema(response_format: object) -> object:
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_object":
        return {}
    schema = response_format.get("json_schema")
    return schema.get("schema") or {} if isinstance(schema, dict) else None


def _finish(choice: Choice) -> str:
    return "stop" if choice.finish == "stop_sequence" else choice.finish


def _whole_choice(index: int, choice: Choice) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if choice.calls else choice.text,
        "refusal": None,
        "annotations": [],
    }
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish(choice),
    }


def _delta(index: int, delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _chunk(
    prompt: Prompt, answer: Answer, choices: list[dict[str, object]], usage: Usage | None = None
) -> bytes:
    data: dict[str, object] = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created_s,
        "model": answer.model,
        "service_tier": prompt.service or DEFAULT_SERVICE,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }
    if prompt.include_usage:
        data["usage"] = None if usage is None else usage_json(usage)
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _template(prompt: Prompt, answer: Answer) -> tuple[bytes, bytes]:
    """The bytes around a chunk's single choice, the same for the entire stream."""
    before, after = _chunk(prompt, answer, []).split(b'"choices":[]', 1)
    return before + b'"choices":[', b"]" + after


def _tokens_of(index: int, choice: Choice) -> Iterator[tuple[bytes, int]]:
    head = b'{"index":%d,"delta":' % index
    tail = b',"logprobs":null,"finish_reason":null}'
    for piece, added in pieces(choice.text):
        yield head + b'{"content":' + msgspec.json.encode(piece) + b"}" + tail, added
    for number, call in enumerate(choice.calls):
        function: dict[str, object] = {"name": call.name, "arguments": ""}
        first = {"index": number, "id": call.id, "type": "function", "function": function}
        yield head + msgspec.json.encode({"tool_calls": [first]}) + tail, 0
        for piece, added in pieces(call.arguments):
            more = {"index": number, "function": {"arguments": piece}}
            yield head + msgspec.json.encode({"tool_calls": [more]}) + tail, added
