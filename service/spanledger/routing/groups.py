"""The targets of each route, and those of a wildcard for each model that callers request.

Routes that the configuration names are built once. A wildcard's targets are built when a model is
first requested, and cached; they share the wildcard's health and id, and a model that the price
book does not know has no name of its own in rows and metrics.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from spanledger.errors import ConfigError
from spanledger.pricing.book import PriceBook
from spanledger.providers.base import Deployment, Provider, ProviderKind
from spanledger.routing.course import Candidate, Groups, Levels, levels_of
from spanledger.routing.health import Health
from spanledger.routing.plan import Plan

OTHER_MODEL = "other"
"""The name in rows and metrics of a model that a caller named and the price book does not know."""
MAX_SERVED = 512
"""Cached models of wildcards."""


class RouteGroups:
    """The targets of every route."""

    def __init__(
        self,
        plan: Plan,
        book: PriceBook,
        providers: Mapping[ProviderKind, Provider],
        health: Health,
    ) -> None:
        self._plan = plan
        self._book = book
        self._providers = providers
        self._health = health
        self._named_models = {d.model for d in plan.deployments}
        self.named: dict[str, Levels] = {
            route: levels_of([self._target(d) for d in deployments])
            for route, deployments in plan.routes.items()
        }
        self._served: OrderedDict[tuple[str, str], Groups] = OrderedDict()

    def for_request(self, route: str, asked: str) -> Groups:
        """All routes' targets, with the wildcard's for the requested model."""
        if not asked or route not in self._plan.wildcards:
            return self.named
        key = (route, asked)
        found = self._served.get(key)
        if found is None:
            served = self._plan.serve(route, asked)
            # The caller may have named a model whose adapter is not set up.
            served = tuple(d for d in served if d.kind in self._providers)
            targets = [self._target(self._labelled(d)) for d in served]
            found = ChainMap({route: levels_of(targets)}, self.named)
            self._served[key] = found
            if len(self._served) > MAX_SERVED:
                self._served.popitem(last=False)
        return found

    def _labelled(self, deployment: Deployment) -> Deployment:
        """The deployment with the name that its model gets in rows and metrics."""
        if deployment.model in self._named_models:
            return deployment
        price = self._book.price_of(replace(deployment, prices={}))
        return deployment if price is not None else replace(deployment, label=OTHER_MODEL)

    def _target(self, deployment: Deployment) -> Candidate:
        if deployment.kind not in self._providers:
            raise ConfigError(
                f"deployment {deployment.id!r} needs the {deployment.kind!r} adapter, which is"
                " not set up"
            )
        price = self._book.price_of(deployment)
        health = self._health.states[deployment.id]
        return Candidate(deployment, self._providers[deployment.kind], price, health)
