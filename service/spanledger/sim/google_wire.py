"""Google's wire: `generateContent`, as generativelanguage.googleapis.com writes it.

One object serves one call, because the model and the verb are in its path. It decides nothing: no
faults, no billing, no clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import msgspec

from spanledger.sim.bill import Usage
from spanledger.sim.google_rules import GoogleBody, capital, check
from spanledger.sim.prompt import (
    Prefixes,
    Prompt,
    RefusalError,
    Tool,
    asked_of,
    digest_of,
    model_of,
    objects,
    string,
)
from spanledger.sim.scenarios import WireName
from spanledger.sim.tokens import COUNTING, TOKENS_PER_MESSAGE, file_tokens, pieces, tokens
from spanledger.sim.wire import Chunk, Headers
from spanledger.sim.writer import Answer, Choice, ToolCall

_IGNORED = frozenset({"labels", "store"})
_HOSTED = ("googleSearch", "googleSearchRetrieval", "urlContext", "codeExecution", "fileSearch")
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ENDS = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
_THINKS = re.compile(r"gemini-(?:2\.5-(?!flash-lite)|[3-9])")
"""Models that think unless they are told not to."""
_AUDIO_BYTES_PER_TOKEN = 1_000
_EFFORTS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high"}


class GoogleWire:
    """One call."""

    name: WireName = "google"
    id_prefix = ""

    def __init__(self, model: str, *, stream: bool = False) -> None:
        self.model = model
        self.stream = stream

    def key(self, headers: Mapping[str, str]) -> str:
        """The key, in its own header."""
        key = headers.get("x-goog-api-key", "").strip()
        if not key:
            raise RefusalError(
                403,
                "Method doesn't allow unregistered callers (callers without established identity).",
            )
        return key

    def read(self, body: GoogleBody) -> Prompt:
        """Read a request."""
        model, script = model_of({"model": self.model})
        found = capital(body)
        body = found if isinstance(found, dict) else {}
        check(body)
        prefixes = Prefixes()
        tools = _tools(body, prefixes)
        for content in objects([body.get("systemInstruction")]):
            prefixes.add(content, TOKENS_PER_MESSAGE + _content_tokens(content))
        contents = objects(body["contents"])
        for content in contents:
            prefixes.add(content, TOKENS_PER_MESSAGE + _content_tokens(content))
        config = body.get("generationConfig")
        config = config if isinstance(config, dict) else {}
        schema = _schema(config)
        if schema:
            prefixes.add(schema, tokens(msgspec.json.encode(schema).decode()))
        last = objects(contents[-1].get("parts"))
        answered = any("functionResponse" in part for part in last)
        force, barred = _choice(body, tools)
        stops = config.get("stopSequences")
        cap, count = config.get("maxOutputTokens"), config.get("candidateCount")
        return Prompt(
            wire="google",
            model=model,
            digest=digest_of("google", model, body, _IGNORED),
            segments=tuple(prefixes.segments),
            input_tokens=prefixes.total,
            stream=self.stream,
            choices=count if isinstance(count, int) else 1,
            output_tokens_max=cap if isinstance(cap, int) else None,
            asked="" if answered or contents[-1].get("role") == "model" else asked_of(last),
            tools=tools,
            force_tool=force,
            tools_barred=barred,
            schema=schema,
            reasoning=_effort(config, model),
            service=string(body.get("serviceTier")).lower(),
            stop=tuple(map(string, stops)) if isinstance(stops, list) else (),
            script=script,
        )

    def refusal(self, refusal: RefusalError, request_id: str) -> tuple[bytes, Headers]:
        """Google's error object."""
        status = _STATUSES.get(refusal.status, "UNKNOWN")
        error = {"code": refusal.status, "message": refusal.message, "status": status}
        headers = self.headers(request_id)
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", str(math.ceil(refusal.retry_after_s)).encode()))
        return msgspec.json.encode({"error": error}), headers

    def headers(self, request_id: str, processing_s: float = 0.0) -> Headers:
        """Headers of every answer; this provider names no id of the request."""
        del request_id
        took = f"gfet4t7; dur={round(processing_s * 1000)}".encode()
        return [(b"vary", b"Origin, X-Origin, Referer"), (b"server-timing", took)]

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """A complete answer."""
        del prompt
        candidates = [
            _candidate(index, _parts(choice), _finish(choice))
            for index, choice in enumerate(answer.choices)
        ]
        return msgspec.json.encode(_generated(answer, candidates, usage))

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Nothing comes before the first token."""
        del prompt, answer, usage
        return iter(())

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """A piece of text in each event, with the usage so far; a call is in one event."""
        sofar = Usage(prompt.input_tokens)
        for index, choice in enumerate(answer.choices):
            for piece, added in pieces(choice.text):
                said = [_candidate(index, [{"text": piece}])]
                yield Chunk(_event(_generated(answer, said, sofar)), added)
            for call in choice.calls:
                said = [_candidate(index, _called(call))]
                yield Chunk(_event(_generated(answer, said, sofar)), tokens(call.arguments))

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The finish reasons and the usage; no end marker follows."""
        del prompt
        ends = [
            _candidate(index, [{"text": ""}], _finish(choice))
            for index, choice in enumerate(answer.choices)
        ]
        yield Chunk(_event(_generated(answer, ends, usage)))

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return b'data: {"candidates": [{"content": {"parts": [{"te\r\n\r\n'


