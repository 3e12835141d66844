"""What Codex sends, as recorded from its CLI 0.171 with long texts cut."""

from __future__ import annotations

from typing import Any

PATCH_GRAMMAR = 'start: begin_patch hunk+ end_patch\nbegin_patch: "*** Begin Patch" LF\n'


def _function(name: str, **properties: Any) -> dict[str, Any]:
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return {
        "type": "function",
        "name": name,
        "description": f"Does {name}.",
        "strict": False,
        "parameters": shape,
    }


def _said(role: str, text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "id": "msg_01a220e0", "role": role, "content": content}


_TURNS = [
    _said("developer", "You are a coding agent running in the Codex CLI."),
    _said("developer", "<skills_instructions>\n## Skills"),
    _said("user", "<environment_context>\n  <cwd>/work</cwd>"),
    _said("user", "say hi"),
    {
        "type": "function_call",
        "status": "completed",
        "id": "fc_1",
        "name": "exec_command",
        "arguments": '{"cmd": "echo hi"}',
        "call_id": "call_1",
    },
    {
        "type": "function_call_output",
        "id": "fco_01a220e0",
        "call_id": "call_1",
        "output": "Chunk ID: eb8242\nProcess exited with code 0\nOutput:\nhi\n",
    },
]
_COMMON: dict[str, Any] = {
    "stream": True,
    "tool_choice": "auto",
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a220e0-6618-7080-8880-2104b01c4da0",
    "client_metadata": {"session_id": "01a220e0-6618-7080-8880-2104b01c4da0"},
}
USUAL: dict[str, Any] = {
    **_COMMON,
    "model": "m",
    "input": _TURNS,
    "tools": [
        _function("exec_command", cmd={"type": "string"}),
        _function("view_image", path={"type": "string"}),
        {
            "type": "namespace",
            "name": "multi_agent_v1",
            "description": "Tools for spawning and managing sub-agents.",
            "tools": [_function("close_agent", target={"type": "string"})],
        },
        {"type": "web_search", "external_web_access": False},
    ],
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
}
"""For a model that it knows nothing of."""
LITE: dict[str, Any] = {
    **_COMMON,
    "model": "m",
    "input": [
        {
            "type": "additional_tools",
            "id": "at_01a220e0",
            "role": "developer",
            "tools": [
                {
                    "type": "namespace",
                    "name": "functions",
                    "description": "",
                    "tools": [
                        {
                            "type": "custom",
                            "name": "exec",
                            "description": "Run JavaScript code.",
                            "format": {
                                "type": "grammar",
                                "syntax": "lark",
                                "definition": PATCH_GRAMMAR,
                            },
                        },
                        _function("wait", cell_id={"type": "string"}),
                    ],
                },
                {
                    "type": "namespace",
                    "name": "collaboration",
                    "description": "Tools for sub-agents.",
                    "tools": [_function("list_agents")],
                },
            ],
        },
        *_TURNS[:4],
    ],
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low", "context": "all_turns"},
    "text": {"verbosity": "low"},
}
"""For a model of OpenAI's newest: tools are in the input, all of them in namespaces."""
