"""What callers call a model: a route, an alias, or a name that a wildcard serves; and their list."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from spanledger.config import Config, served_by
from spanledger.errors import InvalidRequestError, PermissionDeniedError
from spanledger.gateway.auth import Caller
from spanledger.gateway.paths import MODELS
from spanledger.routing.models import AllowedModels
from spanledger.wires import model_list
from spanledger.wires.base import Inbound

MAX_MODEL_CHARS = 256
"""Longest model name that a wildcard serves; the same limit as for names in the configuration."""


class Models:
    """The names that requests may have as their model."""

    def __init__(
        self,
        config: Config,
        created_s: int,
        may_serve: Callable[[str, AllowedModels], bool],
    ) -> None:
        """`may_serve` says whether a route has a deployment with one of a key's models."""
        self._may_serve = may_serve
        settings = config.router_settings
        self._routes = dict.fromkeys(entry.model_name for entry in config.model_list)
        self._wildcards = tuple(name for name in self._routes if "*" in name)
        self._aliases = {a: r for a, r in settings.aliases.items() if a not in self._routes}
        listed = [alias for alias in self._aliases if alias not in settings.hidden_aliases]
        self._listed = (*self._routes, *listed)
        self._created_s = created_s

    def route(self, name: str) -> str:
        """The route for a model name, which may be an alias."""
        return self._aliases.get(name, name)

    def serving(self, route: str) -> str:
        """The route that serves a model: the route of that name, or a wildcard."""
        if route in self._routes and "*" not in route:
            return route
        serving = served_by(route, self._wildcards) if _may_be_a_model(route) else None
        if serving is None:
            raise InvalidRequestError(
                f"the model {route!r} does not exist; GET {MODELS} lists the models of this gateway",
                status=404,
                code="model_not_found",
                param="model",
            )
        return serving

    def check(self, route: str, serving: str, caller: Caller) -> None:
        """Raises PermissionDeniedError if the caller may not use the route."""
        if not (caller.may_use(route) or caller.may_use(serving)):
            raise PermissionDeniedError(f"this key is not allowed to use the model {route!r}")

    def shown(self, path: str, query: bytes, caller: Caller, wire: Inbound) -> bytes:
        """The list of a caller's models, or one of them, in the shape of the caller's wire."""
        shape = model_list(wire)
        name = path.partition("/models")[2].removeprefix("/")
        if name:
            route = self.route(name)
            self.check(route, self.serving(route), caller)
            return shape.one(name, self._created_s)
        names = [name for name in self._listed if caller.may_use(self.route(name))]
        if (models := caller.models) is not None:
            names = [name for name in names if self._may_serve(self.route(name), models)]
        return shape.page(names, self._created_s, dict(parse_qsl(query.decode("latin-1"))))


def _may_be_a_model(name: str) -> bool:
    """Whether a wildcard may serve this name, which is sent to a provider and stored in rows."""
    return 0 < len(name) <= MAX_MODEL_CHARS and name.isprintable() and not set("*`") & set(name)
