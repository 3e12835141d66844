"""The shapes in which providers report errors, with any status and inside streams.

`ERROR_FORMS` lists each shape with an example and its source. The keys and places below cover all of
them, and a test parses every example. `failures` decides what an error means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

MESSAGE_KEYS = (
    "message",
    "error_message",
    "errorMessage",
    "error_msg",
    "status_msg",
    "msg",
    "detail",
)
TYPE_KEYS = ("type", "error_type", "errorType", "status")
CODE_KEYS = ("code", "error_code", "errorCode", "status_code", "status")
ERROR_PATHS: tuple[tuple[str | int, ...], ...] = (
    ("error",),
    ("errors", 0),
    ("choices", 0, "error"),
    ("base_resp",),
    (),
)
"""Where the error may be; the first match wins. The empty path is the body itself."""
NO_ERROR = frozenset({"0", "200", "success", "ok"})
"""Codes that report success."""


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """One shape.

    Attributes:
        provider: who sends it, under its usual name.
        example: an error in this shape, exactly as received.
        source: where it was seen.
        raw: whether the example is raw bytes of a stream instead of one JSON body or event.
    """

    provider: str
    example: str
    source: str
    raw: bool = False


ERROR_FORMS = (
    ErrorForm(
        "OpenAI, Azure, and most others",
        '{"error":{"message":"The server had an error","type":"server_error","param":null,'
        '"code":null}}',
        "OpenAI API reference",
    ),
    ErrorForm(
        "OpenRouter",
        '{"id":"gen-1","object":"chat.completion.chunk","provider":"x","error":{"code":502,'
        '"message":"Provider disconnected"},"choices":[{"index":0,"delta":{"content":""},'
        '"finish_reason":"error"}]}',
        "openrouter.ai/docs/api/reference/errors-and-debugging",
    ),
    ErrorForm(
        "OpenRouter, inside a choice",
        '{"id":"gen-1","choices":[{"index":0,"message":{"role":"assistant","content":""},'
        '"finish_reason":"error","error":{"code":502,"message":"Upstream error"}}],'
        '"usage":{"prompt_tokens":null,"completion_tokens":null,"total_tokens":0}}',
        "maximhq/bifrost#5425",
    ),
    ErrorForm(
        "vLLM",
        '{"object":"error","message":"engine died","type":"InternalServerError","param":null,'
        '"code":500}',
        "NousResearch/hermes-agent#65643",
    ),
    ErrorForm(
        "Relays of vLLM",
        '{"id":"x","choices":null,"error_type":"InternalServerError","error_message":"boom"}',
        "agent-os#2215",
    ),
    ErrorForm(
        "Anthropic",
        '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        "Anthropic API reference, errors",
    ),
    ErrorForm(
        "Gemini's compatible endpoint",
        '[{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}]',
        "google-gemini/gemini-cli#6678",
    ),
    ErrorForm(
        "Ollama", '{"error":"llama runner process has terminated"}', "ollama/ollama API, errors"
    ),
    ErrorForm(
        "TGI",
        '{"error":"Request failed during generation","error_type":"generation"}',
        "huggingface/text-generation-inference#2668",
    ),
    ErrorForm(
        "FastAPI servers", '{"detail":"Internal Server Error"}', "deepseek-ai/DeepSeek-V2#30"
    ),
    ErrorForm(
        "Mistral",
        '{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","x"],'
        '"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","param":null,'
        '"code":null}',
        "openai/openai-agents-python#442",
    ),
    ErrorForm(
        "MiniMax",
        '{"id":"x","choices":null,"usage":{"total_tokens":0},"base_resp":{"status_code":1002,'
        '"status_msg":"rate limit"}}',
        "CherryHQ/cherry-studio#11287",
    ),
    ErrorForm(
        "watsonx, Cloudflare",
        '{"errors":[{"code":"model_no_support","message":"Model is not supported"}],"trace":"x",'
        '"status_code":400}',
        "watsonx.ai, quoted in public logs",
    ),
    ErrorForm(
        "Qwen (DashScope)",
        '{"code":"Throttling.RateQuota","message":"Requests rate limit exceeded","request_id":"x"}',
        "QwenLM/qwen-code#98",
    ),
    ErrorForm(
        "Baidu",
        '{"error_code":18,"error_msg":"Open api qps request limit reached","id":"x"}',
        "Baidu Qianfan, error codes",
    ),
    ErrorForm("Relays in Go", '{"code":500,"msg":"upstream error"}', "QuantumNous/new-api"),
    ErrorForm("AWS, Kong", '{"message":"Endpoint request timed out"}', "Amazon API Gateway"),
    ErrorForm(
        "Spring",
        '{"timestamp":1,"status":500,"error":"Internal Server Error","path":"/v1"}',
        "Spring Boot's default error body",
    ),
    ErrorForm(
        "TGI, as an `error` event",
        'event:error\ndata:{"error":"Request failed during generation","error_type":"generation"}\n\n',
        "huggingface/text-generation-inference#2668",
        raw=True,
    ),
    ErrorForm(
        "DashScope, as an `error` event",
        'id:1\nevent:error\n:HTTP_STATUS/429\ndata:{"code":"Throttling","message":"slow down"}\n\n',
        "DashScope API reference, streaming",
        raw=True,
    ),
    ErrorForm(
        "Proxies, as an `error` event",
        "event: error\ndata: upstream connect error\n\n",
        "maximhq/bifrost#5395",
        raw=True,
    ),
    ErrorForm(
        "llama.cpp until September 2025, as an `error` field",
        'error: {"code":500,"message":"context shift failed","type":"server_error"}\n\n',
        "ggml-org/llama.cpp#16109",
        raw=True,
    ),
    ErrorForm(
        "Servers that send JSON as `text/event-stream`",
        '{"error":{"message":"no capacity","type":"server_error"}}\n\n',
        "Wei-Shaw/sub2api#1311",
        raw=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider's error, independent of its shape."""

    message: str = ""
    type: str = ""
    code: str = ""
    error: dict[str, Any] | None = None

    @property
    def named(self) -> bool:
        """Whether it says what is wrong, which makes it an error even if the status is 200."""
        return bool(self.error) and bool(self.message or self.code) and self.code not in NO_ERROR


