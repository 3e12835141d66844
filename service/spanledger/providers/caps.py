"""`max_tokens` or `max_completion_tokens`: the name that a deployment uses for an output cap.

The first guess comes from host and model. If a provider refuses a name, the request is sent once
more with the other one, and the name that worked is remembered for the deployment, in memory.

Sources: OpenAI's reference on chat completions ("max_tokens is deprecated, and not compatible with
o-series models"); OpenHands/OpenHands#11662, BerriAI/litellm#13432 and anomalyco/opencode#37964 for
Azure; refusals of either name by Azure, Groq, Mistral, vLLM and others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from spanledger.providers.base import Call, Deployment

CapName = str
OLD: CapName = "max_tokens"
NEW: CapName = "max_completion_tokens"
TRANSLATED = "max_output_tokens"
"""The Responses API's name, which a request has that is translated to a chat."""
MAX_REMEMBERED_CAPS = 4096
"""Most deployments whose name for a cap is remembered."""

_HOSTS = re.compile(
    r"https://(?:api\.openai\.com|[^/]+\.(?:openai\.azure\.com|services\.ai\.azure\.com"
    r"|cognitiveservices\.azure\.com))(?:[:/]|$)"
)
"""Hosts that accept the newer name for all their models."""
_REASONING = re.compile(r"(?:^|[/:])(?:ft:)?(?:o[1-9](?:-|$)|gpt-[5-9])")
"""OpenAI's models that accept only the newer name, wherever they are served."""
_REFUSED_STATUSES = frozenset({400, 422})
_UNKNOWN = re.compile(
    rb"unsupported|not supported|unrecogni[sz]ed|unknown|not permitted|unexpected|not allowed"
    rb"|instead|does not exist|extra_forbidden|extra fields",
    re.IGNORECASE,
)
"""The name itself is refused. A value that is too large is the caller's mistake."""


class Caps:
    """The cap names that an adapter's deployments are known to accept."""

    def __init__(self) -> None:
        self._learnt: dict[str, CapName] = {}

    def name(self, deployment: Deployment) -> CapName:
        """The name to use for a cap that we add."""
        return self._learnt.get(deployment.id) or guessed(deployment)

    def applied(self, call: Call) -> Call:
        """The call with the caller's own cap under the name that the deployment accepts, if it
        refused the other one before."""
        known = self._learnt.get(call.deployment.id)
        return call if known is None else renamed(call, known)

    def other(self, call: Call, status: int, body: bytes) -> CapName | None:
        """The name to repeat the request with, if the answer refuses the one that was sent."""
        if status not in _REFUSED_STATUSES or not _UNKNOWN.search(body):
            return None
        sent = {name for name in (OLD, NEW) if name in call.fields}
        if not sent and (call.max_output_tokens is not None or TRANSLATED in call.fields):
            sent = {self.name(call.deployment)}
        if OLD in sent and _names(body, OLD):
            return NEW
        return OLD if NEW in sent and _names(body, NEW) else None

    def remember(self, deployment: Deployment, name: CapName) -> None:
        """Remember the name that worked."""
        if len(self._learnt) < MAX_REMEMBERED_CAPS:
            self._learnt[deployment.id] = name


def guessed(deployment: Deployment) -> CapName:
    """The name that host and model suggest; self-hosted servers often know only the older one."""
    return deployment.cap or _suggested(deployment.api_base, deployment.known_as)


@lru_cache(maxsize=MAX_REMEMBERED_CAPS)
def _suggested(base: str | None, model: str) -> CapName:
    if base is None or _HOSTS.match(base) or _REASONING.search(model):
        return NEW
    return OLD


def renamed(call: Call, name: CapName) -> Call:
    """The call with the caller's cap under this name."""
    refused = OLD if name == NEW else NEW
    if refused not in call.fields:
        return call
    fields: dict[str, msgspec.Raw] = {k: v for k, v in call.fields.items() if k != refused}
    if bytes(fields.get(name, b"null")) == b"null":  # clients send null for fields they do not set
        fields[name] = call.fields[refused]
    return replace(call, fields=fields)


def _names(body: bytes, name: CapName) -> bool:
    """Whether a refusal names the field: as its `param`, in a path or in quotes."""
    return _NAMED[name].search(body) is not None


_NAMED: Mapping[CapName, re.Pattern[bytes]] = {
    name: re.compile(rb"(?<![A-Za-z_])" + name.encode() + rb"(?![A-Za-z_])") for name in (OLD, NEW)
}
