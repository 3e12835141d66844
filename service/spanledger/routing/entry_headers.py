"""The headers that an entry of `model_list` adds to every request of its deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from spanledger.config import LiteLLMParams
from spanledger.errors import ConfigError
from spanledger.providers import hosts
from spanledger.providers.base import ProviderKind

_HTTP_OWN = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection"})


def headers_of(
    params: LiteLLMParams,
    place: str,
    environ: Mapping[str, str],
    kind: ProviderKind,
    base: str | None,
) -> dict[str, str]:
    """The headers. Raises ConfigError for one that HTTP or the gateway does not allow."""
    found: dict[str, str] = {}
    if kind == "litellm":
        return found
    owner = hosts.host_of(base)
    if owner is not None and owner.prefix == "openrouter":
        # LiteLLM's variables. Without them, OpenRouter attributes requests to no application.
        for name, variable in (("HTTP-Referer", "OR_SITE_URL"), ("X-Title", "OR_APP_NAME")):
            if value := environ.get(variable):
                found[name] = value
    if params.organization and kind == "openai":
        found["OpenAI-Organization"] = params.organization
    key = f"{place}.litellm_params.extra_headers"
    for name, value in params.extra_headers.items():
        if name.lower() in _HTTP_OWN:
            raise ConfigError(f"{key}: {name!r} is set by the gateway; leave it out")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isprintable():
            raise ConfigError(f"{key}: {name!r} is not a valid HTTP header")
        found = {k: v for k, v in found.items() if k.lower() != name.lower()} | {name: value}
    return found