def read_failure(body: bytes) -> Failure:
    """Read an error body; an unknown shape gives an empty failure."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Failure()
    return failure_of(data)


def read_error_event(payload: bytes) -> Failure:
    """Read an event of type `error`, which may be plain text."""
    failure = read_failure(payload)
    if failure.message or failure.code:
        return failure
    text = payload.decode("utf-8", "replace")
    return Failure(text, error={"message": text})


def failure_of(data: object) -> Failure:
    """Find message, type and code in a decoded error body."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return Failure()
    for place in ERROR_PATHS:
        found = _at(data, place)
        if isinstance(found, str) and found:
            # The error is a string, and its type and code are next to it.
            found = {**data, "message": found}
        if not isinstance(found, dict) or (place and not found):
            continue
        failure = _failure(found, place[0] if place else "")
        if failure.code not in NO_ERROR:
            return failure
    return Failure()


def _at(data: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and len(data) > step else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def _failure(error: dict[str, Any], place: str | int) -> Failure:
    message = next(_present(error, MESSAGE_KEYS), "")
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    kind = next((value for value in _present(error, TYPE_KEYS) if isinstance(value, str)), "")
    code = next(
        (
            str(value)
            for key in CODE_KEYS
            if isinstance(value := error.get(key), str | int)
            and not isinstance(value, bool)
            and (key != "status" or isinstance(value, int))
            and value != ""
        ),
        "",
    )
    if place == "base_resp" and code not in NO_ERROR:
        code = f"base_resp.{code}"  # MiniMax's codes have other meanings elsewhere
    return Failure(message, kind, code, error)


def _present(error: dict[str, Any], keys: tuple[str, ...]) -> Iterator[Any]:
    return (value for key in keys if (value := error.get(key)))
