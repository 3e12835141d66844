"""Turns `model_list` into deployments, and `router_settings` into the order of groups.

Everything that can be decided once is decided here, at start: which adapter serves an entry, its
stable id, its price overrides, which route follows which. It reads no file, no environment of its
own and no price book.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from spanledger.config import Config, LiteLLMParams, ModelEntry, RouterSettings
from spanledger.config_routing import Fallbacks
from spanledger.errors import ConfigError
from spanledger.money import parse_price
from spanledger.providers.base import Deployment, ProviderKind
from spanledger.routing.rules import POLICY_KINDS, CooldownRules, Onward, RetryRules
from spanledger.routing.strategy import Strategy, strategy_of

PROVIDER_NAMES = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
}
"""LiteLLM's prefix to `gen_ai.provider.name`; what is not here keeps its name."""

COMPATIBLE_SERVERS = frozenset({"hosted_vllm", "openai_like", "lm_studio"})
"""Prefixes of servers on OpenAI's wire: native once they have an `api_base`."""

KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}

_BARE_OPENAI = re.compile(r"(?:ft:)?(?:gpt-|chatgpt-|o[134](?:-|$)|text-embedding-)")
_PRICE_KEY = re.compile(r"_cost_per_(?:audio_|reasoning_)?token|_token_cost")
_SECRET_KEY = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)
_ROUTER_KEYS = frozenset(
    {
        "allowed_fails",
        "budget_duration",
        "cooldown_time",
        "max_budget",
        "max_parallel_requests",
        "max_retries",
        "mock_response",
        "tags",
    }
)
"""Parameters of LiteLLM's router, not of a call: they never go to `litellm.acompletion`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What can serve which route, and where to turn next.

    Attributes:
        deployments: all, in the order of the config.
        routes: route to the deployments that serve it.
        onward: route to the routes to turn to after it.
        retries: route to how often it is attempted again.
        warnings: one line for each setting that has no effect or is missing.
    """

    deployments: tuple[Deployment, ...]
    routes: Mapping[str, tuple[Deployment, ...]]
    onward: Mapping[str, Onward]
    retries: Mapping[str, RetryRules]
    cooldowns: CooldownRules
    strategy: Strategy
    warnings: tuple[str, ...]

    @classmethod
    def from_config(cls, config: Config, environ: Mapping[str, str] | None = None) -> Plan:
        """Resolve a configuration.

        Args:
            environ: where a missing `api_key` of OpenAI's or Anthropic's own API is looked up
                by its customary name.

        Raises:
            ConfigError: with every entry that cannot be served, one a line.
        """
        settings = config.router_settings
        onward = _onward(config)
        said: set[str] = set()
        deployments: list[Deployment] = []
        warnings: list[str] = []
        problems: list[str] = []
        taken = {e.model_info.id for e in config.model_list if e.model_info.id}
        for index, entry in enumerate(config.model_list):
            try:
                deployment = _Entry(entry, f"model_list.{index}", environ or {}).resolve(
                    _timeout_s(config, entry.model_name, onward),
                    settings.stream_timeout,
                    taken,
                    warnings,
                )
            except ConfigError as error:
                problems.append(str(error))
            else:
                taken.add(deployment.id)
                if entry.litellm_params.weight is not None:
                    said.add(deployment.id)
                deployments.append(deployment)
        if problems:
            raise ConfigError("\n".join(problems))
        deployments = _weighted(deployments, said)
        routes: dict[str, tuple[Deployment, ...]] = {}
        for deployment in deployments:
            routes[deployment.route] = (*routes.get(deployment.route, ()), deployment)
        return cls(
            deployments=tuple(deployments),
            routes=routes,
            onward={route: onward.get(route, Onward()) for route in routes},
            retries={route: _retries(settings, route) for route in routes},
            cooldowns=_cooldowns(settings),
            strategy=strategy_of(settings.routing_strategy, settings.routing_strategy_args),
            warnings=tuple(warnings),
        )


