"""Where a deployment's requests of a wire go, and what their heads say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from spanledger.providers.base import Deployment
from spanledger.providers.endpoints import Endpoint, make_target
from spanledger.providers.hosts import HOSTS
from spanledger.wires.base import Outbound

_MODEL = "{model}"
_LISTS = frozenset({"anthropic-beta"})
"""Headers whose values add up."""


def target_of(deployment: Deployment, wire: Outbound, path: str = "") -> Endpoint:
    """Where its requests go; `path` replaces the wire's own.

    Raises:
        ProviderError: the deployment's `api_base` or key cannot be used.
    """
    headers = {**wire.headers, **deployment.headers}
    if deployment.api_key:
        name = wire.key_header or deployment.key_header
        bearer = "Bearer " if name == "authorization" else ""
        headers[name] = bearer + deployment.api_key.strip()
    base = deployment.api_base or HOSTS[wire.host].base or ""
    path = path or wire.path
    if path.startswith("/v1/"):
        # People write the base with and without the version.
        base = base.removesuffix("/v1")
    if _MODEL in path:
        # Next to Google's own API is the one that is compatible with OpenAI's.
        base = base.removesuffix("/openai")
        path = path.replace(_MODEL, quote(deployment.model.removeprefix("models/"), safe="/"))
    return make_target(deployment, f"{base}{path}{deployment.query}", headers)


def with_headers(target: Endpoint, given: Mapping[str, str]) -> Endpoint:
    """The target with the headers that a caller's wire forwards. They replace the
    deployment's own, but to a list they are added."""
    new = {
        name: value for name, value in given.items() if target.headers.get(name.lower()) != value
    }
    if not new:
        return target
    headers = dict(target.headers)
    for name, value in new.items():
        name = name.lower()
        own = headers.get(name) if name in _LISTS else None
        headers[name] = f"{own},{value}" if own else value
    return replace(target, headers=headers)
