"""Who serves OpenAI's endpoints for audio and for changing images: one row for each prefix, with its
source.

A server that is not here has none of them, unless it is one's own, the price book knows its model as
one for audio or images, or the file says so (`model_info.supported_endpoints`, `model_info.mode`).
"""

from __future__ import annotations

from typing import NamedTuple

from spanledger.providers.hosts import HOSTS, host_of

MEDIA_WIRES = frozenset(
    {"image_edits", "image_variations", "speech", "transcriptions", "translations"}
)
_HEARING = frozenset({"transcriptions", "translations"})
_AUDIO = _HEARING | {"speech"}


class MediaHost(NamedTuple):
    """What a provider serves of these, and the page that says so."""

    wires: frozenset[str]
    source: str


MEDIA_HOSTS = {
    "openai": MediaHost(MEDIA_WIRES, "https://developers.openai.com/api/reference"),
    "azure": MediaHost(
        _AUDIO | {"image_edits"},
        "https://learn.microsoft.com/azure/foundry/openai/reference-preview",
    ),
    "groq": MediaHost(_AUDIO, "https://console.groq.com/docs/speech-to-text"),
    "mistral": MediaHost(
        frozenset({"speech", "transcriptions"}), "https://docs.mistral.ai/studio/audio/overview"
    ),
    "together_ai": MediaHost(
        _AUDIO, "https://docs.together.ai/docs/inference/transcription/overview"
    ),
    "deepinfra": MediaHost(_AUDIO, "https://docs.deepinfra.com"),
    "hosted_vllm": MediaHost(
        _HEARING, "https://docs.vllm.ai/en/stable/serving/online_serving.html"
    ),
    "xinference": MediaHost(
        MEDIA_WIRES, "https://github.com/xorbitsai/inference/tree/main/xinference/api/routers"
    ),
    "litellm_proxy": MediaHost(
        frozenset({"image_edits", "speech", "transcriptions"}),
        "https://docs.litellm.ai/docs/providers/litellm_proxy",
    ),
}
"""By LiteLLM's prefix; `openai/` with an address of one's own is among them."""


def media_of(prefix: str, base: str | None) -> frozenset[str]:
    """Which of these a deployment's server has: by whose address it is, then by the prefix."""
    owner = host_of(base)
    name = prefix if owner is None else owner.prefix
    row = MEDIA_HOSTS.get(name)
    if row is not None:
        return row.wires
    host = HOSTS.get(name)
    return MEDIA_WIRES if host is None or host.keyless else frozenset()
