"""What a request can use up at a deployment, and on what terms.

The wire reads the request; here is what history and the deployment add to that. A request that asks
for what nothing bounds is refused where a budget blocks.
"""

from __future__ import annotations

from msgspec.structs import replace

from spanledger.pricing.book import SERVICES
from spanledger.pricing.demand import SERVICE_FIELDS, Demand
from spanledger.pricing.price import USUAL, Price, Terms
from spanledger.providers.base import Deployment
from spanledger.routing.history import OutputHistory
from spanledger.wires.base import Ask

NO_HISTORY_TOKENS = 4_096
"""Usual output of a route that has not answered yet."""
MIN_USUAL_TOKENS = 256


def with_history(demand: Demand, history: OutputHistory) -> Demand:
    """The demand with the output to expect where the caller chose no cap: what history says."""
    if demand.cap is not None and not demand.must_cap:
        return demand
    p99 = history.p99()
    usual = NO_HISTORY_TOKENS if p99 is None else max(MIN_USUAL_TOKENS, 2 * p99)
    if demand.cap is not None:
        demand.usual = min(demand.cap, max(demand.usual, usual))
        return demand
    demand.tokens += (usual - demand.usual) * demand.choices
    demand.usual = usual
    return demand


def demand_at(
    callers: Demand, ask: Ask, deployment: Deployment, history: OutputHistory, least: int = 0
) -> Demand:
    """What a request can use up at a deployment: the caller's demand, unless the deployment adds
    to what is sent or takes something away, or raises the cap to the least that it takes."""
    adds = deployment.defaults or deployment.overrides
    if not adds and deployment.drops.isdisjoint(ask.fields):
        # A field under another name costs the same.
        return callers if least == 0 else _raised(callers, least)
    fields = deployment.fields_for(ask.fields, ask.wire.operation)
    added = sum(len(name) + len(bytes(raw)) + 4 for name, raw in deployment.defaults.items())
    added += sum(len(name) + len(bytes(raw)) + 4 for name, raw in deployment.overrides.items())
    demand = with_history(ask.wire.demand(fields, ask.body_bytes + added), history)
    return _raised(demand, least)


def _raised(demand: Demand, least: int) -> Demand:
    if demand.cap is None or demand.cap >= least:
        return demand
    more = (least - demand.usual) * demand.choices
    return replace(demand, cap=least, usual=least, tokens=demand.tokens + more)


def terms_of(
    demand: Demand, deployment: Deployment, unasked: str, dropped: frozenset[str]
) -> Terms:
    """What makes a request's tokens more expensive at a deployment.

    `unasked` is the service tier its answers come at when nobody asks for one, `dropped` the fields
    that it is not sent.
    """
    service = _service(demand, deployment, dropped) or ("" if demand.services else unasked)
    if not (service or demand.sound or demand.speech or demand.unit or demand.unwritten):
        return USUAL
    return Terms(service, demand.sound, demand.speech, demand.unit, demand.units, demand.unwritten)


def unbounded_by(
    demand: Demand, deployment: Deployment, price: Price | None, dropped: frozenset[str]
) -> str:
    """Why nothing bounds what a request costs at a deployment; empty where its hold does."""
    for name, why in demand.unbounded.items():
        if name not in dropped:
            return f"nothing bounds what {name!r} costs: {why}"
    if price is not None and price.units and price.of_unit(demand.unit) is None:
        names = " or ".join(dict.fromkeys(name.partition(" ")[0] for name in price.units))
        return f"model {deployment.model!r} is billed by the {names}, which this request has not"
    service = _service(demand, deployment, dropped)
    if not service or price is None or price.knows(service):
        return ""
    own = "priority" if service == "fast" else service
    keys = f"input_cost_per_token_{own} and output_cost_per_token_{own}"
    return (
        f"model {deployment.model!r} has no price when served as {service!r}: leave out"
        f" {' and '.join(demand.services) or 'service_tier'}"
        + (f", or set {keys} on deployment {deployment.id!r}" if own in SERVICES else "")
    )


def _service(demand: Demand, deployment: Deployment, dropped: frozenset[str]) -> str:
    """The service tier asked for; the deployment's own where the caller says nothing."""
    own = deployment.extra.get("service_tier")
    asked = demand.services
    if not asked and own is None:
        return ""
    found = [asked[name] for name in SERVICE_FIELDS if name in asked and name not in dropped]
    if "service_tier" not in asked and isinstance(own, str):
        found.append(own.lower())
    return " ".join(filter(None, found))