def usage_json(usage: Usage) -> GoogleBody:
    """`usageMetadata`: thoughts are apart from what is said."""
    said = usage.output_tokens - usage.reasoning_output_tokens
    data: GoogleBody = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": said,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input_tokens}],
    }
    if usage.cache_read_input_tokens:
        data["cachedContentTokenCount"] = usage.cache_read_input_tokens
    if usage.reasoning_output_tokens:
        data["thoughtsTokenCount"] = usage.reasoning_output_tokens
    return data


def _generated(answer: Answer, candidates: list[GoogleBody], usage: Usage | None) -> GoogleBody:
    data: GoogleBody = {"candidates": candidates}
    if usage is not None:
        data["usageMetadata"] = usage_json(usage)
    return {**data, "modelVersion": answer.model, "responseId": answer.id}


def _event(data: GoogleBody) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\r\n\r\n"


def _candidate(index: int, parts: list[GoogleBody], finish: str = "") -> GoogleBody:
    data: GoogleBody = {"content": {"parts": parts, "role": "model"}}
    return {**data, **({"finishReason": finish} if finish else {}), "index": index}


def _finish(choice: Choice) -> str:
    return _ENDS.get(choice.finish, "STOP")


def _parts(choice: Choice) -> list[GoogleBody]:
    texts: list[GoogleBody] = [{"text": choice.text}] if choice.text else []
    return [*texts, *(part for call in choice.calls for part in _called(call))]


def _called(call: ToolCall) -> list[GoogleBody]:
    """The part of a call; none where the cap cut its JSON short."""
    try:
        args = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return []
    return [{"functionCall": {"name": call.name, "args": args}}]


def _content_tokens(content: GoogleBody) -> int:
    parts = content.get("parts")
    return sum(map(_part_tokens, objects([parts] if isinstance(parts, dict) else parts)))


def _part_tokens(part: GoogleBody) -> int:
    if isinstance(part.get("text"), str):
        return tokens(string(part["text"]))
    blob, file = part.get("inlineData"), part.get("fileData")
    if isinstance(blob, dict):
        kind, data = string(blob.get("mimeType")), string(blob.get("data"))
        if kind.startswith("image/"):
            return COUNTING.get().image
        if kind.startswith("audio/"):
            return len(data) // _AUDIO_BYTES_PER_TOKEN + 1
        return tokens(data) if kind.startswith("text/") else file_tokens(data)
    if isinstance(file, dict):
        return file_tokens(file.get("fileUri"))
    call = part.get("functionCall") or part.get("functionResponse")
    return tokens(msgspec.json.encode(call).decode()) if call else 0


def _tools(body: GoogleBody, prefixes: Prefixes) -> tuple[Tool, ...]:
    given = objects(body.get("tools"))
    if not given:
        return ()
    counting = COUNTING.get()
    hosted = sum(name in tool for tool in given for name in _HOSTED)
    more = counting.tools + hosted * counting.hosted_tool
    prefixes.add(given, more + tokens(msgspec.json.encode(given).decode()))
    declared = [one for tool in given for one in objects(tool.get("functionDeclarations"))]
    return tuple(
        Tool(
            string(one.get("name")),
            one.get("parametersJsonSchema") or _lower(one.get("parameters")),
        )
        for one in declared
    )


def _lower(schema: object) -> object:
    """A schema with its types as JSON schema has them."""
    if isinstance(schema, list):
        return [_lower(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.lower() if name == "type" and isinstance(value, str) else _lower(value)
        for name, value in schema.items()
    }


def _choice(body: GoogleBody, tools: tuple[Tool, ...]) -> tuple[str, bool]:
    config = body.get("toolConfig")
    calling = config.get("functionCallingConfig") if isinstance(config, dict) else None
    calling = calling if isinstance(calling, dict) else {}
    mode = string(calling.get("mode"))
    if mode != "ANY" or not tools:
        return "", mode == "NONE"
    allowed = calling.get("allowedFunctionNames")
    return (string(allowed[0]) if isinstance(allowed, list) and allowed else "*"), False


def _schema(config: GoogleBody) -> object:
    if config.get("responseMimeType") != "application/json":
        return None
    return config.get("responseJsonSchema") or _lower(config.get("responseSchema")) or {}


def _effort(config: GoogleBody, model: str) -> str:
    thinking = config.get("thinkingConfig")
    thinking = thinking if isinstance(thinking, dict) else {}
    if thinking.get("thinkingBudget") == 0:
        return ""
    level = _EFFORTS.get(string(thinking.get("thinkingLevel")).lower(), "")
    asked = level or ("medium" if thinking.get("thinkingBudget") else "")
    return asked or ("medium" if _THINKS.match(model) else "")
