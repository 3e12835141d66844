"""Which wires a deployment speaks: what its file says, else whose server it is, and which model.

The file has LiteLLM's three ways of saying it: `model_info.supported_endpoints`, `model_info.mode`,
and a model that is written `openai/responses/…`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from spanledger.providers.base import SPOKEN, ProviderKind
from spanledger.providers.hosts import host_of
from spanledger.providers.media_hosts import MEDIA_WIRES, media_of
from spanledger.providers.responses_hosts import responses_of
from spanledger.wires.openai.models import RESPONSES_ALONE, THINKS_UNASKED, TOOLS_APART

_ALONE = ("responses", "compact")
MARKER = "responses/"
"""The beginning of a model that is to be spoken to in the Responses API."""
_ENDPOINTS = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    "/v1beta/models/{model}:generateContent": "generate_content",
    "/v1/responses": "responses",
    "/v1/responses/compact": "compact",
    "/v1/completions": "completions",
    "/v1/moderations": "moderations",
    "/v1/rerank": "rerank",
    "/v1/images/generations": "images",
    "/v1/images/edits": "image_edits",
    "/v1/images/variations": "image_variations",
    "/v1/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcriptions",
    "/v1/audio/translations": "translations",
}
_AZURES = ("azure", "azure_ai")
_MAKERS = (*_AZURES, "openai", "xai")
"""Where the names of models mean what they mean at their maker. Who resells them has its own wires."""


def is_alone(known_as: str, mode: str | None) -> bool:
    """Whether the Responses API alone serves a model, where a server has that."""
    return mode == "responses" or (mode != "chat" and bool(RESPONSES_ALONE.match(known_as)))


def wires_of(
    kind: ProviderKind,
    prefix: str,
    base: str | None,
    known_as: str,
    *,
    mode: str | None = None,
    endpoints: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """The wires of a deployment, the best first; empty for those of its kind.

    `known_as` is the model's own name; `mode` and `endpoints` are what the file says.
    """
    if kind != "openai":
        return ()
    if endpoints is not None:
        return tuple(name for path, name in _ENDPOINTS.items() if path in endpoints)
    if mode == "chat":
        return ()
    served = responses_of(prefix, base)
    # An address of Azure's is changed to one that has it (`azure.v1_address`).
    own = served or _ALONE[: 2 if prefix in _AZURES else 1]
    if mode == "responses" or (
        prefix in _MAKERS and (served or prefix in _AZURES) and is_alone(known_as, mode)
    ):
        return own
    absent = MEDIA_WIRES - media_of(prefix, base)
    owner = host_of(base)
    google = (prefix if owner is None else owner.prefix) == "gemini"
    own = (*(name for name in SPOKEN[kind] if name not in absent), *served)
    return (*own, "generate_content") if google else own


def tools_apart(
    prefix: str, base: str | None, known_as: str, wires: Sequence[str]
) -> Literal["", "asked", "always"]:
    """When a request with tools goes over the Responses API although chat would do: where it asks
    for reasoning, and at OpenAI's own addresses also where the model reasons unasked. A server of
    another company may have a model's name and none of its limits."""
    if not {"chat", "responses"} <= set(wires) or prefix not in _MAKERS:
        return ""
    if not TOOLS_APART.match(known_as):
        return ""
    owner = host_of(base)
    own = base is None or (owner is not None and owner.prefix == "openai") or prefix in _AZURES
    return "always" if own and THINKS_UNASKED.match(known_as) else "asked"
