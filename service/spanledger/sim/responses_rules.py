"""What OpenAI's Responses API refuses, and with which messages; the simulator does the same.

It knows nothing about how the gateway avoids these errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from spanledger.sim.prompt import RefusalError, objects, string
from spanledger.sim.responses_store import JsonBody

CAP_MIN = 16
COMPACT_NOW = "compaction_trigger"
"""The last item of a request whose answer is a compaction."""
INPUT_ITEMS_MAX = 2_048
_FIELDS = frozenset(
    {
        "background",
        "context_management",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "client_metadata",  # Codex sends it
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)
_COUNTED = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "personality",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)
"""Fields of a request to count its input. Source: `InputTokenCountParams` of openai-python 2.54."""
_COMPACTED = frozenset(
    {
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "service_tier",
        "text",
        "tools",
    }
)
"""Fields of a compaction. Source: `ResponseCompactParams` of openai-python 3.57; `ApiCompactionInput` of
Codex 0.171 has `tools`, `parallel_tool_calls`, `reasoning` and `text` in addition."""
_MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "functions": "tools",
    "function_call": "tool_choice",
}
_TOOLS = (
    "function",
    "custom",
    "namespace",
    "web_search",
    "web_search_preview",
    "file_search",
    "code_interpreter",
    "computer_use_preview",
    "computer",
    "image_generation",
    "mcp",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
)
_ROLES = ("assistant", "system", "developer", "user")
_ITEMS = (
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "item_reference",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "additional_tools",
    "tool_search_call",
    "tool_search_output",
    "compaction",
    COMPACT_NOW,
)
_INPUT_PARTS = ("input_text", "input_image", "input_file", "input_audio", "computer_screenshot")
_OUTPUT_PARTS = ("output_text", "refusal")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_CALLS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_REASONS = re.compile(r"(gpt-[5-9](?!-chat|\.\d+-chat)|o\d|codex-)")
_ALWAYS_REASONS = re.compile(r"(gpt-5(?![.\d]|-chat)|o\d|codex-)")
"""Models that reason whatever the request says, and so take no temperature."""


def reasons(model: str) -> bool:
    """Whether this model can reason."""
    return _REASONS.match(model) is not None


def reasons_unasked(model: str) -> bool:
    """Whether it does so where the request says nothing of it."""
    return _ALWAYS_REASONS.match(model) is not None or model.startswith(("gpt-5.5", "gpt-5.6"))


def check_count(body: JsonBody) -> None:
    """Refuse fields that have no part in the input. Raises RefusalError."""
    for name in sorted(body.keys() - _COUNTED):
        raise _unknown(name)


def check_compaction(body: JsonBody) -> None:
    """Refuse fields that have no part in a compaction. Raises RefusalError."""
    for name in sorted(body.keys() - _COMPACTED):
        raise _unknown(name)


def check(body: JsonBody, model: str) -> None:
    """Refuse what the API refuses of one request by itself.

    Raises:
        RefusalError: 400, with OpenAI's message.
    """
    _check_names(body)
    _check_input_given(body)
    _check_cap(body)
    _check_switches(body)
    _check_reasoning(body, model)
    _check_tools(body)
    _check_format(body)
    given = body.get("input")
    if isinstance(given, list):
        if len(given) > INPUT_ITEMS_MAX:
            raise _bad(f"Invalid 'input': array too long, at most {INPUT_ITEMS_MAX}.", "input")
        for index, item in enumerate(given):
            _check_item(item, f"input[{index}]")


def check_calls(items: list[JsonBody]) -> None:
    """Each output of a tool has its call and each call its output; reasoning has what it led to.

    Raises:
        RefusalError: 400, with OpenAI's message.
    """
    for kind, answer in _CALLS.items():
        noun = "function call" if kind == "function_call" else "custom tool call"
        calls = [string(item.get("call_id")) for item in items if item.get("type") == kind]
        outputs = [string(item.get("call_id")) for item in items if item.get("type") == answer]
        for call_id in outputs:
            if call_id not in calls:
                raise _bad(
                    f"No tool call found for {noun} output with call_id {call_id}.", "input", None
                )
        for call_id in calls:
            if call_id not in outputs:
                raise _bad(f"No tool output found for {noun} {call_id}.", "input", None)
    for item, follower in zip(items, [*items[1:], {}], strict=True):
        if item.get("type") == "reasoning" and follower.get("type") in (None, "reasoning"):
            if follower.get("role") == "assistant":
                continue
            raise _bad(
                f"Item '{item.get('id')}' of type 'reasoning' was provided without its required "
                "following item.",
                "input",
                None,
            )


def _check_names(body: JsonBody) -> None:
    for name in body:
        if name in _MOVED:
            raise _bad(
                f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved "
                f"to '{_MOVED[name]}'. Try again with the new parameter. See the API documentation "
                "for more information: "
                "https://platform.openai.com/docs/api-reference/responses/create.",
                name,
                "unsupported_parameter",
            )
        if name not in _FIELDS:
            raise _unknown(name)
    options = body.get("stream_options")
    if options is not None and body.get("stream") is not True:
        raise _bad(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
            None,
        )
    for name in options if isinstance(options, dict) else ():
        if name != "include_obfuscation":
            raise _unknown(f"stream_options.{name}")


def _check_input_given(body: JsonBody) -> None:
    sources = ("input", "previous_response_id", "prompt", "conversation")
    if not any(body.get(name) for name in sources):
        raise _bad(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be "
            "provided.",
            "input",
            "missing_required_parameter",
        )
    if body.get("previous_response_id") and body.get("conversation"):
        raise _bad(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you "
            "are only providing one of them.",
            None,
            "mutually_exclusive_parameters",
        )
    if not isinstance(body.get("input"), str | list | None):
        raise _kind("input", "one of a string or an array of input items", body.get("input"))
    if not isinstance(body.get("instructions"), str | None):
        raise _kind("instructions", "a string", body.get("instructions"))


def _check_cap(body: JsonBody) -> None:
    cap = body.get("max_output_tokens")
    if cap is None:
        return
    if isinstance(cap, bool) or not isinstance(cap, int):
        raise _kind("max_output_tokens", "an integer", cap)
    if cap < CAP_MIN:
        raise _bad(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= "
            f"{CAP_MIN}, but got {cap} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )


def _check_switches(body: JsonBody) -> None:
    for name in ("stream", "store", "background", "parallel_tool_calls"):
        if not isinstance(body.get(name), bool | None):
            raise _kind(name, "a boolean", body.get(name))
    if body.get("background") is True and body.get("store") is False:
        raise _bad("Background mode requires 'store' to be true.", "background", None)


def _check_reasoning(body: JsonBody, model: str) -> None:
    reasoning = body.get("reasoning")
    included = body.get("include")
    sealed = isinstance(included, list) and "reasoning.encrypted_content" in included
    if sealed and not reasons(model):
        raise _bad("Encrypted content is not supported with this model.", "include", None)
    if body.get("temperature") is not None and _ALWAYS_REASONS.match(model):
        raise _unsupported("temperature")
    if reasoning is None:
        return
    if not isinstance(reasoning, dict):
        raise _kind("reasoning", "an object", reasoning)
    for name in reasoning:
        if name not in ("effort", "summary", "generate_summary", "context", "mode"):
            raise _unknown(f"reasoning.{name}")
    effort = reasoning.get("effort")
    if effort is not None and effort not in _EFFORTS:
        raise _value("reasoning.effort", effort, _EFFORTS)
    for name in ("effort", "summary"):
        if reasoning.get(name) is not None and not reasons(model):
            raise _unsupported(f"reasoning.{name}")


def _check_tools(body: JsonBody) -> None:
    tools = body.get("tools")
    if not isinstance(tools, list | None):
        raise _kind("tools", "an array of objects", tools)
    given = objects(tools)
    for index, tool in enumerate(given):
        kind = string(tool.get("type"))
        if not kind.startswith(_TOOLS):
            raise _value(f"tools[{index}].type", tool.get("type"), _TOOLS)
        if kind not in ("function", "custom", "namespace"):
            continue
        name = tool.get("name")
        if name is None:
            raise _missing(f"tools[{index}].name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _bad(
                f"Invalid 'tools[{index}].name': string does not match pattern. Expected a string "
                "that matches the pattern '^[a-zA-Z0-9_-]+$'.",
                f"tools[{index}].name",
                "invalid_value",
            )
    choice = body.get("tool_choice")
    if choice == "required" and not given:
        raise _bad(
            "Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice"
        )
    if isinstance(choice, dict) and choice.get("type") == "function":
        if choice.get("name") is None:
            raise _missing("tool_choice.name")
        if choice["name"] not in [tool.get("name") for tool in given]:
            raise _bad("Tool choice 'function' not found in 'tools' parameter.", "tool_choice")


def _check_format(body: JsonBody) -> None:
    text = body.get("text")
    if text is None:
        return
    if not isinstance(text, dict):
        raise _kind("text", "an object", text)
    form = text.get("format")
    if not isinstance(form, dict):
        return
    kinds = ("json_object", "json_schema", "text")
    if form.get("type") not in kinds:
        raise _value("text.format.type", form.get("type"), kinds)
    for name in ("name", "schema") if form["type"] == "json_schema" else ():
        if form.get(name) is None:
            raise _missing(f"text.format.{name}")


def _check_item(item: object, at: str) -> None:
    if not isinstance(item, dict):
        raise _kind(at, "an object", item)
    kind = item.get("type", "message" if "role" in item else None)
    if kind not in _ITEMS:
        raise _value(f"{at}.type" if kind else at, kind, _ITEMS)
    needed: Mapping[str, tuple[str, ...]] = {
        "message": ("role", "content"),
        "function_call": ("call_id", "name", "arguments"),
        "function_call_output": ("call_id", "output"),
        "reasoning": ("summary",),
        "item_reference": ("id",),
        "compaction": ("encrypted_content",),
    }
    for name in needed.get(string(kind), ()):
        if item.get(name) is None:
            raise _missing(f"{at}.{name}")
    if kind != "message":
        return
    if item["role"] not in _ROLES:
        raise _value(at, item["role"], _ROLES)
    content = item["content"]
    if not isinstance(content, str | list):
        raise _kind(f"{at}.content", "one of an array of objects or string", content)
    allowed = _OUTPUT_PARTS if item["role"] == "assistant" else _INPUT_PARTS
    for index, part in enumerate(objects(content)):
        if part.get("type") not in allowed:
            raise _value(f"{at}.content[{index}]", part.get("type"), allowed)


def _bad(message: str, param: str | None, code: str | None = "invalid_value") -> RefusalError:
    return RefusalError(400, message, param=param, code=code)


def _missing(param: str) -> RefusalError:
    return _bad(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _unknown(param: str) -> RefusalError:
    return _bad(f"Unknown parameter: '{param}'.", param, "unknown_parameter")


def _unsupported(param: str) -> RefusalError:
    return _bad(
        f"Unsupported parameter: '{param}' is not supported with this model.",
        param,
        "unsupported_parameter",
    )


def _kind(param: str, expected: str, value: object) -> RefusalError:
    names = {bool: "a boolean", int: "an integer", str: "a string", list: "an array"}
    got = names.get(type(value), "an object" if isinstance(value, dict) else "null")
    return _bad(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param,
        "invalid_type",
    )


def _value(param: str, value: object, supported: tuple[str, ...]) -> RefusalError:
    named = ", ".join(f"'{name}'" for name in supported[:-1])
    return _bad(
        f"Invalid value: '{value}'. Supported values are: {named}, and '{supported[-1]}'.",
        param,
    )
