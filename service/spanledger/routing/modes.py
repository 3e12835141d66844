"""Which wires a deployment speaks, by what its model is for.

LiteLLM calls that its mode: the file says it (`model_info.mode`), or else the price book's line of the
model. So a request for a chat is never sent to a model that draws. A model of which nobody says what
it is for is taken to speak all that its adapter can.
"""

from __future__ import annotations

from dataclasses import replace

from spanledger.pricing.book import PriceBook
from spanledger.providers.base import SPOKEN, Deployment

_EDITS = frozenset({"image_edits", "image_variations"})
_NOT_DIALOGUE: dict[str, frozenset[str]] = {
    "embedding": frozenset({"embeddings"}),
    "moderation": frozenset({"moderations"}),
    "rerank": frozenset({"rerank"}),
    "image_generation": _EDITS | {"images"},
    "image_edit": _EDITS,
    "audio_speech": frozenset({"speech"}),
    "audio_transcription": frozenset({"transcriptions", "translations"}),
}
"""Modes that have wires of their own, and these."""
_OTHER_WIRES = frozenset().union(*_NOT_DIALOGUE.values())
"""What a model for dialogue does not have."""
_CHAT_ONLY = ("openai", "azure.ai.openai")
"""Providers whose chat models have no legacy completions."""


def with_mode(deployment: Deployment, book: PriceBook | None) -> Deployment:
    """The deployment with its mode, and the wires that it speaks because of that."""
    mode = deployment.mode
    if not mode and book is not None:
        mode = book.mode_of(deployment)
    if not mode:
        return deployment
    wires = wires_of(deployment, mode)
    return replace(deployment, mode=mode, wires=wires) if wires else deployment


def wires_of(deployment: Deployment, mode: str) -> tuple[str, ...]:
    """Those of a deployment's that a model of this mode has; empty if it has none of them."""
    spoken = deployment.speaks
    own = _NOT_DIALOGUE.get(mode)
    if own is not None:
        found = tuple(name for name in spoken if name in own)
        # A model of this kind is served, although no table says that its server has such models.
        return found or tuple(name for name in SPOKEN[deployment.kind] if name in own)
    barred = set(_OTHER_WIRES)
    if mode == "completion":
        barred |= {"chat", "compact", "responses"}
    elif deployment.provider in _CHAT_ONLY:
        barred.add("completions")
    return tuple(name for name in spoken if name not in barred)
