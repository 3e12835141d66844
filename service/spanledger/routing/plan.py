"""Turns `model_list` into deployments, and `router_settings` into the order of routes.

Everything that can be decided once is decided here, at startup: which deployments serve a route,
which are off, which route follows which. `entries` decides what an entry means. A wildcard's
deployments are made from its entries when a caller requests a model. Reads no file, no price book,
and only the environment that it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from spanledger.config import Config, Fallbacks, ModelEntry, RouterSettings, matches, served_by
from spanledger.errors import ConfigError
from spanledger.providers import hosts
from spanledger.providers.base import Deployment, ProviderKind
from spanledger.providers.hosts import HOSTS
from spanledger.routing.entries import Entry, Off, Timeouts
from spanledger.routing.rules import POLICY_KINDS, CooldownRules, Onward, RetryRules
from spanledger.routing.strategy import Strategy, strategy_of
from spanledger.wires import INBOUND, outbound

NATIVE: frozenset[ProviderKind] = frozenset({"openai", "anthropic"})


@dataclass(frozen=True, slots=True)
class Wildcard:
    """An entry whose `model_name` has a `*`: one deployment for each model that callers request.

    Attributes:
        deployment: what they all share, above all the id.
    """

    entry: Entry
    deployment: Deployment

    def serve(self, asked: str) -> Deployment | None:
        """The deployment for a model name; None if this wildcard cannot serve it."""
        template = self.entry.params.model
        captured = matches(self.deployment.route, asked)
        if captured is None:
            return None
        named = _filled(template, captured)
        entry = self.entry.with_model(named)
        try:
            prefix, model = entry.provider()
            if "*" in template.partition("/")[0] and not self._may_be_asked_of(prefix):
                return None
            timeouts = Timeouts(self.deployment.timeout_s, self.deployment.stream_timeout_s)
            found = entry.deployment(self.deployment.id, prefix, model, timeouts)
        except ConfigError:
            return None
        if not isinstance(found, Deployment):
            return None
        return replace(found, weight=self.deployment.weight)

    def _may_be_asked_of(self, prefix: str) -> bool:
        """With `model: "*"` or `"*/*"` the caller names the provider. A configured key belongs to
        one company, and callers must not choose among an operator's own servers."""
        host = HOSTS.get(prefix)
        if host is None or host.keyless:
            return self.deployment.api_base is not None and prefix == "openai"
        return prefix == self.entry.prefix or not self.entry.has_secrets


@dataclass(frozen=True, slots=True)
class Plan:
    """What can serve which route, and where to go next.

    Attributes:
        deployments: all that are on, in the order of the configuration; one for each wildcard.
        routes: route to the deployments that serve it; empty if all of them are off.
        wildcards: route with a `*` to the wildcards that serve it.
        off: the deployments that lack a key or a variable.
        onward: route to the routes that follow it.
        retries: route to its retry rules.
        warnings: one line for each setting that has no effect or is missing.
    """

    deployments: tuple[Deployment, ...]
    routes: Mapping[str, tuple[Deployment, ...]]
    onward: Mapping[str, Onward]
    retries: Mapping[str, RetryRules]
    cooldowns: CooldownRules
    strategy: Strategy
    warnings: tuple[str, ...]
    wildcards: Mapping[str, tuple[Wildcard, ...]] = field(default_factory=dict)
    off: tuple[Off, ...] = ()

    @classmethod
    def from_config(cls, config: Config, environ: Mapping[str, str] | None = None) -> Plan:
        """Resolve a configuration.

        Args:
            environ: where a missing `api_key` or `api_base` is looked up under its usual name;
                the file's `environment_variables` win over it.

        Raises:
            ConfigError: lists every entry that cannot be served, one per line.
        """
        maker = _Maker(config, {**(environ or {}), **config.variables})
        for index, entry in enumerate(config.model_list):
            position = index if entry.position is None else entry.position
            maker.add(entry, f"model_list.{position}")
        if maker.problems:
            raise ConfigError("\n".join(maker.problems))
        return maker.plan()

    @property
    def kinds(self) -> frozenset[ProviderKind]:
        """The adapters that requests may need."""
        named = {deployment.kind for deployment in self.deployments}
        anything = any(w.entry.params.model == "*" for ws in self.wildcards.values() for w in ws)
        return frozenset(named | NATIVE if anything else named)

    def serve(self, route: str, asked: str) -> tuple[Deployment, ...]:
        """The deployments of a wildcard route for the model that a caller requests."""
        found = (wildcard.serve(asked) for wildcard in self.wildcards[route])
        return tuple(deployment for deployment in found if deployment is not None)


