"""Turns `model_list` into deployments, and `router_settings` into the order of groups.

Everything that can be decided once is decided here, at start: which deployments serve a route,
which are off, which route follows which. What an entry means is `entries`' to say; what a wildcard
serves is made when a caller asks for it, from its entries. It reads no file, no environment of its
own and no price book.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spanledger.config import Config, Fallbacks, ModelEntry, matches, served_by
from spanledger.errors import ConfigError
from spanledger.providers import hosts
from spanledger.providers.base import Deployment, ProviderKind
from spanledger.providers.hosts import HOSTS
from spanledger.routing.entries import Entry, Off

NATIVE: frozenset[ProviderKind] = frozenset({"openai", "anthropic"})


@dataclass(frozen=True, slots=True)
class Wildcard:
    """An entry whose `model_name` has a `*`: a deployment for each model it is asked for.

    Attributes:
        deployment: what all of them share, their id above all.
    """

    entry: Entry
    deployment: Deployment

    def serve(self, asked: str) -> Deployment | None:
        """The deployment for a model's name; None when it cannot have such a one."""
        template = self.entry.params.model
        captured = matches(self.deployment.route, asked)
        if captured is None:
            return None
        named = _filled(template, captured)
        entry = self.entry.with_model(named)
        try:
            prefix, model = entry.provider()
            if template == "*" and not self._may_be_asked_of(prefix):
                return None
            found = entry.deployment(self.deployment.id, prefix, model, self.deployment.timeout_s)
        except ConfigError:
            return None
        return found if isinstance(found, Deployment) else None

    def _may_be_asked_of(self, prefix: str) -> bool:
        """With `model: "*"` it is the caller who names the provider. A key of the file is for one
        company, and servers of one's own are not for callers to choose."""
        host = HOSTS.get(prefix)
        if host is None or host.keyless:
            return self.deployment.api_base is not None and prefix == "openai"
        return self.entry.params.api_key is None or prefix == "openai"


@dataclass(frozen=True, slots=True)
class Plan:
    """What can serve which route, and where to turn next.

    Attributes:
        deployments: all that are on, in the order of the config; wildcards have one each.
        routes: route to the deployments that serve it; none where all of them are off.
        wildcards: route with a `*` to what serves it.
        off: the deployments that lack a key or a variable.
        fallbacks: route to the routes to turn to after it, in order, each once.
        context_fallbacks: the same for prompts too long for a route.
        warnings: one line for each setting that has no effect or is missing.
    """

    deployments: tuple[Deployment, ...]
    routes: Mapping[str, tuple[Deployment, ...]]
    fallbacks: Mapping[str, tuple[str, ...]]
    context_fallbacks: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    wildcards: Mapping[str, tuple[Wildcard, ...]] = field(default_factory=dict)
    off: tuple[Off, ...] = ()

    @classmethod
    def from_config(cls, config: Config, environ: Mapping[str, str] | None = None) -> Plan:
        """Resolve a configuration.

        Args:
            environ: where a missing `api_key` or `api_base` is looked up by its customary name;
                the file's `environment_variables` win over it.

        Raises:
            ConfigError: with every entry that cannot be served, one a line.
        """
        maker = _Maker(config, {**(environ or {}), **config.variables})
        for index, entry in enumerate(config.model_list):
            maker.add(entry, f"model_list.{index}")
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
        """The deployments of a wildcard route for the model a caller asks for."""
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

    def add(self, given: ModelEntry, place: str) -> None:
        """Resolve one entry; what is wrong with it is kept."""
        entry = Entry(given, place, self._environ, drop_params=self._config.drop_params)
        route = given.model_name
        try:
            if "*" in given.litellm_params.model and "*" not in route:
                raise ConfigError(
                    f"{place}.litellm_params.model: {given.litellm_params.model!r} has a '*', and"
                    f" model_name {route!r} has none that says what to put there"
                )
            found = entry.resolve(self._settings.timeout, self._taken)
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
        self._routes[route] = (*self._routes[route], found)
        if "*" in route:
            self._wildcards[route] = (*self._wildcards.get(route, ()), Wildcard(entry, found))

    def plan(self) -> Plan:
        """All of it."""
        self._serve_targets_of_wildcards()
        settings = self._settings
        return Plan(
            deployments=tuple(self._deployments),
            routes=self._routes,
            fallbacks=_chains(self._routes, settings.fallbacks, settings.default_fallbacks),
            context_fallbacks=_chains(self._routes, settings.context_window_fallbacks, ()),
            warnings=tuple(self._warnings),
            wildcards=self._wildcards,
            off=tuple(self._off),
        )

    def _serve_targets_of_wildcards(self) -> None:
        """A fallback may name a model that only a wildcard serves: it becomes a route."""
        settings = self._settings
        mappings = (*settings.fallbacks, *settings.context_window_fallbacks)
        named = dict.fromkeys(settings.default_fallbacks)
        named |= dict.fromkeys(r for m in mappings for k, ts in m.items() for r in (k, *ts))
        for name in named:
            pattern = served_by(name, list(self._wildcards))
            if name in self._routes or pattern is None:
                continue
            served = (wildcard.serve(name) for wildcard in self._wildcards[pattern])
            self._routes[name] = tuple(d for d in served if d is not None)

    def _note_clients_variable(self, entry: Entry) -> None:
        """A variable that LiteLLM takes for a provider's address, and we do not."""
        prefix = entry.prefix
        variable = hosts.CLIENT_VARIABLES.get(prefix, "")
        if (
            variable in self._environ
            and entry.params.api_base is None
            and variable not in self._noted
        ):
            self._noted.add(variable)
            self._warnings.append(
                f"{variable} is set and not obeyed, since it tells clients where a gateway is:"
                f" requests go to {HOSTS[prefix].base}; write api_base on the deployment to have"
                " them go elsewhere"
            )


def _filled(template: str, captured: Sequence[str]) -> str:
    """A model with what the caller's name has for each `*`; a provider that both name stands once."""
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


def _chains(
    routes: Iterable[str], configured: Fallbacks, default: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """For each route all the routes after it: its own fallbacks, each followed by theirs."""
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
