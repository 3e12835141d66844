"""Tools of a chat completions request as the Messages API takes them.

Names and schemas that it refuses are put into the nearest form that it takes; the names are given
back to the caller as it wrote them.
"""

from __future__ import annotations

import re
from typing import Any

from spanledger.providers.anthropic_turns import Block
from spanledger.providers.failures import invalid

MAX_NAME_CHARS = 128
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_COMBINED = ("anyOf", "oneOf", "allOf")


class Names:
    """The names of a request's tools: as the caller writes them, and as they are sent."""

    __slots__ = ("_callers", "_sent")

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}
        self._callers: dict[str, str] = {}

    def sent(self, name: str) -> str:
        """The name to send."""
        known = self._sent.get(name)
        if known is None:
            plain = _NOT_IN_NAME.sub("_", name)[:MAX_NAME_CHARS] or "_"
            known, number = plain, 2
            while known in self._callers:
                ending = f"_{number}"
                known, number = plain[: MAX_NAME_CHARS - len(ending)] + ending, number + 1
            self._sent[name], self._callers[known] = known, name
        return known

    def callers(self, sent: str) -> str:
        """The caller's name for a tool the model calls."""
        return self._callers.get(sent, sent)

    @property
    def changed(self) -> bool:
        """Whether any name is sent otherwise than it was written."""
        return any(name != sent for name, sent in self._sent.items())


def tools_of(given: Any, names: Names, changed: list[str]) -> list[Block]:
    """The tools to send; of two with one name the first.

    Raises:
        ProviderError: `invalid_request`, saying which part cannot be expressed.
    """
    if not isinstance(given, list):
        raise invalid("'tools' must be an array", param="tools")
    tools: dict[str, Block] = {}
    for tool in given:
        converted = _tool(tool, names, changed)
        name = str(converted.get("name") or f"#{len(tools)}")
        if name in tools:
            changed.append("tools")
        else:
            tools[name] = converted
    return list(tools.values())


def _tool(tool: Any, names: Names, changed: list[str]) -> Block:
    if not isinstance(tool, dict):
        raise invalid("each of 'tools' must be an object", param="tools")
    kind = tool.get("type")
    if kind == "custom" and "input_schema" not in tool:
        raise invalid("this model has no tools of type 'custom'", param="tools")
    if kind != "function":
        return tool  # one of Anthropic's own
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid("each of 'tools' needs function.name", param="tools")
    converted: Block = {
        "name": names.sent(function["name"]),
        "input_schema": _schema(function.get("parameters"), function["name"], changed),
    }
    if function.get("description"):
        converted["description"] = function["description"]
    if function.get("strict") is True:
        converted["strict"] = True
    if cache := tool.get("cache_control") or function.get("cache_control"):
        converted["cache_control"] = cache
    return converted


def _schema(parameters: Any, name: str, changed: list[str]) -> Block:
    """The parameters as a schema of type object, without alternatives at its top level."""
    if not parameters:
        return {"type": "object", "properties": {}}
    kind = parameters.get("type") if isinstance(parameters, dict) else "text"
    if kind is not None and kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise invalid(f"the parameters of tool {name!r} must be of type 'object'", param="tools")
    if kind == "object" and not any(key in parameters for key in _COMBINED):
        return parameters  # type: ignore[no-any-return]  # a dict, as its `type` was read
    changed.append("tools")
    schema = {key: value for key, value in parameters.items() if key not in _COMBINED}
    properties = dict(schema.get("properties") or {})
    required = list(schema.get("required") or ())
    for key in _COMBINED:
        parts = [p for p in parameters.get(key) or () if isinstance(p, dict)]
        for part in parts:
            properties = {**(part.get("properties") or {}), **properties}
        sets = [set(part.get("required") or ()) for part in parts]
        if sets:
            shared = set.union(*sets) if key == "allOf" else set.intersection(*sets)
            required += sorted(shared - set(required))
    schema |= {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema


def tool_choice_of(choice: Any, names: Names) -> Block | None:
    """The choice to send. Raises ProviderError."""
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return {"type": "any" if choice == "required" else choice}
    if isinstance(choice, dict):
        function = choice.get("function")
        if choice.get("type") == "function" and isinstance(function, dict) and "name" in function:
            return {"type": "tool", "name": names.sent(str(function["name"]))}
        if choice.get("type") in ("any", "auto", "none", "tool"):
            return dict(choice)
    raise invalid(
        "'tool_choice' must be auto, none, required, or name a function", param="tool_choice"
    )


def tools_called(turns: list[Block]) -> list[Block]:
    """The tools a conversation calls, for a request that defines none: Anthropic wants them
    defined, and what they take is not known."""
    called = dict.fromkeys(
        block["name"]
        for turn in turns
        for block in turn["content"]
        if block.get("type") == "tool_use"
    )
    return [{"name": name, "input_schema": {"type": "object"}} for name in called]
