"""Metrics that gateways and applications both send: rules and runbooks say whose they use.

Applications have other buckets, other error types, and count a call through the gateway again.
"""

from __future__ import annotations

import pytest

from tests.rules.harness import ALERTS, RECORDINGS
from tests.rules.promql import of_everybody
from tests.rules.test_runbooks import lines

EVERYBODYS: dict[str, str] = {}
"""Places that use both on purpose, with the reason."""


def test_rules_and_runbooks_choose_a_source() -> None:
    """No rule and no runbook query mixes a gateway's counts with applications'."""
    places = [
        *((f"{alert.name} {alert.variant}".strip(), alert.expr) for alert in ALERTS),
        *((rule.record, rule.expr) for rule in RECORDINGS),
        *((f"runbook {page}", query) for page, query in lines("promql")),
    ]
    mixed = {place for place, expr in places if of_everybody(expr)}

    assert mixed == EVERYBODYS.keys()


@pytest.mark.parametrize(
    ("expr", "mixes"),
    [
        ("rate(gen_ai_client_token_usage_sum[5m])", True),
        ('rate(gen_ai_client_token_usage_sum{le="spanledger_source="}[5m])', True),
        ('rate(gen_ai_client_token_usage_sum{spanledger_source=~"gateway|"}[5m])', False),
        ("sum by (le, spanledger_source) (rate(gen_ai_client_token_usage_sum[5m]))", False),
        ("rate(spanledger_cost_usd_total[5m])", False),
        ('a{x="}"} + gen_ai_x{spanledger_source="gateway"} / gen_ai_x', True),
    ],
)
def test_a_mixed_expression_is_seen(expr: str, mixes: bool) -> None:
    """The check above distinguishes expressions that select a source from those that do not."""
    assert bool(of_everybody(expr)) is mixes
