"""Who serves OpenAI's Responses API as well as chat completions: one row for each prefix, with its source.

A server that is not here, or that is and does not, says so with LiteLLM's key
`model_info.supported_endpoints`.
"""

from __future__ import annotations

from spanledger.providers.hosts import host_of

SERVES_RESPONSES = {
    "openai": "https://platform.openai.com/docs/api-reference/responses",
    "azure": "https://learn.microsoft.com/azure/foundry/openai/how-to/responses",
    "openrouter": "https://openrouter.ai/docs/api/reference/responses/overview",
    "xai": "https://docs.x.ai/docs/guides/responses-api",
    "groq": "https://console.groq.com/docs/responses-api",
    "fireworks_ai": "https://docs.fireworks.ai/guides/response-api",
    "vercel_ai_gateway": "https://vercel.com/docs/ai-gateway/openresponses",
    "hosted_vllm": "https://docs.vllm.ai/en/stable/serving/online_serving.html",
    "lm_studio": "https://lmstudio.ai/docs/api/openai-api",
    "ollama": "https://docs.ollama.com/api/openai-compatibility",
    "litellm_proxy": "https://docs.litellm.ai/docs/response_api",
}
"""By LiteLLM's prefix. `openai/` with an address of one's own is among them, as in LiteLLM
(https://docs.litellm.ai/docs/response_api_native_passthrough)."""
SERVES_COMPACTION = {
    "openai": "https://developers.openai.com/api/docs/guides/compaction",
    "azure": "https://learn.microsoft.com/azure/foundry/reference/rest/compactconversation",
    "vercel_ai_gateway": "https://vercel.com/docs/ai-gateway/sdks-and-apis/responses/compaction",
    "litellm_proxy": "https://docs.litellm.ai/docs/response_api_compact",
}
"""Who of these compacts conversations as well, at a path of its own. OpenRouter compacts within an answer
alone (https://openrouter.ai/docs/api_reference/responses/compaction)."""
_BOTH = ("responses", "compact")
_AZURE_V1 = "/openai/v1"
"""Azure serves it at this address alone, not below a deployment's name."""


def responses_of(prefix: str, base: str | None) -> tuple[str, ...]:
    """The wires of this API that a deployment's server has: by whose address it is, then by the prefix."""
    owner = host_of(base)
    name = prefix if owner is None else owner.prefix
    if "azure" in (prefix, name):
        return _BOTH if (base or "").endswith(_AZURE_V1) else ()
    if name not in SERVES_RESPONSES:
        return ()
    return _BOTH if name in SERVES_COMPACTION else _BOTH[:1]
