"""Calls of tools and their results: items of the Responses API and what a chat has for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.responses_as_chat.mistakes import Item, items_in, text_of
from spanledger.wires.responses_as_chat.tools import Kind, Tool

_KINDS: dict[str, Kind] = {
    "function_call": "function",
    "custom_tool_call": "custom",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
    "tool_search_call": "tool_search",
}
CALLS = frozenset(_KINDS)
OUTPUTS = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "tool_search_output",
    }
)
PREFIXES: dict[Kind, str] = {
    "function": "fc",
    "custom": "ctc",
    "local_shell": "lsh",
    "shell": "sh",
    "apply_patch": "apc",
    "tool_search": "tsc",
}
"""What the ids of items start with."""


class Made(NamedTuple):
    """A call as a chat has it."""

    call_id: str
    tool: Tool
    arguments: str


def made_by(item: Item) -> Made | None:
    """The call that an item is; None where something is missing."""
    kind = _KINDS[item["type"]]
    call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
    name = item.get("name") if kind in ("function", "custom") else kind
    if not call_id or not isinstance(name, str):
        return None
    tool = Tool(kind, name, text_of(item.get("namespace")))
    if kind == "function":
        return Made(call_id, tool, text_of(item.get("arguments")) or "{}")
    if kind == "custom":
        return Made(call_id, tool, _json({"input": text_of(item.get("input"))}))
    said = item.get({"apply_patch": "operation", "tool_search": "arguments"}.get(kind, "action"))
    if isinstance(said, dict) and kind != "apply_patch":
        said = {n: v for n, v in said.items() if v is not None and n != "type"}
    return Made(call_id, tool, said if isinstance(said, str) else _json(said or {}))


def call_item(tool: Tool, call_id: str, arguments: str, status: str) -> Item:
    """A call as an item, without its id."""
    kind = tool.kind
    head: Item = {"type": f"{kind}_call", "status": status, "call_id": call_id}
    if kind == "function":
        head |= {"name": tool.name, "arguments": arguments}
    elif kind == "custom":
        head |= {"type": "custom_tool_call", "name": tool.name, "input": free_text(arguments)}
    else:
        head |= _SAID[kind](_object(arguments))
    return {**head, "namespace": tool.namespace} if tool.namespace else head


def free_text(arguments: str) -> str:
    """The text in the arguments of a function that stands for a custom tool. Models also write it
    under another name, or as it is."""
    try:
        said = msgspec.json.decode(arguments)
    except DECODE_ERRORS:
        return arguments
    if isinstance(said, str):
        return said
    if not isinstance(said, dict):
        return arguments
    if isinstance(said.get("input"), str):
        return text_of(said["input"])
    texts = [value for value in said.values() if isinstance(value, str)]
    return texts[0] if len(said) == len(texts) == 1 else arguments if said else ""


def _local_shell(said: Item) -> Item:
    environment = said.get("env")
    action = {
        "type": "exec",
        "command": _words(said.get("command")),
        "env": environment if isinstance(environment, dict) else {},
        "timeout_ms": _whole(said.get("timeout_ms")),
        "working_directory": text_of(said.get("working_directory")) or None,
        "user": None,
    }
    return {"action": action}


def _shell(said: Item) -> Item:
    action = {
        "commands": _words(said.get("commands")),
        "timeout_ms": _whole(said.get("timeout_ms")),
        "max_output_length": _whole(said.get("max_output_length")),
    }
    return {"action": action, "environment": None}


def _apply_patch(said: Item) -> Item:
    kind = text_of(said.get("type")) or "update_file"
    operation = {"type": kind, "path": text_of(said.get("path"))}
    if kind != "delete_file":
        operation["diff"] = text_of(said.get("diff"))
    return {"operation": operation}


def _tool_search(said: Item) -> Item:
    return {"execution": "client", "arguments": said}


_SAID = {
    "local_shell": _local_shell,
    "shell": _shell,
    "apply_patch": _apply_patch,
    "tool_search": _tool_search,
}


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def result_of(item: Item) -> tuple[str, str | list[Item]]:
    """The id of the call that a result answers, and the result: a text or its parts."""
    kind = item["type"]
    call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
    output = item.get("output")
    if kind == "tool_search_output":
        names = [text_of(tool.get("name")) for tool in items_in(item.get("tools"))]
        return call_id, _json({"loaded": names})
    if kind == "apply_patch_call_output":
        return call_id, "\n".join(filter(None, (text_of(item.get("status")), text_of(output))))
    if isinstance(output, str):
        return call_id, output
    if isinstance(output, list) and kind != "shell_call_output":
        return call_id, items_in(output)
    return call_id, "" if output is None else _json(output)


def _object(arguments: str) -> Item:
    try:
        said = msgspec.json.decode(arguments or "{}")
    except DECODE_ERRORS:
        return {}  # a cap cut the JSON short
    return said if isinstance(said, dict) else {}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
