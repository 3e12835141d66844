"""What OpenAI's chat completions refuse, and with which messages; the simulator does the same.

It knows nothing about how the gateway avoids these errors.
"""

from __future__ import annotations

import re

from spanledger.sim.prompt import RefusalError, objects

_RESPONSES_ONLY = re.compile(
    r"(gpt-[\d.]+(-\w+)*-(codex|pro)\b|gpt-[\d.]+-(codex|pro)\b|o\d(-\w+)*-(pro|deep-research)\b"
    r"|codex-|computer-use-)"
)
_VERSION = re.compile(r"gpt-(\d+)\.(\d+)")
_NO_TOOLS = (5, 4)
"""From this version on, chat takes no function tools together with reasoning."""
_REASONS_BY_DEFAULT = (5, 5)
"""From this version on, a request that says nothing of its effort is one with reasoning."""
_TAKES_NONE = (5, 6)
"""From this version on, the error names the other way out."""


def version_of(model: str) -> tuple[int, int]:
    """A model's generation, (0, 0) for one that has none with a dot."""
    found = _VERSION.match(model)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def responses_only(model: str) -> bool:
    """Whether only the Responses API serves this model."""
    return _RESPONSES_ONLY.match(model) is not None


def check(body: dict[str, object], model: str) -> None:
    """Refuse what the API refuses.

    Raises:
        RefusalError: with OpenAI's message.
    """
    if responses_only(model):
        raise RefusalError(
            404,
            "This model is only supported in v1/responses and not in v1/chat/completions.",
            param="model",
            code=None,
        )
    version = version_of(model)
    if version < _NO_TOOLS or "-chat" in model:
        return
    functions = [tool for tool in objects(body.get("tools")) if tool.get("type") == "function"]
    silent = "medium" if version >= _REASONS_BY_DEFAULT else "none"
    if functions and (body.get("reasoning_effort") or silent) != "none":
        advice = (
            "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
            if version >= _TAKES_NONE
            else "Please use /v1/responses instead."
        )
        raise RefusalError(
            400,
            f"Function tools with reasoning_effort are not supported for {model} in "
            f"/v1/chat/completions. {advice}",
            param="reasoning_effort",
            code=None,
        )
