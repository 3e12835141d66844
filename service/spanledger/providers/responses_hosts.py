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
_AZURE_V1 = "/openai/v1"
"""Azure serves it at this address alone, not below a deployment's name."""


def serves_responses(prefix: str, base: str | None) -> bool:
    """Whether a deployment's server has it: by whose address it is, then by the prefix."""
    owner = host_of(base)
    if prefix == "azure" or (owner is not None and owner.prefix == "azure"):
        return (base or "").endswith(_AZURE_V1)
    return (prefix if owner is None else owner.prefix) in SERVES_RESPONSES
