"""The targets of each route, and those of a wildcard for each model that callers request.

A caller's wire decides which deployments are among them: one that speaks no wire its request could
be put into is not a target, not even as a fallback.

Routes that the configuration names are built once for the time that their prices last. A wildcard's
targets are built when a model is first requested, and cached; they share the wildcard's health and id, and a model that the price
book does not know has no name of its own in rows and metrics.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from spanledger.errors import ConfigError
from spanledger.pricing.contracts import Prices
from spanledger.providers.base import Deployment, Provider, ProviderKind
from spanledger.routing.course import Candidate, Filtered, Groups, Levels, levels_of
from spanledger.routing.health import Health
from spanledger.routing.plan import Plan
from spanledger.wires import outbound
from spanledger.wires.base import Inbound

OTHER_MODEL = "other"
"""The name in rows and metrics of a model that a caller named and the price book does not know."""
MAX_SERVED = 512
"""Cached models of wildcards, on each wire that they were requested on."""
MAX_KEPT = 3
"""Times of other prices that are kept: batches are charged by the prices of when they were created."""

Spoken = tuple[tuple[str, ...], ...]
"""The wires that deployments speak, of each kind once."""


class RouteGroups:
    """The targets of every route, at the prices of a moment."""

    def __init__(
        self,
        plan: Plan,
        prices: Prices,
        providers: Mapping[ProviderKind, Provider],
        health: Health,
        now_ns: int,
    ) -> None:
        self._plan = plan
        self._prices = prices
        self._providers = providers
        self._health = health
        self._current = self._build(now_ns)
        self._others: OrderedDict[int, _PricedGroups] = OrderedDict()

    def for_request(self, route: str, asked: str, wire: Inbound, at_ns: int) -> Groups:
        """All routes' targets for a wire, with the wildcard's for the requested model, at the prices
        of a request that began at `at_ns`."""
        current = self._current
        if not current.since_ns <= at_ns < current.until_ns:
            current = self._at(at_ns)
        return current.for_request(route, asked, wire)

    def spoken(self, route: str, asked: str) -> Spoken:
        """The wires that each of a route's deployments speaks; empty if all of them are off."""
        return tuple(dict.fromkeys(d.speaks for d in self._current.deployments(route, asked)))

    @property
    def named(self) -> Mapping[str, Levels]:
        """The targets of the routes that the configuration names."""
        return self._current.named

    def _at(self, at_ns: int) -> _PricedGroups:
        since_ns, _ = self._prices.lasting(at_ns)
        if since_ns >= self._current.until_ns:
            self._keep(self._current)
            self._current = self._others.get(since_ns) or self._build(at_ns)
            return self._current
        found = self._others.get(since_ns)
        if found is None:
            self._keep(found := self._build(at_ns))
        return found

    def _keep(self, groups: _PricedGroups) -> None:
        self._others[groups.since_ns] = groups
        if len(self._others) > MAX_KEPT:
            self._others.popitem(last=False)

    def _build(self, at_ns: int) -> _PricedGroups:
        return _PricedGroups(self._plan, self._prices, self._providers, self._health, at_ns)


class _PricedGroups:
    """The targets of every route while no price changes.

    Attributes:
        since_ns, until_ns: how long that is.
    """

    def __init__(
        self,
        plan: Plan,
        prices: Prices,
        providers: Mapping[ProviderKind, Provider],
        health: Health,
        at_ns: int,
    ) -> None:
        self.since_ns, self.until_ns = prices.lasting(at_ns)
        self._plan = plan
        self._prices = prices
        self._providers = providers
        self._health = health
        self._at_ns = at_ns
        self._named_models = {d.model for d in plan.deployments}
        self.named: dict[str, Levels] = {
            route: levels_of([self._target(d) for d in deployments])
            for route, deployments in plan.routes.items()
        }
        self._named_on: dict[str, dict[str, Levels]] = {}
        """The same by wire, without the targets that cannot serve it."""
        self._served: OrderedDict[tuple[str, str, str], Groups] = OrderedDict()

    def for_request(self, route: str, asked: str, wire: Inbound) -> Groups:
        """See `RouteGroups`."""
        named = self._named_on.get(wire.name)
        if named is None:
            named = {name: _usable(levels, wire) for name, levels in self.named.items()}
            self._named_on[wire.name] = named
        if not asked or route not in self._plan.wildcards:
            return named
        key = (route, asked, wire.name)
        found = self._served.get(key)
        if found is None:
            targets = [self._target(self._labelled(d)) for d in self.deployments(route, asked)]
            found = ChainMap({route: _usable(levels_of(targets), wire)}, named)
            self._served[key] = found
            if len(self._served) > MAX_SERVED:
                self._served.popitem(last=False)
        return found

    def deployments(self, route: str, asked: str) -> tuple[Deployment, ...]:
        """A route's deployments; a wildcard's for the requested model."""
        if not asked or route not in self._plan.wildcards:
            return self._plan.routes.get(route, ())
        served = self._plan.serve(route, asked)
        # The caller may have named a model whose adapter is not set up.
        return tuple(d for d in served if d.kind in self._providers)

    def _labelled(self, deployment: Deployment) -> Deployment:
        """The deployment with the name that its model gets in rows and metrics."""
        if deployment.model in self._named_models:
            return deployment
        known = self._prices.book.price_of(replace(deployment, prices={})) is not None
        return deployment if known else replace(deployment, label=OTHER_MODEL)

    def _target(self, deployment: Deployment) -> Candidate:
        if deployment.kind not in self._providers:
            raise ConfigError(
                f"deployment {deployment.id!r} needs the {deployment.kind!r} adapter, which is"
                " not set up"
            )
        price = self._prices.price_of(deployment, self._at_ns)
        health = self._health.states[deployment.id]
        return Candidate(deployment, self._providers[deployment.kind], price, health)


def own_wire(groups: Groups, wire: Inbound) -> Groups:
    """The groups with the deployments that speak a wire themselves."""
    return Filtered(groups, lambda deployment: wire.name in deployment.speaks)


def _usable(levels: Levels, wire: Inbound) -> Levels:
    """The levels without the deployments that the wire's requests cannot be sent to."""
    found = [[t for t in level if outbound(wire, t.deployment.speaks)] for level in levels]
    return [level for level in found if level] or [[]]