class _Maker:
    """A plan in the making."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._config = config
        self._environ = environ
        self._settings = config.router_settings
        self._taken = {e.model_info.id for e in config.model_list if e.model_info.id}
        self._deployments: list[Deployment] = []
        self._routes: dict[str, tuple[Deployment, ...]] = {}
        self._wildcards: dict[str, tuple[Wildcard, ...]] = {}
        self._off: list[Off] = []
        self._warnings: list[str] = []
        self._noted: set[str] = set()
        self._weighing: set[str] = set()
        """Ids of the deployments with an explicit weight."""
        self._onward = _onward(config)

    def add(self, given: ModelEntry, place: str) -> None:
        """Resolve one entry; errors go to `problems`."""
        entry = Entry(given, place, self._environ, drop_params=self._config.drop_params)
        route = given.model_name
        try:
            _check_star(entry, route)
            found = entry.resolve(_timeouts(self._config, route, self._onward), self._taken)
        except ConfigError as error:
            self.problems.append(str(error))
            return
        self._taken.add(found.id)
        self._routes.setdefault(route, ())
        self._warnings += entry.warnings
        self._note_clients_variable(entry)
        if isinstance(found, Off):
            self._off.append(found)
            self._warnings.append(f"deployment {found.id!r} is off: {found.reason}")
            return
        self._deployments.append(found)
        if given.litellm_params.weight is not None:
            self._weighing.add(found.id)
        if "*" in route:
            self._wildcards[route] = (*self._wildcards.get(route, ()), Wildcard(entry, found))

    def plan(self) -> Plan:
        """The finished plan."""
        settings = self._settings
        deployments = _weighted(self._deployments, self._weighing)
        by_id = {deployment.id: deployment for deployment in deployments}
        for deployment in deployments:
            self._routes[deployment.route] = (*self._routes[deployment.route], deployment)
        wildcards = {
            route: tuple(replace(w, deployment=by_id[w.deployment.id]) for w in found)
            for route, found in self._wildcards.items()
        }
        for name in self._onward.keys() - self._routes.keys():
            # A fallback may name a model that only a wildcard serves; it becomes a route.
            pattern = served_by(name, list(wildcards))
            served = (w.serve(name) for w in wildcards[pattern]) if pattern is not None else ()
            self._routes[name] = tuple(d for d in served if d is not None)
        self._warnings += _unreachable(self._routes)
        return Plan(
            deployments=tuple(deployments),
            routes=self._routes,
            onward=self._onward,
            retries={route: _retries(settings, route) for route in self._routes},
            cooldowns=_cooldowns(settings),
            strategy=strategy_of(settings.routing_strategy, settings.routing_strategy_args),
            warnings=tuple(self._warnings),
            wildcards=wildcards,
            off=tuple(self._off),
        )

    def _note_clients_variable(self, entry: Entry) -> None:
        """Warn about a variable that LiteLLM uses as a provider's address and we do not."""
        prefix = entry.prefix
        variable = hosts.CLIENT_VARIABLES.get(prefix, "")
        if (
            variable in self._environ
            and entry.params.api_base is None
            and variable not in self._noted
        ):
            self._noted.add(variable)
            self._warnings.append(
                f"{variable} is ignored, because it tells clients where a gateway is: requests go"
                f" to {HOSTS[prefix].base}; set api_base on the deployment to send them elsewhere"
            )


