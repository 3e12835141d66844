"""Turns one entry of `model_list` into a deployment: adapter, address, key, prices, defaults.

The address is decided before the key, and a key from the environment is sent only to the provider
it belongs to, so one company's key never goes to another. Reads no file, and only the environment
that it is given.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from spanledger.config import LiteLLMParams, ModelEntry, litellm_keys, nearest
from spanledger.config.litellm_keys import BODY_KEYS, PARAMETERS
from spanledger.errors import ConfigError
from spanledger.providers import azure, hosts
from spanledger.providers.base import Deployment, ProviderKind
from spanledger.providers.hosts import HOSTS, Host
from spanledger.providers.spoken import MARKER, is_alone, tools_apart, wires_of
from spanledger.routing.entry_headers import headers_of
from spanledger.routing.entry_prices import PRICE_KEY, prices_of

_SECRET_KEY = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)
_UNSENDABLE = frozenset({"model", "messages", "input", "stream", "stream_options"})
"""Fields that a configuration must not set for its callers: they are the request itself."""
_AZURE_IDENTITY = frozenset(
    {"azure_ad_token_provider", "client_secret", "tenant_id", "azure_username", "azure_password"}
)
"""Ways to authenticate with Azure that only LiteLLM supports."""
_ANTHROPIC_DROPS = frozenset(
    {"audio", "functions", "function_call", "modalities", "n", "top_logprobs", "logprobs"}
)
_ROUTES_OF_AZURE = ("o_series/", "gpt5_series/")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Default timeouts of an attempt in seconds. `stream_s` None: the same as `whole_s`."""

    whole_s: float
    stream_s: float | None = None


@dataclass(frozen=True, slots=True)
class Off:
    """A deployment that is off, and why: a variable is not set. The file itself is fine."""

    id: str
    route: str
    reason: str


