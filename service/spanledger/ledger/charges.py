"""What a customer is charged for an attempt, as a row remembers it: decided when the attempt is held,
and computed when it ends, however late and by whichever process that is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from spanledger.money import WHOLE_SHARE, share_of

MAX_RULES_READ = 4_096


class ChargeRule(msgspec.Struct, frozen=True, array_like=True):
    """A rule of the configuration.

    Attributes:
        name: empty where no rule matched.
        share: what is charged, in millionths,
        of: of the cost, or of the list price.
    """

    name: str
    share: int
    of: Literal["cost", "list"] = "cost"

    @property
    def text(self) -> str:
        """As a row has it."""
        return msgspec.json.encode(self).decode()

    def charge_nano(self, cost_nano: int, list_nano: int | None) -> int:
        """What is charged, nano-USD, rounded up once. Where the list price is not known, as of a hold
        that expired, it is taken to be the cost."""
        listed = self.of == "list" and list_nano is not None
        return share_of(list_nano if listed and list_nano is not None else cost_nano, self.share)


@lru_cache(MAX_RULES_READ)
def charge_rule(text: str) -> ChargeRule:
    """The rule that a row has. A row that somebody has damaged is charged what it costs: it must stop
    neither the sweep nor the shipper."""
    try:
        return msgspec.json.decode(text, type=ChargeRule)
    except msgspec.DecodeError:
        return ChargeRule("", WHOLE_SHARE)


def charge_of(text: str, cost_nano: int, list_nano: int | None) -> int | None:
    """What is charged by the rule of a row; None without one, when it is what the attempt costs."""
    return charge_rule(text).charge_nano(cost_nano, list_nano) if text else None
