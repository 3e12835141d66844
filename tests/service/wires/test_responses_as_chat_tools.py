"""The tools of Responses requests as functions of a chat, and their earlier calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.service.wires.test_responses_as_chat_request import TOOL, sent


@pytest.mark.parametrize(
    ("call", "output", "arguments", "result"),
    [
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "raw"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
            {"input": "raw"},
            "ok",
        ),
        (
            {
                "type": "local_shell_call",
                "id": "lsh_1",
                "call_id": "c",
                "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None},
                "status": "completed",
            },
            {"type": "local_shell_call_output", "id": "c", "output": "a.txt"},
            {"command": ["ls"], "env": {}},
            "a.txt",
        ),
        (
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
            {
                "type": "shell_call_output",
                "call_id": "c",
                "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "timeout"}}],
            },
            {"commands": ["ls"]},
            '[{"stdout":"a","stderr":"","outcome":{"type":"timeout"}}]',
        ),
        (
            {
                "type": "apply_patch_call",
                "call_id": "c",
                "operation": {"type": "delete_file", "path": "a"},
            },
            {
                "type": "apply_patch_call_output",
                "call_id": "c",
                "status": "failed",
                "output": "no file",
            },
            {"type": "delete_file", "path": "a"},
            "failed\nno file",
        ),
    ],
)
def test_calls_of_other_tools(
    call: dict[str, Any], output: dict[str, Any], arguments: dict[str, Any], result: str
) -> None:
    """Earlier calls of what the caller runs are calls of functions."""
    chat, changed = sent(input=[call, output])
    said, told = chat["messages"]

    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == arguments
    assert (told["tool_call_id"], told["content"]) == ("c", result)
    assert changed == []


def test_tools_that_the_caller_runs() -> None:
    """Shells and patches are functions; what is for programs at OpenAI alone is left out."""
    programs = {**TOOL, "name": "g", "allowed_callers": ["programmatic"]}
    search = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
    chat, changed = sent(
        tools=[
            {"type": "shell"},
            {"type": "apply_patch"},
            {"type": "local_shell"},
            programs,
            search,
        ]
    )
    names = [tool["function"]["name"] for tool in chat["tools"]]

    assert names == ["shell", "apply_patch", "local_shell", "tool_search"]
    assert changed == ["tools"]


def test_names() -> None:
    """Long ones, odd ones and equal ones stay apart, within what servers take."""
    spaces = [
        {"type": "namespace", "name": name, "tools": [{**TOOL, "name": tool}]}
        for name, tool in (("a__b", "c"), ("a", "b__c"), ("mcp__x__", "y"), ("n" * 60, "long"))
    ]
    chat, _ = sent(tools=[*spaces, {**TOOL, "name": "a.b"}])
    names = [tool["function"]["name"] for tool in chat["tools"]]

    assert names[0] == "a__b__c"
    assert names[2] == "mcp__x__y"
    assert len(set(names)) == 5
    assert all(len(name) <= 64 and "." not in name for name in names)


@pytest.mark.parametrize(
    ("choice", "chat", "names"),
    [
        ("required", "required", ["f", "s__g"]),
        ("none", "none", ["f", "s__g"]),
        (
            {"type": "function", "name": "g", "namespace": "s"},
            {"type": "function", "function": {"name": "s__g"}},
            ["f", "s__g"],
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}],
            },
            "required",
            ["f"],
        ),
    ],
)
def test_tool_choice(choice: Any, chat: Any, names: list[str]) -> None:
    """The tools that are allowed are those that are sent."""
    space = {"type": "namespace", "name": "s", "tools": [{**TOOL, "name": "g"}]}
    body, _ = sent(tools=[TOOL, space], tool_choice=choice)

    assert body["tool_choice"] == chat
    assert [tool["function"]["name"] for tool in body["tools"]] == names
