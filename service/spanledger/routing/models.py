"""The providers' models that a key's requests may be sent to."""

from __future__ import annotations

from collections.abc import Iterable

from spanledger.config import matches
from spanledger.errors import PermissionDeniedError
from spanledger.providers.base import Deployment
from spanledger.routing.course import Filtered, Groups

MAX_KNOWN_MODELS = 1_000
"""Models whose answer is remembered; callers of wildcards can name any."""


def means(name: str, model: str) -> bool:
    """Whether a name of a key's models stands for this one."""
    return name == model or ("*" in name and matches(name, model) is not None)


class AllowedModels:
    """A key's models by their names, as in budgets; `*` in one stands for any text."""

    __slots__ = ("_allowed", "names")

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._allowed: dict[str, bool] = {}

    def allow(self, deployment: Deployment) -> bool:
        """Whether requests may be sent there."""
        model = deployment.model
        found = self._allowed.get(model)
        if found is None:
            found = any(means(name, model) for name in self.names)
            if len(self._allowed) < MAX_KNOWN_MODELS:
                self._allowed[model] = found
        return found

    def refusal(self, route: str) -> PermissionDeniedError:
        """The error where no deployment of a route is allowed."""
        return PermissionDeniedError(
            f"this key may use the models {', '.join(self.names)}, and {route!r} has none of them"
        )

    def among(self, groups: Groups) -> Groups:
        """The groups with those deployments alone."""
        return Filtered(groups, self.allow)
