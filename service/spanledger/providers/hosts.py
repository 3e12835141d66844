"""Identifies a provider by LiteLLM's prefix, by address, or by a model's bare name.

Routing resolves entries of `model_list` with these functions, and telemetry names the server. The
rows are in `host_table`.
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
"""`gen_ai.provider.name` of prefixes that LiteLLM serves; all others keep their own name."""

CLIENT_VARIABLES = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
"""Variables that LiteLLM uses as a provider's address. The gateway's own clients find it through the
same variables, so if it obeyed them it would call itself. It only warns about them."""

RERANKERS = {
    "cohere": Host(
        "cohere",
        "https://api.cohere.com/v2",
        ("COHERE_API_KEY", "CO_API_KEY"),
        "https://docs.cohere.com/reference/rerank",
    ),
    "jina_ai": Host(
        "jina_ai",
        "https://api.jina.ai/v1",
        ("JINA_AI_API_KEY", "JINA_API_KEY"),
        "https://api.jina.ai/redoc",
    ),
}
"""Providers whose rerankers our adapter calls, and LiteLLM their other models."""

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
"""Prefixes of model names that identify the provider, as in LiteLLM's lists."""

REASONING_MODEL = re.compile(r"(?:.*/)?(?:o[1-9](?:-|$)|gpt-5(?!-chat)|o_series|gpt5_series)")
"""OpenAI's models that accept `max_completion_tokens` only, and no sampling parameters."""
REASONING_DROPS = PENALTIES | LOGPROBS | {"temperature", "top_p"}


def host_for(prefix: str, model: str, mode: str) -> Host | None:
    """The row of a prefix that our adapters serve; for some providers it depends on the model."""
    if prefix in RERANKERS and (mode == "rerank" or "rerank" in model):
        return RERANKERS[prefix]
    return HOSTS.get(prefix)


def provider_name(prefix: str) -> str:
    """`gen_ai.provider.name` for one of LiteLLM's prefixes."""
    host = HOSTS.get(prefix)
    if host is not None:
        return host.provider or prefix
    return OTHER_PROVIDERS.get(prefix, prefix)


def prefix_of_bare(model: str) -> str | None:
    """The provider of a model whose bare name identifies it; else None."""
    return next((prefix for pattern, prefix in _BARE if pattern.match(model)), None)


def host_of(base: str | None) -> Host | None:
    """The row that an address belongs to, by its host name; None for any other server."""
    if not base:
        return None
    try:
        url = urlsplit(base)
        name = url.hostname
    except ValueError:
        return None
    return _BY_NAME.get(name) if name and url.scheme == "https" else None


def cap_field(base: str | None, prefix: str, model: str) -> Cap:
    """The field that caps an answer, by the server's address, its prefix and the model."""
    if REASONING_MODEL.match(model) and prefix in ("openai", "azure", "azure_ai"):
        return MAX_COMPLETION
    host = host_of(base) if base else HOSTS.get(prefix)
    return host.cap if host is not None else MAX_TOKENS


def tells_cost(base: str | None) -> bool:
    """Whether a server's `usage.cost` is what it charges, in USD; elsewhere it may mean anything."""
    host = host_of(base)
    return host is not None and host.prefix == "openrouter"
