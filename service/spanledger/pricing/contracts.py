"""What deployments cost by date: the price book's prices, or what a contract makes of them. Pure.

A contract bills a share of the list price, or prices of its own. It changes the cost of an attempt,
and therefore its hold, wherever they are counted. The date that counts is when the request began: all
its attempts have one price, also one that ends long after its request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from spanledger.config import PricingSettings
from spanledger.money import WHOLE_SHARE, format_share
from spanledger.pricing.book import Named, PriceBook
from spanledger.pricing.price import Price
from spanledger.pricing.rules import FOR_GOOD_NS, PriceRule, PriceRules

CONTRACT_PROPERTIES = ("deployment", "model", "provider")
"""What a contract is for, in the order in which it counts."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a provider bills.

    Attributes:
        share: of the list price, in millionths.
        prices: its own prices, by LiteLLM's keys, pico-USD; then the share is whole.
    """

    share: int = WHOLE_SHARE
    prices: Mapping[str, int] = field(default_factory=dict)


class Prices:
    """What deployments cost."""

    def __init__(self, book: PriceBook, settings: PricingSettings) -> None:
        self.book = book
        self._rules = PriceRules(
            CONTRACT_PROPERTIES,
            [
                PriceRule(
                    entry.name,
                    entry.names,
                    entry.since_ns or 0,
                    entry.until_ns or FOR_GOOD_NS,
                    Contract(entry.share, entry.prices),
                )
                for entry in settings.contracts
            ],
        )

    def lasting(self, at_ns: int) -> tuple[int, int]:
        """The time around a moment in which no price changes, in Unix nanoseconds."""
        return self._rules.lasting(at_ns)

    def price_of(self, deployment: Named, at_ns: int) -> Price | None:
        """What a deployment costs requests that began at this moment; None if nothing says so."""
        listed = self.book.price_of(deployment)
        if not self._rules:
            return listed
        contracts = self.contracts(deployment, at_ns)
        found = contracts[0].what if contracts else Contract()
        if found.prices:
            own = self.book.find(
                deployment.provider,
                deployment.model,
                deployment.litellm_model,
                found.prices,
                deployment.id,
                deployment.base_model,
                deployment.mode,
            )
            if own is not None:
                return replace(own, listed=listed or own)
        if listed is None:
            return None
        if found.share == WHOLE_SHARE:
            return replace(listed, listed=listed)
        price_id = f"{listed.id}*{format_share(found.share)}"
        return replace(listed, id=price_id, share=found.share, listed=listed)

    def contracts(self, deployment: Named, at_ns: int) -> list[PriceRule[Contract]]:
        """The contracts that match a deployment, and the one that applies first."""
        subject = {
            "deployment": deployment.id,
            "model": deployment.model,
            "provider": deployment.provider,
        }
        return self._rules.matching(subject, at_ns)
