"""Requests that use much of each wire and can be translated, and values that do not belong in them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

_IMAGE = "data:image/png;base64,iVBORw0KGgo="
_PDF = "data:application/pdf;base64,JVBERi0="
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
_CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": _IMAGE, "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": _PDF}},
            ],
        },
        {
            "role": "assistant",
            "content": "x",
            "reasoning_content": "r",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r"}]},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "get", "description": "d", "parameters": _SCHEMA, "strict": True},
        },
    ],
    "tool_choice": {"type": "function", "function": {"name": "get"}},
    "max_tokens": 20,
    "temperature": 0.5,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
    "reasoning_effort": "low",
    "stream_options": {"include_usage": True},
    "user": "u",
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "thinking": {"type": "disabled"},
    "output_config": {"effort": "low"},
    "logprobs": True,
    "top_logprobs": 1,
    "service_tier": "default",
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {"search_context_size": "low"},
    "verbosity": "low",
}
_RESPONSES = {
    "model": "m",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": _IMAGE, "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": _PDF},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "a"}],
            "content": [{"type": "reasoning_text", "text": "a"}],
            "encrypted_content": "abc",
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c1", "name": "get", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "r"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "raw", "input": "z"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "r"},
        {"type": "local_shell_call", "call_id": "c3", "action": {"type": "exec", "command": ["l"]}},
        {"type": "local_shell_call_output", "call_id": "c3", "output": "r"},
        {"type": "apply_patch_call", "call_id": "c4", "operation": {"type": "delete_file"}},
        {"type": "apply_patch_call_output", "call_id": "c4", "status": "completed"},
        {"type": "additional_tools", "tools": [{"type": "function", "name": "f"}]},
    ],
    "instructions": "i",
    "tools": [
        {"type": "function", "name": "get", "parameters": _SCHEMA, "strict": False},
        {"type": "custom", "name": "raw", "format": {"type": "grammar", "syntax": "lark"}},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "f"}]},
        {"type": "local_shell"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"},
        {"type": "tool_search", "execution": "client", "parameters": _SCHEMA},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "local_shell"}]},
    "max_output_tokens": 32,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": _SCHEMA}, "verbosity": "low"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "metadata": {"a": "b"},
    "truncation": "auto",
    "temperature": 1,
    "top_logprobs": 1,
}
_MESSAGES = {
    "model": "m",
    "max_tokens": 30,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                },
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                    "citations": {"enabled": True},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "get", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": "r"}],
                    "is_error": False,
                }
            ],
        },
    ],
    "tools": [
        {"name": "get", "description": "d", "input_schema": _SCHEMA},
        {"type": "custom", "name": "more", "input_schema": _SCHEMA},
    ],
    "tool_choice": {"type": "tool", "name": "get", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "metadata": {"user_id": "u"},
    "temperature": 1,
    "top_k": 5,
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": _SCHEMA}},
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
}
_GENERATE = {
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "hi"},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "t", "thought": True},
                {"functionCall": {"name": "get", "args": {"a": 1}, "id": "1"}},
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "get", "response": {"r": 1}, "id": "1"}}],
        },
    ],
    "systemInstruction": {"parts": [{"text": "s"}]},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "get",
                    "description": "d",
                    "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
                }
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get"]}},
    "generationConfig": {
        "maxOutputTokens": 30,
        "temperature": 1,
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT"},
        "thinkingConfig": {"thinkingBudget": 100, "thinkingLevel": "LOW"},
        "candidateCount": 1,
        "responseModalities": ["TEXT"],
    },
    "safetySettings": [{"category": "X", "threshold": "BLOCK_NONE"}],
    "labels": {"a": "b"},
}
BODIES: dict[str, dict[str, Any]] = {
    "chat": _CHAT,
    "responses": _RESPONSES,
    "messages": _MESSAGES,
    "generate_content": _GENERATE,
    "embeddings": {"model": "m", "input": ["a", [1, 2]], "dimensions": 10, "user": "u"},
    "compact": {"model": "m", "input": [{"role": "user", "content": "x"}], "instructions": "a"},
    "completions": {
        "model": "m",
        "prompt": ["a", [1]],
        "max_tokens": 5,
        "n": 1,
        "best_of": 1,
        "stop": ["x"],
    },
    "moderations": {
        "model": "m",
        "input": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": _IMAGE}},
        ],
    },
    "rerank": {"model": "m", "query": "a", "documents": ["a", {"text": "b"}], "top_n": 1},
    "images": {
        "model": "m",
        "prompt": "x",
        "n": 1,
        "size": "1024x1024",
        "quality": "low",
        "partial_images": 1,
    },
    "image_edits": {
        "model": "m",
        "prompt": "x",
        "images": [{"image_url": _IMAGE}],
        "mask": {"file_id": "file-1"},
        "size": "1024x1024",
    },
    "speech": {
        "model": "m",
        "input": "hello",
        "voice": {"id": "v"},
        "speed": 1.0,
        "response_format": "mp3",
        "stream_format": "sse",
    },
}
"""By the name of a wire, as JSON."""
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "a\x00b",
    [],
    {},
    [[]],
    [None],
    [1],
    ["x"],
    [{"type": "text"}],
    {"type": None},
    {"type": ["x"]},
    {"type": {"x": 1}},
    {"a": {"b": [1]}},
)


def odd_bodies(body: Any) -> Iterator[tuple[str, Any]]:
    """A body with an odd value in the place of each of its own, or without that; and where."""
    for path in list(_paths(body)):
        for value in (*ODD, _paths):
            changed = copy.deepcopy(body)
            parent = changed
            for step in path[:-1]:
                parent = parent[step]
            if value is _paths:
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            shown = "/".join(map(str, path))
            yield f"{shown} {'left out' if value is _paths else value!r}", changed


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps: list[Any] = []
    if isinstance(value, dict):
        steps = list(value)
    elif isinstance(value, list):
        steps = list(range(len(value)))
    for step in steps:
        yield (*above, step)
        yield from _paths(value[step], (*above, step))