class Entry:
    """One entry, resolved once; a wildcard's `model` is filled in later."""

    def __init__(
        self,
        entry: ModelEntry,
        place: str,
        environ: Mapping[str, str],
        *,
        drop_params: bool = False,
    ) -> None:
        self.entry = entry
        self.params: LiteLLMParams = entry.litellm_params
        self.extra: dict[str, object] = {
            key: value
            for key, value in (self.params.model_extra or {}).items()
            if value is not None
        }
        self.place = place
        self.environ = environ
        own = self.params.drop_params
        self.drop_params = drop_params if own is None else own
        self.warnings: list[str] = []

    @property
    def prefix(self) -> str:
        """LiteLLM's name of the provider; empty if it cannot be determined."""
        try:
            return self.provider()[0]
        except ConfigError:
            return ""

    @property
    def has_secrets(self) -> bool:
        """Whether it has secrets for its own provider only: a key, or headers."""
        given = (self.params.api_key, self.params.extra_headers, self.params.organization)
        return any(given) or "azure_ad_token" in self.extra

    def with_model(self, model: str) -> Entry:
        """The same entry for another model."""
        params = self.params.model_copy(update={"model": model})
        entry = self.entry.model_copy(update={"litellm_params": params})
        return Entry(entry, self.place, self.environ, drop_params=self.drop_params)

    def resolve(self, timeouts: Timeouts, taken: set[str]) -> Deployment | Off:
        """The deployment.

        Raises:
            ConfigError: the entry cannot be served; the message says what to change.
        """
        route, params = self.entry.model_name, self.params
        unique = self.entry.model_info.id or _unused(f"{route}-{self._digest()}", taken)
        if params.unset:
            variables = " and ".join(dict.fromkeys(params.unset.values()))
            verb = "is" if len(set(params.unset.values())) == 1 else "are"
            return Off(unique, route, f"{variables} {verb} not set")
        prefix, model = self.provider()
        return self.deployment(unique, prefix, model, timeouts)

    def deployment(
        self, unique: str, prefix: str, model: str, timeouts: Timeouts
    ) -> Deployment | Off:
        """The deployment of a provider's model."""
        params, host = self.params, hosts.host_for(prefix, model, self._mode())
        self._check_known()
        kind = self._kind(prefix, model, host)
        base, query, said_by_environment = self._address(kind, prefix, model, host)
        key = self._key(kind, host, base, said_by_environment=said_by_environment)
        if key is None and params.model != "*" and self._needs_key(kind, host, base):
            assert host is not None
            return Off(unique, self.entry.model_name, f"{host.keys[0]} is not set")
        if kind != "litellm":
            prefix, model = self._spelled(prefix, model, host)
        prices = prices_of(self.entry, self.extra, self.place)
        named, said = self._known_as(model), self.entry.model_info.supported_endpoints
        wires = wires_of(kind, prefix, base, named, mode=self._mode(), endpoints=said)
        self._warn_unused(kind, prices, unique)
        reasoning = bool(hosts.REASONING_MODEL.match(params.model.partition("/")[2] or model))
        return Deployment(
            id=unique,
            route=self.entry.model_name,
            kind=kind,
            provider=hosts.provider_name(prefix),
            model=model,
            litellm_model=self._named(prefix, model),
            api_base=base,
            query=query,
            api_key=key,
            key_header=self._key_header(prefix, base),
            headers=headers_of(params, self.place, self.environ, kind, base),
            timeout_s=params.timeout or timeouts.whole_s,
            stream_timeout_s=params.stream_timeout or timeouts.stream_s,
            rpm=params.rpm,
            tpm=params.tpm,
            weight=1.0 if params.weight is None else params.weight,
            order=params.order,
            num_retries=params.num_retries,
            prices=prices,
            defaults=self._defaults(kind, prices),
            overrides=self._overrides(),
            drops=self._drops(kind, base, host, wires, reasoning=reasoning),
            renames=dict(host.renames) if host and kind == "openai" else {},
            cap=self._cap(kind, prefix, base, reasoning=reasoning),
            asks_usage=host.asks_usage if host and kind == "openai" else True,
            extra=self._call_parameters() if kind == "litellm" else {},
            base_model=self._base_model(),
            wires=wires,
            tools_apart=tools_apart(prefix, base, named, wires),
            forwards_trace=self.entry.model_info.forward_trace_context,
            mode=self._mode(),
        )

    def _mode(self) -> str:
        """What the file says the model is for, in LiteLLM's words; empty if it says nothing."""
        if self.provider()[1].startswith(MARKER):
            return "responses"
        return self.entry.model_info.mode or ""

    def _known_as(self, model: str) -> str:
        """The model's own name, which an Azure deployment need not have."""
        return self._base_model().rpartition("/")[2] or model.rpartition("/")[2]

    def _base_model(self) -> str:
        """LiteLLM accepts it in either section."""
        own, other = self.entry.model_info.base_model, self.extra.get("base_model")
        return (own or (other if isinstance(other, str) else "") or "").strip()

    # provider and address -----------------------------------------------------------------

    def provider(self) -> tuple[str, str]:
        """LiteLLM's name of the provider, and the provider's name of the model."""
        params = self.params
        prefix, slash, rest = params.model.partition("/")
        owner = hosts.host_of(params.api_base)
        if (
            owner is not None
            and owner.prefix == "openrouter"
            and prefix == "openai"
            and "/" in rest
        ):
            return owner.prefix, rest  # `openai/` is the wire format, the rest OpenRouter's name
        if params.custom_llm_provider:
            given = params.custom_llm_provider
            model = rest if slash and prefix == given else params.model
            return given, model
        if slash and not (prefix and rest):
            raise self._wrong(
                "model",
                f"{params.model!r} lacks its provider or its model; write provider/model",
            )
        if slash:
            return prefix, rest
        bare = hosts.prefix_of_bare(params.model)
        if bare == "gemini" and self.extra.keys() & {"vertex_project", "vertex_credentials"}:
            return "vertex_ai", params.model
        if bare is not None:
            return bare, params.model
        if params.api_base:
            return (owner.prefix if owner else "openai"), params.model
        if params.model == "*":
            return "openai", params.model
        raise self._wrong(
            "model",
            f"cannot determine the provider of {params.model!r}; write provider/model, for"
            f" example openai/{params.model}",
        )

    def _kind(self, prefix: str, model: str, host: Host | None) -> ProviderKind:
        known = host is not None or prefix in hosts.OTHER_PROVIDERS
        if not known and (near := nearest(prefix, list(HOSTS), cutoff=0.8)):
            raise self._wrong("model", f"no provider is called {prefix!r}{near}")
        if host is None:
            return "litellm"
        if host.wire == "anthropic":
            return "anthropic"
        if prefix in ("azure", "azure_ai") and (
            self.extra.keys() & _AZURE_IDENTITY or "claude" in model
        ):
            return "litellm"
        if prefix == "gemini" and self.params.api_base and "/openai" not in self.params.api_base:
            return "litellm"  # an address of Gemini's own API
        return "openai"

    def _address(
        self, kind: ProviderKind, prefix: str, model: str, host: Host | None
    ) -> tuple[str | None, str, bool]:
        """Base URL, query, and whether the address comes from the environment."""
        base = self.params.api_base
        said_by_environment = False
        if base is None and host is not None and kind != "litellm":
            for variable in host.base_variables:
                if base := self.environ.get(variable) or None:
                    said_by_environment = True
                    break
        if base is None:
            if kind == "litellm" or host is None:
                return None, "", False
            if host.base is None:
                variable = host.base_variables[0]
                raise self._wrong(
                    "api_base",
                    f"{prefix} has no default address; write api_base, or set {variable}",
                )
            own = None if prefix in ("openai", "anthropic") else host.base
            return own, "", False
        version = self.params.api_version or self.environ.get("AZURE_API_VERSION") or None
        if kind == "openai" and prefix in ("azure", "azure_ai"):
            known_as = self._known_as(model.removeprefix(MARKER))
            if is_alone(known_as, self._mode()):
                address = azure.v1_address(base)
                return self._checked(address.base), address.query, said_by_environment
        if kind == "openai" and prefix == "azure":
            name = model
            for marker in _ROUTES_OF_AZURE:
                name = name.removeprefix(marker)
            if not name.strip("."):
                raise self._wrong("model", f"{name!r} is not the name of an Azure deployment")
            address = azure.openai_address(base, name, version)
            return self._checked(address.base), address.query, said_by_environment
        if kind == "openai" and prefix == "azure_ai":
            address = azure.inference_address(base, self.params.api_version)
            return self._checked(address.base), address.query, said_by_environment
        if kind != "litellm":
            base, query = self._plain(base)
            if host is not None and host.suffix and not base.endswith(host.suffix):
                base += host.suffix
            return base, query, said_by_environment
        return base.rstrip("/"), "", said_by_environment

    def _plain(self, base: str) -> tuple[str, str]:
        """An address without the operation's path, which some files include. The only query
        parameter it may have is `api-version`."""
        base, mark, query = base.partition("?")
        if mark and not re.fullmatch(r"api-version=[\w.-]+", query):
            base += mark + query
            query = ""
        base = self._checked(base)
        for path in ("/chat/completions", "/embeddings", "/responses", "/rerank"):
            base = base.removesuffix(path)
        return base.rstrip("/"), f"?{query}" if query else ""

    def _checked(self, base: str) -> str:
        scheme, separator, rest = base.partition("://")
        if not separator or scheme not in ("http", "https") or not rest.partition("/")[0]:
            shown = base.partition("?")[0]
            raise self._wrong(
                "api_base",
                f"{shown!r} is not an http(s) URL; write it like http://127.0.0.1:8000/v1",
            )
        if "@" in rest.partition("/")[0] or set("?#") & set(base):
            raise self._wrong(
                "api_base", "it must have only a host and a path; a key goes into api_key"
            )
        return base.rstrip("/")

    def _spelled(self, prefix: str, model: str, host: Host | None) -> tuple[str, str]:
        """The provider's full name of a model that configurations abbreviate."""
        model = model.removeprefix(MARKER)
        if prefix == "azure":
            for marker in _ROUTES_OF_AZURE:
                model = model.removeprefix(marker)
        if host and host.model_prefix and "/" not in model and "#" not in model:
            model = host.model_prefix + model
        if prefix == "openrouter" and "/" not in model:
            model = f"openrouter/{model}"  # its own, as `openrouter/auto`
        return prefix, model

    def _named(self, prefix: str, model: str) -> str:
        """The model as a price book lists it: as the file has it, or with OpenRouter's prefix."""
        given = self.params.model
        return (
            f"{prefix}/{model}" if prefix == "openrouter" and "openrouter" not in given else given
        )

    # key ----------------------------------------------------------------------------------

    def _key(
        self,
        kind: ProviderKind,
        host: Host | None,
        base: str | None,
        *,
        said_by_environment: bool,
    ) -> str | None:
        """The entry's key, or the one in the environment that belongs to the address."""
        if self.params.api_key is not None:
            return self.params.api_key.get_secret_value()
        if kind == "litellm" or host is None:
            return None  # LiteLLM finds its own
        token = self.extra.get("azure_ad_token")
        if isinstance(token, str):
            return token
        if base is None or said_by_environment or host.owns(base):
            owner: Host | None = host
        else:
            owner = hosts.host_of(base)
        if owner is None:
            return None
        return next((key for name in owner.keys if (key := self.environ.get(name))), None)

    def _needs_key(self, kind: ProviderKind, host: Host | None, base: str | None) -> bool:
        if kind == "litellm" or host is None or host.keyless:
            return False
        return base is None or host.owns(base) or hosts.host_of(base) is not None

    def _key_header(self, prefix: str, base: str | None) -> str:
        if self.params.api_key is None and "azure_ad_token" in self.extra:
            return "authorization"
        if prefix == "azure" or (prefix == "azure_ai" and base and azure.wants_key_header(base)):
            return "api-key"
        return "authorization"

    # what is sent -------------------------------------------------------------------------

    def _defaults(self, kind: ProviderKind, prices: Mapping[str, int]) -> dict[str, msgspec.Raw]:
        """Request fields from the entry, sent for callers that omit them, as LiteLLM does.

        A parameter that neither LiteLLM nor we know is a field of the provider's, as in LiteLLM
        (which gets it unchanged when it serves); one that may be a secret is not sent.
        """
        found: dict[str, msgspec.Raw] = {}
        for key, value in self.extra.items():
            unknown = key not in PARAMETERS and key not in prices and kind != "litellm"
            if key in BODY_KEYS or (unknown and not _SECRET_KEY.search(key)):
                if key in _UNSENDABLE:
                    raise self._wrong(key, "only the caller can set it; leave it out")
                found[key] = self._raw(key, value)
        return found

    def _overrides(self) -> dict[str, msgspec.Raw]:
        body = self.params.extra_body
        for key in body.keys() & _UNSENDABLE:
            raise self._wrong(f"extra_body.{key}", "only the caller can set it; leave it out")
        return {key: self._raw(f"extra_body.{key}", value) for key, value in body.items()}

    def _raw(self, key: str, value: object) -> msgspec.Raw:
        try:
            return msgspec.Raw(msgspec.json.encode(value))
        except (TypeError, ValueError):
            raise self._wrong(key, "its value cannot be written as JSON") from None

    def _drops(
        self,
        kind: ProviderKind,
        base: str | None,
        host: Host | None,
        wires: tuple[str, ...],
        *,
        reasoning: bool,
    ) -> frozenset[str]:
        named = frozenset(self.params.additional_drop_params)
        if not self.drop_params:
            return named
        if kind == "anthropic":
            return named | _ANTHROPIC_DROPS
        owner = hosts.host_of(base) if base else host
        if kind == "openai" and owner is not None:
            named |= owner.drops
        if kind == "openai" and reasoning:
            named |= hosts.REASONING_DROPS
        return named | {"stop"} if "responses" in wires and "chat" not in wires else named

    def _cap(
        self, kind: ProviderKind, prefix: str, base: str | None, *, reasoning: bool
    ) -> Literal["", "max_tokens", "max_completion_tokens"]:
        if kind != "openai":
            return ""
        if reasoning and prefix in ("openai", "azure", "azure_ai"):
            return hosts.MAX_COMPLETION
        return hosts.cap_field(base, prefix, "")

    def _call_parameters(self) -> dict[str, object]:
        given: dict[str, object] = {
            key: value
            for key, value in self.extra.items()
            if not PRICE_KEY.search(key) and PARAMETERS.get(key, "litellm") == "litellm"
        }
        params = self.params
        named = {
            "custom_llm_provider": params.custom_llm_provider,
            "api_version": params.api_version,
            "organization": params.organization,
            "extra_headers": params.extra_headers,
            "drop_params": self.drop_params,
        }
        return given | {key: value for key, value in named.items() if value}

    # checks -------------------------------------------------------------------------------

    def _check_known(self) -> None:
        """Refuse parameters that decide where a request goes and that LiteLLM obeys but we do not,
        and misspelled ones: the request and its key would go elsewhere."""
        for key in self.extra:
            if key == "forward_trace_context":
                raise self._wrong(key, "it belongs under model_info, as LiteLLM would send it")
            if meant := litellm_keys.meant_by(key):
                raise self._wrong(key, f"unknown key; did you mean {meant!r}?")
            if PARAMETERS.get(key) == "refused" and self.extra[key] not in (False, [], {}):
                raise self._wrong(key, "it is not supported; remove it, or remove the entry")

    def _warn_unused(self, kind: ProviderKind, prices: Mapping[str, int], unique: str) -> None:
        for key in sorted(self.extra.keys() - prices.keys()):
            status = PARAMETERS.get(key)
            unused = status == "warned" or (status == "litellm" and kind != "litellm")
            if status is None and key not in BODY_KEYS:
                near = nearest(key, [*LiteLLMParams.model_fields, *BODY_KEYS], cutoff=0.8)
                unused = bool(_SECRET_KEY.search(key)) and kind != "litellm"
                if near and not unused:
                    self.warnings.append(
                        f"deployment {unique!r}: litellm_params.{key} is sent to the provider"
                        f" unchanged{near}"
                    )
            if key == "azure_ad_token" and kind == "openai":
                continue
            if unused:
                self.warnings.append(f"deployment {unique!r}: litellm_params.{key} has no effect")

    def _wrong(self, key: str, what: str) -> ConfigError:
        return ConfigError(f"{self.place}.litellm_params.{key}: {what}")

    def _digest(self) -> str:
        """A digest that does not change with restarts or rotated keys."""
        public = {
            key: value
            for key, value in self.params.model_dump(
                mode="json", exclude_none=True, exclude_defaults=True
            ).items()
            if PRICE_KEY.search(key) or not _SECRET_KEY.search(key)
        }
        public.setdefault("weight", 1.0)  # keeps the ids from before defaults were excluded
        text = json.dumps([self.entry.model_name, public], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number if an identical entry has it already."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate
