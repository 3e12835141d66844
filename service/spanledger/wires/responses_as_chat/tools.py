"""A Responses request's tools as functions of a chat, and the way back from a function's name.

Functions are all that every chat server knows. So a custom tool becomes a function with one text, the
tools of a namespace become functions with longer names, and the shells and `apply_patch`, which the
caller runs, become functions with the arguments of their calls. Tools that run at OpenAI have no
counterpart: they are refused. Only those that agents offer with every request (Codex does) are left
out instead, as long as there are others.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from spanledger.wires.fields import among
from spanledger.wires.responses_as_chat.mistakes import Item, Mistakes, items_in, shown, text_of

Kind = Literal["function", "custom", "local_shell", "shell", "apply_patch", "tool_search"]
_MAX_NAME = 64
DEFAULT_NAMESPACE = "functions"
"""The namespace that a function without one is in."""
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_OFFERED = ("web_search", "image_generation", "tool_search")
"""How the types start of tools that agents offer whether or not anybody needs them."""
_NOTHING: Item = {"type": "object", "properties": {}}
_TEXTS: Item = {"type": "array", "items": {"type": "string"}}
_DIFF = (
    "What changes in the file, as a V4A diff: lines that start with a space stay, those with - go,"
    " those with + are added, and @@ starts a section."
)
_BUILT_IN: dict[str, tuple[Kind, str, Item]] = {
    "local_shell": (
        "local_shell",
        "Runs a command on the user's machine.",
        {
            "type": "object",
            "properties": {
                "command": {**_TEXTS, "description": "The program and its arguments."},
                "working_directory": {"type": "string"},
                "timeout_ms": {"type": "integer"},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["command"],
        },
    ),
    "shell": (
        "shell",
        "Runs shell commands and returns what they print.",
        {
            "type": "object",
            "properties": {
                "commands": {**_TEXTS, "description": "Commands, each run in a shell."},
                "timeout_ms": {"type": "integer"},
                "max_output_length": {"type": "integer"},
            },
            "required": ["commands"],
        },
    ),
    "apply_patch": (
        "apply_patch",
        "Creates, updates or deletes a file.",
        {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": {"type": "string"},
                "diff": {"type": "string", "description": _DIFF},
            },
            "required": ["type", "path"],
        },
    ),
}
"""Tools of OpenAI's that the caller runs: their arguments are what their calls have."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What a function of the chat stands for."""

    kind: Kind
    name: str
    namespace: str = ""


@dataclass(slots=True)
class Toolbox:
    """The tools of a request.

    Attributes:
        functions: the functions of the chat, by name.
        tools: what each stands for.
    """

    functions: dict[str, Item] = field(default_factory=dict)
    tools: dict[str, Tool] = field(default_factory=dict)

    def add(
        self, tool: Tool, description: str, parameters: object, *, strict: bool = False
    ) -> None:
        """Add a tool; one of the same name takes the earlier one's place."""
        name = self.name_of(tool)
        function: Item = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = parameters if isinstance(parameters, dict) else _NOTHING
        if strict:
            function["strict"] = True
        self.functions[name], self.tools[name] = function, tool

    def name_of(self, tool: Tool) -> str:
        """The name that a tool has in the chat."""
        space = "" if tool.namespace == DEFAULT_NAMESPACE else tool.namespace.rstrip("_")
        whole = f"{space}__{tool.name}" if space else tool.name
        name = _NOT_IN_NAMES.sub("_", whole)[:_MAX_NAME]
        there = self.tools.get(name, tool)
        if name == whole and (there.name, there.namespace) == (tool.name, tool.namespace):
            return name
        digest = hashlib.sha256(f"{tool.namespace}\0{tool.name}".encode(errors="replace"))
        return f"{name[: _MAX_NAME - 9]}_{digest.hexdigest()[:8]}"

    def called(self, name: str) -> Tool:
        """The tool that a model means. Models also write `functions.f` and `space.f`."""
        plain = name.removeprefix("functions.").removeprefix("functions__")
        for form in (name, plain, plain.replace(".", "__", 1)):
            if (found := self.tools.get(form)) is not None:
                return found
        same = [tool for tool in self.tools.values() if tool.name == plain]
        return same[0] if len(same) == 1 else Tool("function", name)


def add_tools(box: Toolbox, tools: Any, place: str, mistakes: Mistakes) -> None:
    """Add the tools of an array, which is at this place of the request."""
    if tools is None:
        return
    if not isinstance(tools, list):
        mistakes.add(place, "it must be an array of tools")
        return
    unneeded: list[tuple[str, str]] = []
    for number, tool in enumerate(tools):
        where = f"{place}[{number}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "namespace":
            for inner, one in enumerate(items_in(tool.get("tools"))):
                space = text_of(tool.get("name"))
                _add_own(box, one, space, f"{where}.tools[{inner}]", mistakes)
        elif kind in ("function", "custom"):
            _add_own(box, tool, "", where, mistakes)
        elif among(kind, _BUILT_IN) and _runs_here(tool):
            built_in, description, parameters = _BUILT_IN[kind]
            box.add(Tool(built_in, kind), description, parameters)
        elif kind == "tool_search" and tool.get("execution") == "client":
            described = text_of(tool.get("description"))
            box.add(Tool("tool_search", kind), described, tool.get("parameters"))
        elif isinstance(kind, str) and kind.startswith(_OFFERED):
            unneeded.append((where, kind))
        else:
            mistakes.add(where, f"tools of type {shown(kind)} run at OpenAI; use functions")
    for where, kind in unneeded:
        if box.tools:
            mistakes.note("tools")
        else:
            mistakes.add(where, f"tools of type {shown(kind)} run at OpenAI; use functions")


def _runs_here(tool: Item) -> bool:
    """Whether a shell is the caller's own, and not in a container at OpenAI."""
    place = tool.get("environment")
    return not isinstance(place, dict) or place.get("type") in (None, "local")


def _add_own(box: Toolbox, tool: Item, namespace: str, place: str, mistakes: Mistakes) -> None:
    kind, name = tool.get("type"), tool.get("name")
    if kind not in ("function", "custom") or not isinstance(name, str) or not name:
        mistakes.add(place, "it must be of type function or custom, and have a name")
        return
    callers = tool.get("allowed_callers")
    if isinstance(callers, list) and callers and "direct" not in callers:
        mistakes.note("tools")  # for programs that run at OpenAI alone
        return
    description = text_of(tool.get("description"))
    if kind == "custom":
        made = Tool("custom", name, namespace)
        box.add(made, description, _free_text(tool.get("format")))
    else:
        made = Tool("function", name, namespace)
        box.add(made, description, tool.get("parameters"), strict=tool.get("strict") is True)


def _free_text(shape: Any) -> Item:
    """The parameters of a function that stands for a tool whose input is a text."""
    text = {"type": "string"}
    definition = text_of(shape.get("definition")) if isinstance(shape, dict) else ""
    if definition:
        syntax = text_of(shape.get("syntax")) or "lark"
        text["description"] = f"Plain text that matches this {syntax} grammar:\n{definition}"
    return {"type": "object", "properties": {"input": text}, "required": ["input"]}


def chosen(box: Toolbox, choice: Any, mistakes: Mistakes) -> Item:
    """The fields that say which tools the model may or must call."""
    made: Item = {"tools": [{"type": "function", "function": f} for f in box.functions.values()]}
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind is None:
        return made
    if kind in ("auto", "none", "required"):
        return {**made, "tool_choice": kind}
    if kind == "allowed_tools":
        allowed = {_named(box, one) for one in items_in(choice.get("tools"))}
        kept = [one for one in made["tools"] if one["function"]["name"] in allowed]
        if not kept:
            mistakes.add("tool_choice", "none of its tools is a function in 'tools'")
        mode = choice.get("mode")
        return {"tools": kept, "tool_choice": mode if mode == "required" else "auto"}
    if isinstance(choice, dict) and (name := _named(box, choice)):
        return {**made, "tool_choice": {"type": "function", "function": {"name": name}}}
    mistakes.add("tool_choice", "it must be auto, none, required or one of the request's functions")
    return made


def _named(box: Toolbox, choice: Item) -> str:
    """The function that a choice means; empty where there is none."""
    name = text_of(choice.get("name")) or text_of(choice.get("type"))
    space = text_of(choice.get("namespace"))
    for flat, tool in box.tools.items():
        if tool.name == name and space in ("", tool.namespace):
            return flat
    return ""