class _Entry:
    """One entry of `model_list` on its way to a deployment."""

    def __init__(self, entry: ModelEntry, place: str, environ: Mapping[str, str]) -> None:
        self.entry = entry
        self.params: LiteLLMParams = entry.litellm_params
        self.extra: dict[str, object] = dict(self.params.model_extra or {})
        self.place = place
        self.environ = environ

    def resolve(
        self,
        default_timeout_s: float,
        default_stream_timeout_s: float | None,
        taken: set[str],
        warnings: list[str],
    ) -> Deployment:
        """The deployment. Raises ConfigError."""
        params, route = self.params, self.entry.model_name
        for name in (route, params.model):
            if "*" in name:
                raise ConfigError(
                    f"{self.place}: {name!r} is a wildcard, which is not supported yet;"
                    " write one entry for each model"
                )
        kind, prefix, model = self._provider()
        prices = self._prices()
        unique = self.entry.model_info.id or _unused(f"{route}-{self._digest()}", taken)
        key = self._key(kind, unique, warnings)
        self._warn_unused(kind, prices, unique, warnings)
        return Deployment(
            id=unique,
            route=route,
            kind=kind,
            provider=PROVIDER_NAMES.get(prefix, prefix),
            model=model,
            litellm_model=params.model,
            api_base=self._base(kind),
            api_key=key,
            timeout_s=params.timeout or default_timeout_s,
            stream_timeout_s=params.stream_timeout or default_stream_timeout_s,
            order=params.order,
            num_retries=params.num_retries,
            rpm=params.rpm,
            tpm=params.tpm,
            weight=1.0 if params.weight is None else params.weight,
            prices=prices,
            extra=self._call_parameters() if kind == "litellm" else {},
            base_model=self._base_model(),
        )

    def _base_model(self) -> str:
        """LiteLLM takes it in either section."""
        own, other = self.entry.model_info.base_model, self.extra.get("base_model")
        return (own or (other if isinstance(other, str) else "") or "").strip()

    def _base(self, kind: ProviderKind) -> str | None:
        base = self.params.api_base
        host = (base or "").partition("://")[2].partition("/")[0]
        if base and kind != "litellm" and ("@" in host or set("?#") & set(base)):
            raise ConfigError(
                f"{self.place}.litellm_params.api_base: it has more than a host and a path; a key"
                " goes into api_key"
            )
        return base.rstrip("/") if base else None

    def _provider(self) -> tuple[ProviderKind, str, str]:
        """Adapter, LiteLLM's name of the provider, and the provider's name of the model."""
        params = self.params
        prefix, slash, rest = params.model.partition("/")
        if params.custom_llm_provider:
            given = params.custom_llm_provider
            model = rest if slash and prefix == given else params.model
            return self._kind(given, model), given, model
        if slash:
            if not prefix or not rest:
                raise ConfigError(
                    f"{self.place}.litellm_params.model: {params.model!r} lacks its provider or"
                    " its model; write provider/model"
                )
            return self._kind(prefix, rest), prefix, rest
        if _BARE_OPENAI.match(params.model):
            return "openai", "openai", params.model
        if params.model.startswith("claude-"):
            return "anthropic", "anthropic", params.model
        if params.api_base:
            return "openai", "openai", params.model
        raise ConfigError(
            f"{self.place}.litellm_params.model: cannot tell the provider of {params.model!r};"
            f" write provider/model, as openai/{params.model}"
        )

    def _kind(self, prefix: str, model: str) -> ProviderKind:
        if prefix == "openai" and not model.startswith("responses/"):
            return "openai"
        if prefix == "anthropic":
            return "anthropic"
        if prefix in COMPATIBLE_SERVERS and self.params.api_base:
            return "openai"
        return "litellm"

    def _key(self, kind: ProviderKind, unique: str, warnings: list[str]) -> str | None:
        if self.params.api_key is not None:
            return self.params.api_key.get_secret_value()
        if kind == "litellm" or (kind == "openai" and self.params.api_base):
            return None  # LiteLLM finds its own; a server of one's own may need none
        variable = KEY_VARIABLES[kind]
        if key := self.environ.get(variable):
            return key
        if not self.params.api_base:
            warnings.append(
                f"deployment {unique!r} has no api_key and {variable} is not set:"
                " every try there will fail"
            )
        return None

    def _prices(self) -> dict[str, int]:
        """Overrides, pico-USD per token; `litellm_params` wins over `model_info`."""
        found: dict[str, int] = {}
        sources: tuple[tuple[str, Mapping[str, object]], ...] = (
            ("model_info", self.entry.model_info.model_extra or {}),
            ("litellm_params", self.extra),
        )
        for section, source in sources:
            for key, value in source.items():
                if value is None or not _PRICE_KEY.search(key):
                    continue
                try:
                    found[key] = parse_price(str(value))
                except ValueError as error:
                    raise ConfigError(f"{self.place}.{section}.{key}: {error}") from None
        known = {
            key: getattr(self.params, key)
            for key in LiteLLMParams.model_fields
            if _PRICE_KEY.search(key)
        }
        return found | {key: pico for key, pico in known.items() if pico is not None}

    def _call_parameters(self) -> dict[str, object]:
        given = {
            key: value
            for key, value in self.extra.items()
            if key not in _ROUTER_KEYS and not _PRICE_KEY.search(key)
        }
        if self.params.custom_llm_provider:
            given["custom_llm_provider"] = self.params.custom_llm_provider
        return given

    def _warn_unused(
        self, kind: ProviderKind, prices: Mapping[str, int], unique: str, warnings: list[str]
    ) -> None:
        unused = self.extra.keys() - prices.keys() - {"base_model"}
        if kind == "litellm":
            unused &= _ROUTER_KEYS
        warnings.extend(
            f"deployment {unique!r}: litellm_params.{key} has no effect"
            for key in sorted(unused)
            if self.extra[key] is not None
        )

    def _digest(self) -> str:
        """Stable over restarts and rotated keys."""
        public = {
            key: value
            for key, value in self.params.model_dump(mode="json", exclude_none=True).items()
            if _PRICE_KEY.search(key) or not _SECRET_KEY.search(key)
        }
        text = json.dumps([self.entry.model_name, public], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _unused(name: str, taken: set[str]) -> str:
    """The name, numbered if an equal entry has it already."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _weighted(deployments: Sequence[Deployment], said: Set[str]) -> list[Deployment]:
    """The deployments with their shares of their groups' traffic, as LiteLLM has it: their
    weights, else their rpm, else their tpm; who says none beside one that does has none.
    `said` are the ids with a weight of their own."""
    found = []
    for deployment in deployments:
        group = [d for d in deployments if d.route == deployment.route]
        weight = 1.0
        if any(d.id in said for d in group):
            weight = deployment.weight if deployment.id in said else 0.0
        elif any(d.rpm for d in group):
            weight = float(deployment.rpm or 0)
        elif any(d.tpm for d in group):
            weight = float(deployment.tpm or 0)
        found.append(replace(deployment, weight=weight))
    return found


def _timeout_s(config: Config, route: str, onward: Mapping[str, Onward]) -> float:
    """For an attempt of a route: all that a request has, or half of it where another deployment
    can take over."""
    settings, total = config.router_settings, config.gateway.total_timeout_s
    if settings.timeout is not None:
        return settings.timeout
    group = [entry for entry in config.model_list if entry.model_name == route]
    return total / 2 if len(group) > 1 or onward[route].fallbacks else total


def _retries(settings: RouterSettings, route: str) -> RetryRules:
    policies = {
        settings.aliases.get(name, name): policy
        for name, policy in settings.model_group_retry_policy.items()
    }
    policy = policies.get(route, settings.retry_policy)
    num_retries = policy.get("DefaultRetries", settings.num_retries)
    return RetryRules(num_retries, _by_kind(policy, "Retries"), settings.retry_after)


def _cooldowns(settings: RouterSettings) -> CooldownRules:
    by_kind = _by_kind(settings.allowed_fails_policy, "AllowedFails")
    return CooldownRules(settings.allowed_fails, by_kind, settings.cooldown_time)


def _by_kind(policy: Mapping[str, int | None], suffix: str) -> dict[str, int]:
    """A policy's counts by our kinds of errors."""
    found: dict[str, int] = {}
    for error, kinds in POLICY_KINDS.items():
        count = policy.get(error + suffix)
        if count is not None:
            found.update(dict.fromkeys(kinds, count))
    return found


def _onward(config: Config) -> dict[str, Onward]:
    settings = config.router_settings
    routes = list(dict.fromkeys(entry.model_name for entry in config.model_list))
    aliases = {a: r for a, r in settings.aliases.items() if a not in routes}

    def chains(configured: Fallbacks, default: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
        named = tuple(
            {
                aliases.get(route, route): tuple(aliases.get(t, t) for t in targets)
                for route, targets in mapping.items()
            }
            for mapping in configured
        )
        return _chains(routes, named, [aliases.get(route, route) for route in default])

    usual = chains(settings.fallbacks, settings.default_fallbacks)
    context = chains(settings.context_window_fallbacks)
    content = chains(settings.content_policy_fallbacks)
    return {route: Onward(usual[route], context[route], content[route]) for route in routes}


def _chains(
    routes: Iterable[str], configured: Fallbacks, default: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """For each route all the routes after it: its own fallbacks, each followed by theirs."""
    direct: dict[str, tuple[str, ...]] = {}
    for mapping in configured:
        for route, targets in mapping.items():
            direct[route] = (*direct.get(route, ()), *targets)

    def follow(route: str, seen: dict[str, None]) -> None:
        for target in direct.get(route, tuple(default)):
            if target not in seen:
                seen[target] = None
                follow(target, seen)

    chains = {}
    for route in routes:
        seen = {route: None}
        follow(route, seen)
        chains[route] = tuple(seen)[1:]
    return chains
