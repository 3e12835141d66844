"""What Anthropic's Messages API rejects, and with which messages; the simulator does the same.

It knows nothing about how the gateway avoids these errors.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from spanledger.sim.prompt import RefusalError

Body = dict[str, Any]

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.\w+")
_PHONE = re.compile(r"\+?[\d\s().-]{7,}")
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_THINKING_DOC = (
    "When `thinking` is enabled, a final `assistant` message must start with a thinking block"
    " (preceeding the lastmost set of `tool_use` and `tool_result` blocks)."
)


def check(body: Body, model: str) -> None:
    """Reject what the API rejects.

    Raises:
        RefusalError: 400, with Anthropic's message.
    """
    version = _version(model)
    messages = [message for message in body.get("messages", []) if isinstance(message, dict)]
    _check_user(body)
    _check_stop(body)
    _check_texts(messages)
    _check_tools(body, messages)
    _check_results(messages)
    _check_media(messages)
    _check_cache_marks(body, messages)
    thinks = _check_thinking(body, messages, version)
    _check_clearing(body, thinks=thinks)
    _check_sampling(body, version, thinks=thinks)
    _check_ends(messages, version)


def _refuse(message: str) -> RefusalError:
    return RefusalError(400, message)


def _version(model: str) -> tuple[str, int, int]:
    """Family and version; an unknown model counts as a new one without a family."""
    parts = model.split("-")
    numbers = [int(part) for part in parts if part.isdigit() and len(part) < 3]
    family = next((p for p in parts[1:] if p.isalpha()), "")
    return family, *((*numbers, 0, 0)[:2] if numbers else (4, 0))  # type: ignore[return-value]  # two


def _blocks(message: Body) -> list[Body]:
    content = message.get("content")
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _each(messages: list[Body]) -> Iterator[tuple[str, Body]]:
    """Every block with its path."""
    for index, message in enumerate(messages):
        for number, block in enumerate(_blocks(message)):
            yield f"messages.{index}.content.{number}", block


def _check_user(body: Body) -> None:
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return
    for pattern, what in ((_EMAIL, "an email address"), (_PHONE, "a phone number")):
        if pattern.fullmatch(user):
            raise _refuse(
                f"metadata.user_id: user_id appears to contain {what}. Please send a uuid or hash"
                " value instead."
            )
    if len(user) > 256:
        raise _refuse("metadata.user_id: String should have at most 256 characters")


def _check_stop(body: Body) -> None:
    for sequence in body.get("stop_sequences") or ():
        if not str(sequence).strip():
            raise _refuse("stop_sequences: each stop sequence must contain non-whitespace")


def _check_texts(messages: list[Body]) -> None:
    if messages[0].get("role") != "user":
        raise _refuse('messages: first message must use the "user" role')
    for index, message in enumerate(messages):
        content = message.get("content")
        last = index == len(messages) - 1 and message.get("role") == "assistant"
        if not content and not last:
            raise _refuse(
                f"messages.{index}: all messages must have non-empty content except for the"
                " optional final assistant message"
            )
        if isinstance(content, str) and content and not content.strip():
            raise _refuse("messages: text content blocks must contain non-whitespace text")
    for _, block in _each(messages):
        if block.get("type") == "text" and not str(block.get("text", "")).strip():
            kind = "contain non-whitespace text" if block.get("text") else "be non-empty"
            raise _refuse(f"messages: text content blocks must {kind}")
        if block.get("type") == "thinking" and not block.get("signature"):
            raise _refuse("messages.1.content.0.thinking.signature: Field required")


def _check_tools(body: Body, messages: list[Body]) -> None:
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, dict)]
    for index, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            continue
        place = f"tools.{index}.custom"
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or "type" not in schema:
            raise _refuse(f"{place}.input_schema.type: Field required")
        if schema["type"] != "object":
            raise _refuse(f"{place}.input_schema.type: Input should be 'object'")
        if {"oneOf", "anyOf", "allOf"} & set(schema):
            raise _refuse(
                f"{place}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the"
                " top level"
            )
        if not _TOOL_NAME.fullmatch(str(tool.get("name", ""))):
            raise _refuse(f"{place}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    names = [tool.get("name") for tool in tools]
    if len(set(names)) < len(names):
        raise _refuse("tools: Tool names must be unique.")
    if body.get("tool_choice") and not tools:
        raise _refuse("tool_choice: tool_choice may only be specified while providing tools")
    kinds = {block.get("type") for _, block in _each(messages)}
    if kinds & {"tool_use", "tool_result"} and not tools:
        raise _refuse("Requests which include `tool_use` or `tool_result` blocks must define tools")


def _check_results(messages: list[Body]) -> None:
    waiting: list[str] = []
    for index, message in enumerate(messages):
        blocks = _blocks(message)
        results = [b for b in blocks if b.get("type") == "tool_result"]
        for number, block in enumerate(results):
            if block.get("tool_use_id") not in waiting:
                raise _refuse(
                    f"messages.{index}.content.{number}: unexpected `tool_use_id` found in"
                    f" `tool_result` blocks: {block.get('tool_use_id')}. Each `tool_result` block"
                    " must have a corresponding `tool_use` block in the previous message."
                )
        # Results must be the first blocks of their message.
        first = [b.get("tool_use_id") for b in blocks[: len(results)]]
        missing = [unique for unique in waiting if unique not in first]
        if missing:
            raise _unanswered(index - 1, missing)
        waiting = []
        for number, block in enumerate(blocks):
            if block.get("type") != "tool_use":
                continue
            place = f"messages.{index}.content.{number}.tool_use"
            if not _TOOL_ID.fullmatch(str(block.get("id", ""))):
                raise _refuse(f"{place}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            if not _TOOL_NAME.fullmatch(str(block.get("name", ""))):
                pattern = "'^[a-zA-Z0-9_-]{1,128}$'"
                raise _refuse(f"{place}.name: String should match pattern {pattern}")
            waiting.append(str(block["id"]))
    if waiting:
        raise _unanswered(len(messages) - 1, waiting)


def _unanswered(index: int, ids: list[str]) -> RefusalError:
    return _refuse(
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately"
        f" after: {', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result`"
        " block in the next message."
    )


def _check_media(messages: list[Body]) -> None:
    for place, block in _each(messages):
        source = block.get("source")
        if block.get("type") != "image" or not isinstance(source, dict):
            continue
        if source.get("type") == "url" and not str(source.get("url")).startswith("https://"):
            raise _refuse(f"{place}.image.source.url: Only HTTPS URLs are supported.")
        if source.get("type") != "base64":
            continue
        declared = source.get("media_type")
        if declared not in _MEDIA_TYPES:
            raise _refuse(
                f"{place}.image.source.base64.media_type: Input should be 'image/jpeg',"
                " 'image/png', 'image/gif' or 'image/webp'"
            )
        try:
            start = base64.b64decode(str(source.get("data"))[:32])
        except binascii.Error:
            raise _refuse(f"{place}.image.source.base64: invalid base64 data") from None
        found = next((kind for mark, kind in _IMAGES.items() if start.startswith(mark)), declared)
        if found != declared:
            raise _refuse(
                f"{place}.image.source.base64.data: The image was specified using the {declared}"
                f" media type, but the image appears to be a {found} image"
            )


def _check_cache_marks(body: Body, messages: list[Body]) -> None:
    system = body.get("system")
    places = [*(body.get("tools") or ()), *(system if isinstance(system, list) else ())]
    places += [block for _, block in _each(messages)]
    marks = sum(1 for block in places if block.get("cache_control"))
    if marks > 4:
        raise _refuse(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def _check_thinking(body: Body, messages: list[Body], version: tuple[str, int, int]) -> bool:
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive"):
        return False
    assert isinstance(thinking, dict)
    number = version[1:]
    if number < (3, 7):
        raise _refuse("thinking: this model does not support thinking")
    if kind == "enabled" and number >= (4, 7):
        raise _refuse(
            '"thinking.type.enabled" is not supported for this model. Use'
            ' "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
        )
    if kind == "adaptive" and number < (4, 6):
        raise _refuse("adaptive thinking is not supported on this model")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            raise _refuse(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
            )
        if "max_tokens" in body and budget >= body["max_tokens"]:  # token counting has none
            raise _refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
        _check_thinking_turn(messages)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        raise _refuse("Thinking may not be enabled when tool_choice forces tool use.")
    return True


def _check_clearing(body: Body, *, thinks: bool) -> None:
    management = body.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    for edit in edits if isinstance(edits, list) else ():
        if isinstance(edit, dict) and edit.get("type") == "clear_thinking_20251015" and not thinks:
            raise _refuse(
                "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"
            )


def _check_thinking_turn(messages: list[Body]) -> None:
    for index in range(len(messages) - 1, -1, -1):
        blocks = _blocks(messages[index])
        if messages[index].get("role") == "assistant":
            first = blocks[0].get("type") if blocks else "text"
            if first not in ("thinking", "redacted_thinking"):
                raise _refuse(
                    f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`,"
                    f" but found `{first}`. {_THINKING_DOC}"
                )
            return
        if not any(block.get("type") == "tool_result" for block in blocks):
            return


def _check_sampling(body: Body, version: tuple[str, int, int], *, thinks: bool) -> None:
    family, number = version[0], version[1:]
    temperature, top_p, top_k = (body.get(n) for n in ("temperature", "top_p", "top_k"))
    for name in ("temperature", "top_p", "top_k"):
        if not isinstance(body.get(name), int | float | None):
            raise _refuse(f"{name}: Input should be a valid number")
    if temperature is not None and not 0 <= temperature <= 1:
        raise _refuse("temperature: range: 0..1")
    if number >= (4, 7):
        for name, default in (("temperature", 1), ("top_p", None), ("top_k", None)):
            if body.get(name, default) != default:
                raise _refuse(f"`{name}` is deprecated for this model.")
    if thinks and temperature not in (None, 1):
        raise _refuse("`temperature` may only be set to 1 when thinking is enabled.")
    if thinks and top_p is not None and top_p < 0.95:
        raise _refuse(
            "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
        )
    if thinks and top_k is not None:
        raise _refuse("`top_k` must be unset when thinking is enabled.")
    single = number >= ((4, 1) if family == "opus" else (4, 5))
    if single and temperature is not None and top_p is not None:
        raise _refuse(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only"
            " one."
        )


def _check_ends(messages: list[Body], version: tuple[str, int, int]) -> None:
    last = messages[-1]
    if last.get("role") != "assistant":
        return
    if version[1:] >= (4, 6):
        raise _refuse(
            "This model does not support assistant message prefill. The conversation must end with"
            " a user message."
        )
    content = last.get("content")
    blocks = _blocks(last)
    text = content if isinstance(content, str) else blocks[-1].get("text", "") if blocks else ""
    if isinstance(text, str) and text != text.rstrip():
        raise _refuse("messages: final assistant content cannot end with trailing whitespace")