def _unreachable(routes: Mapping[str, Sequence[Deployment]]) -> list[str]:
    """A warning for each route that no caller could use, whatever endpoint they call."""
    found = []
    for route, deployments in routes.items():
        speaks = {d.speaks for d in deployments if "*" not in route}
        if speaks and not any(outbound(w, s) for w in INBOUND.values() for s in speaks):
            names = " and ".join(sorted({name for each in speaks for name in each}))
            found.append(
                f"route {route!r} cannot be called: its deployments speak {names}, and no endpoint"
                " of this gateway can be served with that"
            )
    return found


def _check_star(entry: Entry, route: str) -> None:
    """Refuse a `*` in a model that a caller cannot fill, or must not."""
    model, place = entry.params.model, f"{entry.place}.litellm_params.model"
    if "*" in model and "*" not in route:
        raise ConfigError(
            f"{place}: {model!r} has a '*', but model_name {route!r} has none to fill it from"
        )
    provider, slash, _ = model.partition("/")
    if slash and "*" in provider and entry.has_secrets:
        raise ConfigError(
            f"{place}: {model!r} lets the caller choose the provider, so any provider could be sent"
            " this entry's key or headers; name the provider, as in openai/*, or remove them"
        )


def _filled(template: str, captured: Sequence[str]) -> str:
    """A model with each `*` replaced from the caller's name; a provider in both appears once."""
    if "*" not in template:
        return template
    if template == "*":
        return captured[-1]
    prefix, _, rest = template.partition("/")
    values = [value.removeprefix(f"{prefix}/") if rest == "*" else value for value in captured]
    parts = template.split("*")
    filled = parts[0]
    for index, part in enumerate(parts[1:]):
        filled += (values[index] if index < len(values) else "") + part
    return filled


def _weighted(deployments: Sequence[Deployment], said: Set[str]) -> list[Deployment]:
    """The deployments with their shares of their route's traffic, by LiteLLM's rules: by weight,
    else by rpm, else by tpm. If others of the route set it, a deployment without it gets none.
    `said` has the ids with an explicit weight."""
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


def _timeouts(config: Config, route: str, onward: Mapping[str, Onward]) -> Timeouts:
    """The timeouts of a route's attempts: all the time of a request, or half of it if another
    deployment can take over."""
    settings, total = config.router_settings, config.gateway.total_timeout_s
    group = [entry for entry in config.model_list if entry.model_name == route]
    usual = total / 2 if len(group) > 1 or onward[route].fallbacks else total
    return Timeouts(settings.timeout or usual, settings.stream_timeout)


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
    """A policy's counts by our kinds of error."""
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
    routes += [name for name in _targets(settings, aliases) if name not in routes]

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


def _targets(settings: RouterSettings, aliases: Mapping[str, str]) -> dict[str, None]:
    """Every route that any kind of fallback names."""
    mappings = (
        *settings.fallbacks,
        *settings.context_window_fallbacks,
        *settings.content_policy_fallbacks,
    )
    named = [*settings.default_fallbacks, *aliases.values()]
    named += [r for m in mappings for key, targets in m.items() for r in (key, *targets)]
    return dict.fromkeys(aliases.get(name, name) for name in named if name != "*")


def _chains(
    routes: Iterable[str], configured: Fallbacks, default: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """For each route, all the routes after it: its own fallbacks, each followed by theirs."""
    direct: dict[str, tuple[str, ...]] = {}
    for mapping in configured:
        for route, targets in mapping.items():
            direct[route] = (*direct.get(route, ()), *targets)
    for_others = direct.get("*", tuple(default))

    def follow(route: str, seen: dict[str, None]) -> None:
        for target in direct.get(route, for_others):
            if target not in seen:
                seen[target] = None
                follow(target, seen)

    chains = {}
    for route in routes:
        seen = {route: None}
        follow(route, seen)
        chains[route] = tuple(seen)[1:]
    return chains
