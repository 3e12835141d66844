"""By which rule a request's customer is charged at a deployment. No I/O."""

from __future__ import annotations

from spanledger.ledger.charges import ChargeRule
from spanledger.ledger.model import RequestStart
from spanledger.pricing.charges import Charges
from spanledger.providers.base import Deployment

MAX_RULES_KNOWN = 10_000
"""Customers at models whose rule is remembered; beyond, all are looked up again."""


class Charging:
    """Finds the rules, and remembers them while none begins or ends."""

    def __init__(self, charges: Charges) -> None:
        self._charges = charges
        self._known: dict[tuple[str, str, str, str], str] = {}
        self._since_ns = self._until_ns = 0
        self.off = not charges
        """No customer is charged by a rule."""

    def rule(self, start: RequestStart, deployment: Deployment, model: str = "") -> str:
        """The rule in the form that a row has; empty while there are no rules. `model` is the
        provider's, if it is not the deployment's."""
        if self.off:
            return ""
        at_ns = start.started_ns
        if not self._since_ns <= at_ns < self._until_ns or len(self._known) >= MAX_RULES_KNOWN:
            self._known.clear()
            self._since_ns, self._until_ns = self._charges.lasting(at_ns)
        key = (start.customer, start.team, model or deployment.model, deployment.provider)
        known = self._known.get(key)
        if known is None:
            found = self._charges.find(*key, at_ns)
            known = ChargeRule(found.name, found.what.share, found.what.of).text
            self._known[key] = known
        return known
