"""Requests that OpenAI accepts and Anthropic refuses, and what is sent instead: one row each.

Data only: the code is in the other modules here, a test sends every row to a simulator
that refuses as Anthropic does, and `docs/provider-errors.md` is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HAIKU = "claude-haiku-4-5"
OPUS_41, OPUS_46, OPUS_47 = "claude-opus-4-1", "claude-opus-4-6", "claude-opus-4-7"

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Oddity:
    """One kind of request.

    Attributes:
        request: what it is, in words.
        says: how Anthropic refuses it.
        sent: what is sent in its place.
        changed: what `x-spanledger-changed` says.
        source: where it was seen.
        messages: of an example; a greeting when empty.
        fields: further fields of the example.
        model: of the example.
    """

    request: str
    says: str
    sent: str
    changed: str
    source: str
    messages: list[Message] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    model: str = HAIKU


def _user(content: Any = "Hi") -> Message:
    return {"role": "user", "content": content}


def _assistant(content: Any, *calls: Message, **more: Any) -> Message:
    message = {"role": "assistant", "content": content, **more}
    return {**message, "tool_calls": list(calls)} if calls else message


def _call(unique: str, name: str = "look") -> Message:
    return {"id": unique, "type": "function", "function": {"name": name, "arguments": "{}"}}


def _result(unique: str, content: str = "found") -> Message:
    return {"role": "tool", "tool_call_id": unique, "content": content}


def _tool(name: str = "look", parameters: Any = None) -> Message:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _image(url: str) -> Message:
    return _user([{"type": "image_url", "image_url": {"url": url, "detail": "low"}}])


_TOOLS = {"tools": [_tool()]}
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

ODDITIES = (
    Oddity(
        "an assistant's turn of white space",
        "text content blocks must contain non-whitespace text",
        "the conversation without that turn",
        "messages",
        "LibreChat-AI/agents#124",
        [_user(), _assistant(" \n"), _user("Still there?")],
    ),
    Oddity(
        "white space next to tool calls",
        "text content blocks must contain non-whitespace text",
        "the calls alone",
        "messages",
        "LibreChat-AI/agents#124",
        [_user(), _assistant("\n\n", _call("c1")), _result("c1")],
        _TOOLS,
    ),
    Oddity(
        "a user's last message of white space",
        "text content blocks must contain non-whitespace text",
        "a full stop",
        "messages",
        "Anthropic's refusal, quoted in public code",
        [_user(" ")],
    ),
    Oddity(
        "`user` is an e-mail address or a phone number",
        "user_id appears to contain an email address",
        "its SHA-256, which is as good an id",
        "user",
        "BerriAI/litellm#10106",
        fields={"user": "ada@example.com"},
    ),
    Oddity(
        "`metadata.user_id` is one",
        "user_id appears to contain a phone number",
        "its SHA-256",
        "metadata",
        "BerriAI/litellm#10102",
        fields={"metadata": {"user_id": "+49 30 1234567"}},
    ),
    Oddity(
        "`user` is longer than 256 characters",
        "String should have at most 256 characters",
        "its SHA-256",
        "user",
        "vercel/ai#12419",
        fields={"user": "u" * 300},
    ),
    Oddity(
        "`temperature` with `reasoning_effort`",
        "`temperature` may only be set to 1 when thinking is enabled",
        "the request without it",
        "temperature",
        "one-hub#529",
        fields={"reasoning_effort": "low", "temperature": 0.2},
    ),
    Oddity(
        "`top_p` below 0.95 with `reasoning_effort`",
        "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled",
        "the request without it",
        "top_p",
        "Anthropic, extended thinking",
        fields={"reasoning_effort": "low", "top_p": 0.5},
    ),
    Oddity(
        "`top_k` with `reasoning_effort`",
        "`top_k` must be unset when thinking is enabled",
        "the request without it",
        "top_k",
        "Anthropic, extended thinking",
        fields={"reasoning_effort": "low", "top_k": 5},
    ),
    Oddity(
        "`temperature` above 1",
        "temperature: range: 0..1",
        "1",
        "temperature",
        "Anthropic API reference",
        fields={"temperature": 1.5},
    ),
    Oddity(
        "a tool call that is required, with `reasoning_effort`",
        "Thinking may not be enabled when tool_choice forces tool use",
        "the request without thinking: the call shows in the answer, thinking does not",
        "reasoning_effort",
        "mastra-ai/mastra#7507",
        fields={**_TOOLS, "tool_choice": "required", "reasoning_effort": "low"},
    ),
    Oddity(
        "the same on a model with adaptive thinking",
        "Thinking may not be enabled when tool_choice forces tool use",
        "the effort without thinking",
        "reasoning_effort",
        "router-for-me/CLIProxyAPI#1125",
        fields={**_TOOLS, "tool_choice": "required", "reasoning_effort": "low"},
        model=OPUS_46,
    ),
    Oddity(
        "a round of tool calls that began without thinking, with `reasoning_effort`",
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
        "the request without thinking",
        "reasoning_effort",
        "pydantic/pydantic-ai#2075",
        [_user(), _assistant(None, _call("c1")), _result("c1")],
        {**_TOOLS, "reasoning_effort": "low"},
    ),
    Oddity(
        "`reasoning_effort` with fewer than 1,025 tokens for the answer",
        "`max_tokens` must be greater than `thinking.budget_tokens`",
        "the request without thinking",
        "reasoning_effort",
        "Anthropic, extended thinking",
        fields={"reasoning_effort": "high", "max_tokens": 200},
    ),
    Oddity(
        "a thinking budget below 1,024 tokens",
        "budget_tokens: Input should be greater than or equal to 1024",
        "a budget of 1,024",
        "thinking",
        "Anthropic, extended thinking",
        fields={"thinking": {"type": "enabled", "budget_tokens": 200}},
    ),
    Oddity(
        "a thinking budget on a model that knows only adaptive thinking",
        '"thinking.type.enabled" is not supported for this model',
        "adaptive thinking",
        "thinking",
        "NousResearch/hermes-agent#11137",
        fields={"thinking": {"type": "enabled", "budget_tokens": 2000}},
        model=OPUS_47,
    ),
    Oddity(
        "adaptive thinking on a model that knows only a budget",
        "adaptive thinking is not supported on this model",
        "a budget of 4,096 tokens, or what fits",
        "thinking",
        "danielmiessler/Fabric#2270",
        fields={"thinking": {"type": "adaptive"}, "max_tokens": 8000},
    ),
    Oddity(
        "`reasoning_effort` on a model that does not think",
        "this model does not support thinking",
        "the request without it",
        "reasoning_effort",
        "Anthropic, extended thinking",
        fields={"reasoning_effort": "low"},
        model="claude-3-5-haiku-20241022",
    ),
    Oddity(
        "`temperature` with `top_p` on a model that takes one of them",
        "`temperature` and `top_p` cannot both be specified for this model",
        "`temperature`; whichever is at its default goes without a word",
        "top_p",
        "charmbracelet/mods#618",
        fields={"temperature": 0.2, "top_p": 0.9},
    ),
    Oddity(
        "the same on Opus 4.1",
        "`temperature` and `top_p` cannot both be specified for this model",
        "`temperature`",
        "top_p",
        "aws-samples/bedrock-chat#979",
        fields={"temperature": 0.2, "top_p": 0.9},
        model=OPUS_41,
    ),
    Oddity(
        "`temperature`, `top_p` or `top_k` on a model that samples by itself",
        "`temperature` is deprecated for this model",
        "the request without them",
        "temperature, top_p, top_k",
        "github/app#2574",
        fields={"temperature": 0.2, "top_p": 0.9, "top_k": 3},
        model=OPUS_47,
    ),
    Oddity(
        "a tool whose `parameters` have no `type`",
        "input_schema.type: Field required",
        "the parameters as an object",
        "tools",
        "opencodex#75",
        fields={"tools": [_tool("look", {"properties": {"x": {"type": "string"}}})]},
    ),
    Oddity(
        "a tool whose `parameters` are alternatives",
        "input_schema does not support oneOf, allOf, or anyOf at the top level",
        "one object with the properties of all, and those required that all require",
        "tools",
        "Anthropic's refusal, quoted in public code",
        fields={
            "tools": [
                _tool(
                    "look",
                    {
                        "anyOf": [
                            {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
                        ]
                    },
                )
            ]
        },
    ),
    Oddity(
        "a tool's name with other characters than letters, digits, `_` and `-`",
        "name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        "`_` for them; the answer has the caller's name",
        "tools",
        "home-assistant/core#147760",
        [_user(), _assistant(None, _call("c1", "files/look.up")), _result("c1")],
        {"tools": [_tool("files/look.up")]},
    ),
    Oddity(
        "two tools of one name",
        "Tool names must be unique",
        "the first",
        "tools",
        "XSpoonAi/spoon-core#16",
        fields={"tools": [_tool(), _tool()]},
    ),
    Oddity(
        "tool calls in the conversation, and no tools",
        "Requests which include `tool_use` or `tool_result` blocks must define tools",
        "the tools that were called, barred by `tool_choice`",
        "tools",
        "Anthropic's refusal, quoted in public code",
        [_user(), _assistant(None, _call("c1")), _result("c1")],
    ),
    Oddity(
        "an id of a tool call with other characters",
        "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        "`_` for them, in the call and its result",
        "",
        "LibreChat-AI/agents#124",
        [_user(), _assistant(None, _call("call.1:x")), _result("call.1:x")],
        _TOOLS,
    ),
    Oddity(
        "a tool's result after what the user says",
        "`tool_use` ids were found without `tool_result` blocks immediately after",
        "the result first",
        "messages",
        "anthropics/claude-code#8612",
        [_user(), _assistant(None, _call("c1")), _user("Quick!"), _result("c1")],
        _TOOLS,
    ),
    Oddity(
        "a tool call without a result",
        "`tool_use` ids were found without `tool_result` blocks immediately after",
        "a result that says there is none",
        "messages",
        "anthropics/claude-code#8210",
        [_user(), _assistant(None, _call("c1"), _call("c2")), _result("c1")],
        _TOOLS,
    ),
    Oddity(
        "a result without a call",
        "unexpected `tool_use_id` found in `tool_result` blocks",
        "the result as what the user says",
        "messages",
        "anthropics/claude-code#18947",
        [_user(), _result("gone")],
        _TOOLS,
    ),
    Oddity(
        "thinking of another provider's, without a signature",
        "thinking.signature: Field required",
        "the turn without it",
        "messages",
        "Anthropic, extended thinking",
        [
            _user(),
            _assistant("Yes.", thinking_blocks=[{"type": "thinking", "thinking": "hm"}]),
            _user("Why?"),
        ],
    ),
    Oddity(
        "a conversation that begins with the assistant",
        'first message must use the "user" role',
        "a full stop of the user's before it",
        "messages",
        "Anthropic's refusal, quoted in public code",
        [_assistant("How can I help?"), _user()],
    ),
    Oddity(
        "a conversation that ends with the assistant, in white space",
        "final assistant content cannot end with trailing whitespace",
        "the turn without that white space",
        "messages",
        "Anthropic API reference",
        [_user(), _assistant("Once upon a time ")],
    ),
    Oddity(
        "a conversation that ends with the assistant, from Claude 4.6",
        "This model does not support assistant message prefill",
        "one more turn of the user's: Continue.",
        "messages",
        "langchain-ai/deepagents#1585",
        [_user(), _assistant("Once upon a time")],
        model=OPUS_46,
    ),
    Oddity(
        "an image under another type than it has",
        "the image appears to be a image/png image",
        "its own type",
        "messages",
        "home-assistant/core#167208",
        [_image(f"data:image/jpeg;base64,{_PNG}")],
    ),
    Oddity(
        "more than four `cache_control`",
        "A maximum of 4 blocks with cache_control may be provided",
        "the last four",
        "cache_control",
        "Anthropic, prompt caching",
        [
            _user(
                [
                    {"type": "text", "text": word, "cache_control": {"type": "ephemeral"}}
                    for word in "abcde"
                ]
            )
        ],
    ),
    Oddity(
        "a stop sequence of white space",
        "each stop sequence must contain non-whitespace",
        "the others",
        "stop",
        "Anthropic API reference",
        fields={"stop": ["\n", "END"]},
    ),
)
