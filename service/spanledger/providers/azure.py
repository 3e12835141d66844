"""Addresses of Azure OpenAI and Azure AI Foundry, in the forms that configurations have them.

A resource's bare address needs the deployment's name and an API version; its v1 API needs neither.
Configurations have all forms, with the version in `api_version`, in the address or in a variable.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

DEFAULT_VERSION = "2025-02-01-preview"
"""LiteLLM's default, used if the configuration names no version."""
DEFAULT_AI_VERSION = "2024-05-01-preview"
V1_VERSIONS = frozenset({"v1", "latest", "preview"})
"""Values of `api_version` that mean Azure's v1 API."""
_OPENAI_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_OPERATIONS = (
    "/chat/completions",
    "/embeddings",
    "/responses",
    "/images/generations",
    "/images/edits",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
)


class Address(NamedTuple):
    """A deployment's address: the parts before and after the operation's path."""

    base: str
    query: str


def openai_address(base: str, model: str, version: str | None) -> Address:
    """The address of a deployment of Azure OpenAI."""
    root, given, rest = _split(base)
    if not root.endswith("/openai/v1") and "/openai/v1/" not in f"{root}/":
        version = version or given
        if "/deployments/" in root:
            return Address(root, _query(rest, version or DEFAULT_VERSION))
        if version not in V1_VERSIONS:
            root = root.removesuffix("/openai")
            # With a wildcard the caller chooses this name, and it must not change the path.
            path = f"/openai/deployments/{quote(model, safe='')}"
            return Address(root + path, _query(rest, version or DEFAULT_VERSION))
        root = root.removesuffix("/openai") + "/openai/v1"
    version = version or given
    return Address(root, _query(rest, "preview" if version == "preview" else None))


def v1_address(base: str) -> Address:
    """The address of Azure's v1 API, which has the Responses API too; a request names its model."""
    root, given, rest = _split(base)
    for path in ("/openai/v1", "/openai/deployments", "/openai", "/models"):
        root = root.partition(path)[0]
    return Address(f"{root}/openai/v1", _query(rest, "preview" if given == "preview" else None))


def inference_address(base: str, version: str | None) -> Address:
    """The address of Azure AI Foundry's model inference, or of one serverless endpoint."""
    root, given, rest = _split(base)
    host = urlsplit(root).hostname or ""
    if "/openai/v1" in root:
        return Address(root, _query(rest, None))
    version = version or given
    if host.endswith(".services.ai.azure.com"):
        if not root.endswith("/models"):
            root += "/models"
        version = version or DEFAULT_AI_VERSION
    return Address(root, _query(rest, version))


def wants_key_header(base: str) -> bool:
    """Whether the key goes into `api-key`, as on Azure's own hosts, or into `Authorization`."""
    host = urlsplit(base).hostname or ""
    return host.endswith(_OPENAI_HOSTS)


def _split(base: str) -> tuple[str, str | None, dict[str, str]]:
    """An address without its operation, the version in its query, and the other parameters."""
    root, _, query = base.partition("?")
    root = root.rstrip("/")
    for path in _OPERATIONS:
        root = root.removesuffix(path)
    found = {name: values[-1] for name, values in parse_qs(query).items()}
    return root.rstrip("/"), found.pop("api-version", None), found


def _query(rest: dict[str, str], version: str | None) -> str:
    found = {**rest, "api-version": version} if version else rest
    return f"?{urlencode(found)}" if found else ""
