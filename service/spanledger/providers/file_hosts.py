"""Who keeps files and runs batches in OpenAI's form: one row for each prefix, with its source."""

from __future__ import annotations

from dataclasses import replace

from spanledger.providers.azure import v1_address
from spanledger.providers.base import Deployment
from spanledger.providers.hosts import host_of

KEEPS_FILES = {
    "openai": "https://platform.openai.com/docs/guides/batch",
    "azure": "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch",
    "groq": "https://console.groq.com/docs/batch",
    "litellm_proxy": "https://docs.litellm.ai/docs/batches",
}
"""By LiteLLM's prefix; `openai/` with an address of one's own is among them."""


def keeps_files(deployment: Deployment) -> bool:
    """Whether a deployment's server has them: by whose address it is, then by the prefix."""
    return deployment.kind == "openai" and _prefix(deployment) in KEEPS_FILES


def for_files(deployment: Deployment) -> Deployment:
    """The deployment at the address of its files. Azure's are not below a deployment's name."""
    if deployment.api_base is None or _prefix(deployment) != "azure":
        return deployment
    base, query = v1_address(deployment.api_base + deployment.query)
    return replace(deployment, api_base=base, query=query)


def _prefix(deployment: Deployment) -> str:
    owner = host_of(deployment.api_base)
    if owner is not None:
        return owner.prefix
    return deployment.litellm_model.removesuffix(deployment.model).rstrip("/") or "openai"
