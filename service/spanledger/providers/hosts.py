"""Whose server is it: look-ups by prefix, by address and by a model's bare name.

Routing resolves an entry of `model_list` by these, telemetry names the server by them. The rows
are in `host_table`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from spanledger.providers.host_table import (
    HOSTS,
    LOCAL,
    LOGPROBS,
    MAX_COMPLETION,
    MAX_TOKENS,
    PENALTIES,
    Cap,
    Host,
)

__all__ = ["HOSTS", "MAX_COMPLETION", "MAX_TOKENS", "Cap", "Host"]

_BY_NAME: dict[str, Host] = {}
for _host in HOSTS.values():
    for _name in _host.hosts:
        if _name not in LOCAL and not _name.startswith("."):
            _BY_NAME.setdefault(_name, _host)

OTHER_PROVIDERS = {
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
}
"""`gen_ai.provider.name` of prefixes that LiteLLM serves; what is not here keeps its name."""

CLIENT_VARIABLES = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
"""Variables that LiteLLM takes for a provider's address. Clients of this gateway are told where it
is by the same ones, so obeying them would have it call itself: they are named in a warning."""

_BARE = (
    (
        re.compile(
            r"(?:ft:)?(?:gpt-|chatgpt-|o[1-9](?:-|$)|text-embedding-|text-moderation|whisper-|tts-"
            r"|dall-e-|omni-moderation|sora-|codex-|computer-use-|davinci-|babbage-)"
        ),
        "openai",
    ),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-|gemma-|learnlm-"), "gemini"),
    (re.compile(r"command-|embed-(?:english|multilingual|v\d)|c4ai-"), "cohere"),
)
"""What model names begin with whose provider is plain, as in LiteLLM's lists."""

REASONING_MODEL = re.compile(r"(?:.*/)?(?:o[1-9](?:-|$)|gpt-5(?!-chat)|o_series|gpt5_series)")
"""OpenAI's models that take `max_completion_tokens` alone and no sampling parameters."""
REASONING_DROPS = PENALTIES | LOGPROBS | {"temperature", "top_p"}


def provider_name(prefix: str) -> str:
    """`gen_ai.provider.name` for one of LiteLLM's prefixes."""
    host = HOSTS.get(prefix)
    if host is not None:
        return host.provider or prefix
    return OTHER_PROVIDERS.get(prefix, prefix)


def prefix_of_bare(model: str) -> str | None:
    """The provider of a model whose name alone says it."""
    return next((prefix for pattern, prefix in _BARE if pattern.match(model)), None)


def host_of(base: str | None) -> Host | None:
    """The row that an address belongs to, by its host name; None for anybody else's server."""
    if not base:
        return None
    try:
        url = urlsplit(base)
        name = url.hostname
    except ValueError:
        return None
    return _BY_NAME.get(name) if name and url.scheme == "https" else None


def cap_field(base: str | None, prefix: str, model: str) -> Cap:
    """The field that caps an answer at a server: by its address, by its prefix, by the model."""
    if REASONING_MODEL.match(model) and prefix in ("openai", "azure", "azure_ai"):
        return MAX_COMPLETION
    host = host_of(base) if base else HOSTS.get(prefix)
    return host.cap if host is not None else MAX_TOKENS


def tells_cost(base: str | None) -> bool:
    """Whether `usage.cost` of a server is what it charges, in USD; elsewhere it may be anything."""
    host = host_of(base)
    return host is not None and host.prefix == "openrouter"
