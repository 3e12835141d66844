"""What customers are charged: a share of the cost, or of the list price, by rule and date. Pure.

The date that counts is when the request began, as for contracts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spanledger.config import PricingSettings
from spanledger.money import WHOLE_SHARE
from spanledger.pricing.rules import FOR_GOOD_NS, PriceRule, PriceRules

CHARGE_PROPERTIES = ("customer", "team", "model", "provider")
"""What a rule is for, in the order in which it counts."""


@dataclass(frozen=True, slots=True)
class Markup:
    """What a customer is charged: a share, in millionths, of the cost or of the list price."""

    share: int
    of: Literal["cost", "list"]


AT_COST = PriceRule("", {}, 0, FOR_GOOD_NS, Markup(WHOLE_SHARE, "cost"))
"""Where no rule matches."""


class Charges:
    """The rules of a configuration; none: nobody asked what customers are charged."""

    def __init__(self, settings: PricingSettings) -> None:
        self._rules = PriceRules(
            CHARGE_PROPERTIES,
            [
                PriceRule(
                    entry.name,
                    entry.names,
                    entry.since_ns or 0,
                    entry.until_ns or FOR_GOOD_NS,
                    Markup(entry.share, entry.of),
                )
                for entry in settings.charges
            ],
        )

    def __bool__(self) -> bool:
        return bool(self._rules)

    def lasting(self, at_ns: int) -> tuple[int, int]:
        """The time around a moment in which no rule begins or ends, in Unix nanoseconds."""
        return self._rules.lasting(at_ns)

    def matching(
        self, customer: str, team: str, model: str, provider: str, at_ns: int
    ) -> list[PriceRule[Markup]]:
        """The rules that match, and the one that applies first."""
        subject = {"customer": customer, "team": team, "model": model, "provider": provider}
        return self._rules.matching(subject, at_ns)

    def find(
        self, customer: str, team: str, model: str, provider: str, at_ns: int
    ) -> PriceRule[Markup]:
        """The rule that applies."""
        found = self.matching(customer, team, model, provider, at_ns)
        return found[0] if found else AT_COST
