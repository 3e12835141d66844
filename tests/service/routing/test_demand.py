"""What is read from a body before money is held, and which fields no hold can cover."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spanledger.errors import UnboundedCostError
from spanledger.pricing.demand import Demand
from spanledger.pricing.price import USUAL, Price, Rates, Schedule, Terms
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Deployment, ProviderKind
from spanledger.routing import demand as read_there
from spanledger.routing.demand import with_history
from spanledger.routing.history import OutputHistory
from spanledger.routing.request import Exchange
from spanledger.wires import CHAT, dropped
from spanledger.wires.base import Answer
from spanledger.wires.bounds import BUILT_IN_TOOL_TOKENS, UNBOUNDED
from tests.service.routing.rig import Site, Step, StrictLedger

RATES = Rates(3, 9, 3, 3, 3, 9)
PRICE = Price("p", RATES, services={"priority": Schedule(RATES), "fast": Schedule(RATES)})
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
OPENAI = Deployment("d", "r", "openai", "openai", "m", "openai/m")
SITE = Site({"a": ["a1"]}, {})


def demand_of(exchange: Exchange) -> Demand:
    """What a request demands of a route that has not answered yet."""
    ask = exchange.ask
    return with_history(ask.wire.demand(ask.fields, ask.body_bytes), OutputHistory())


def terms_of(demand: Demand, deployment: Deployment, unasked: str) -> Terms:
    """What makes a chat's tokens more expensive at a deployment."""
    return read_there.terms_of(demand, deployment, unasked, dropped(CHAT, deployment.speaks))


def unbounded_by(demand: Demand, deployment: Deployment, price: Price) -> str:
    """Why nothing bounds what a chat costs at a deployment."""
    return read_there.unbounded_by(demand, deployment, price, dropped(CHAT, deployment.speaks))


def read(**fields: Any) -> Demand:
    """The demand of a chat with these fields."""
    return demand_of(SITE.exchange(**fields))


def at(kind: ProviderKind, **extra: object) -> Deployment:
    """A deployment behind an adapter."""
    return Deployment("d", "r", kind, "p", "m", "p/m", extra=extra)


def test_a_plain_request_has_plain_terms() -> None:
    """Text, the caller's own functions and harmless fields cost as much as text at the usual
    rates."""
    plain = read(
        tools=[FUNCTION, {"type": "custom", "custom": {"name": "c"}}, {"name": "n"}],
        functions=[{"name": "f"}],
        service_tier="auto",
        speed="standard",
        inference_geo="global",
        modalities=["text"],
        audio=None,
        prediction=None,
        web_search_options=None,
        temperature=0.5,
    )

    assert terms_of(plain, OPENAI, "") is USUAL
    assert unbounded_by(plain, OPENAI, PRICE) == ""
    assert plain.predicted == 0


@pytest.mark.parametrize("name", sorted(UNBOUNDED))
def test_fields_that_nothing_bounds_are_named(name: str) -> None:
    """Each is refused with its name and what to do, and off means off."""
    assert name in unbounded_by(read(**{name: {"x": 1}}), OPENAI, PRICE)
    assert unbounded_by(read(**{name: None}), OPENAI, PRICE) == ""
    assert unbounded_by(read(**{name: False}), OPENAI, PRICE) == ""


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "web_search_preview"},
        {"type": "mcp", "server_url": "https://example.org"},
        {"googleSearch": {}},
        {"type": "function", "google_search": {}},
        {"type": 5},
    ],
    ids=lambda tool: str(tool)[:30],
)
def test_tools_that_run_at_the_provider_are_named(tool: dict[str, Any]) -> None:
    """They read pages and run an unbounded number of rounds; one among functions is enough."""
    assert "'tools'" in unbounded_by(read(tools=[FUNCTION, tool]), OPENAI, PRICE)


def test_tools_of_any_shape_are_read() -> None:
    """Anything but an array of objects is not accepted as functions."""
    for odd in ("all", {"type": "function"}, [5], [[FUNCTION]]):
        assert unbounded_by(read(tools=odd), OPENAI, PRICE)


def test_the_callers_own_built_in_tools_are_bounded() -> None:
    """Anthropic's instructions for a computer are input; the caller does what the tool does."""
    demand = read(tools=[{"type": "computer_20250124", "name": "computer"}])

    assert unbounded_by(demand, at("anthropic"), PRICE) == ""
    plain = read(tools=[{"type": "function", "name": "computer"}])
    assert demand.input_tokens - plain.input_tokens in range(
        BUILT_IN_TOOL_TOKENS, BUILT_IN_TOOL_TOKENS + 10
    )


@pytest.mark.parametrize(
    ("kind", "fields", "service"),
    [
        ("openai", {"service_tier": "priority"}, "priority"),
        ("openai", {"service_tier": "Priority"}, "priority"),
        ("openai", {"service_tier": "flex"}, "flex"),
        ("openai", {"service_tier": "default"}, ""),
        ("openai", {"service_tier": None}, ""),
        ("anthropic", {"service_tier": "priority"}, ""),
        ("anthropic", {"speed": "fast"}, "fast"),
        ("anthropic", {"speed": "fast", "inference_geo": "us"}, "fast us"),
        ("litellm", {"service_tier": "priority", "speed": "fast"}, "priority fast"),
    ],
)
def test_the_service_tier_asked_for(
    kind: ProviderKind, fields: dict[str, Any], service: str
) -> None:
    """What the adapter sends on counts; what costs no more than the usual does not."""
    assert terms_of(read(**fields), at(kind), "").service == service


def test_a_service_tier_without_a_price_is_not_bounded() -> None:
    """The error says what to omit, and which keys set a price if there are such keys."""
    asked = read(service_tier="priority")
    unpriced = Price("p", RATES)

    assert unbounded_by(asked, OPENAI, PRICE) == ""
    assert unbounded_by(asked, at("anthropic"), unpriced) == ""
    said = unbounded_by(asked, OPENAI, unpriced)
    assert "leave out service_tier" in said
    assert "input_cost_per_token_priority" in said
    elsewhere = unbounded_by(read(inference_geo="mars"), at("anthropic"), PRICE)
    assert "leave out inference_geo" in elsewhere
    assert "input_cost" not in elsewhere
    assert unbounded_by(read(service_tier=[1]), OPENAI, PRICE)
    assert unbounded_by(read(), at("litellm", service_tier="turbo"), PRICE)


def test_a_deployments_own_service_tier_counts() -> None:
    """Unless the caller requests another; one that used a tier unrequested is expected to repeat
    that."""
    own = at("litellm", service_tier="priority")

    assert terms_of(read(), own, "") == Terms("priority")
    assert terms_of(read(service_tier="flex"), own, "") == Terms("flex")
    assert terms_of(read(service_tier="default"), own, "") == USUAL
    assert terms_of(read(), OPENAI, "priority") == Terms("priority")
    assert terms_of(read(service_tier="default"), OPENAI, "priority") == USUAL


def test_what_an_adapter_drops_is_no_reason() -> None:
    """Anthropic's adapter sends no `web_search_options`."""
    demand = read(web_search_options={})

    assert unbounded_by(demand, at("anthropic"), PRICE) == ""
    assert unbounded_by(demand, at("litellm"), PRICE)


def test_sound_and_speech_are_told() -> None:
    """They are priced separately."""
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    heard = read(messages=[{"role": "user", "content": [sound]}])
    spoken = read(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})

    assert terms_of(heard, OPENAI, "") == Terms(sound=True)
    assert terms_of(spoken, OPENAI, "") == Terms(speech=True)


def test_an_embedding_of_a_picture_is_not_bounded() -> None:
    """Models that embed images have separate prices for them."""
    text = SITE.exchange(operation="embeddings", input=["data", "text"])
    picture = SITE.exchange(operation="embeddings", input="data:image/png;base64,AAAA")

    assert unbounded_by(demand_of(text), OPENAI, PRICE) == ""
    assert unbounded_by(demand_of(picture), OPENAI, PRICE)


PRIORITY = {
    "input_cost_per_token_priority": "0.000003",
    "output_cost_per_token_priority": "0.000006",
}
BOTH = {"a": [("a1", PRIORITY)]}


async def test_a_service_tier_is_held_and_charged() -> None:
    """The hold covers the higher-priced tier; the answer's tier decides, else the requested one."""
    said = [Step(service=service) for service in ("priority", "default", "")]
    site = Site(BOTH, {"a1": said})
    costs = []
    for _ in said:
        await site.ask(site.exchange(service_tier="priority", max_tokens=10))
        costs.append(site.last.cost_nano)

    bound = demand_of(site.exchange(service_tier="priority")).input_tokens
    assert costs == [60_000, 20_000, 60_000]
    assert site.ledger.asked[0].sizes.full >= bound * 3_000 + 10 * 6_000
    assert '"spanledger.service_tier":"priority"' in site.last.detail


async def test_a_tier_that_came_unasked_is_held_for_from_then_on() -> None:
    """A project may have another default: its first answer shows it, and the next hold covers
    it."""
    site = Site(BOTH, {"a1": [Step(service="priority")]})
    for _ in range(2):
        await site.ask(site.exchange(max_tokens=10))

    first, second = (reservation.sizes.full for reservation in site.ledger.asked)
    assert second == 3 * first
    assert site.last.cost_nano == 60_000


async def test_a_prediction_is_held_as_output() -> None:
    """The part that a model rejects is billed as output, and the cap sent upstream leaves room for
    it."""
    site = Site({"a": ["a1"]}, {}, ledger=StrictLedger(lambda reservation: reservation.sizes.usual))
    prediction = {"type": "content", "content": "x" * 1_000}
    exchange = site.exchange(prediction=prediction)

    await site.ask(exchange)

    size = len(msgspec.json.encode(prediction))
    demand = demand_of(exchange)
    sizes = site.ledger.asked[0].sizes
    assert demand.predicted == size
    assert sizes.least == demand.input_tokens * 1_000 + (16 + size) * 2_000
    assert site.provider.calls[0].max_output_tokens == demand.usual


async def test_what_nothing_bounds_is_served_where_it_can_be() -> None:
    """A refusal for it is about that deployment: a fallback that does not send it may serve."""

    def refuse(reservation: Any) -> int:
        if reservation.unbounded:
            raise UnboundedCostError(reservation.unbounded)
        return int(reservation.sizes.full)

    chain = {"a": ["a1"], "b": ["b1"]}
    site = Site(chain, {}, ledger=StrictLedger(refuse), fallbacks=[{"a": ["b"]}])

    error = await site.ask(site.exchange(web_search_options={}))

    assert isinstance(error, UnboundedCostError)
    assert [reservation.deployment for reservation in site.ledger.asked] == ["a1", "b1"]
    assert site.provider.calls == []
    assert site.outcome == ("error", "unbounded_cost", 400)


async def test_searches_and_speech_are_charged_and_told() -> None:
    """Their counts are on the span, since the cost depends on them."""
    usage = Usage(10, 5, audio_input_tokens=4, audio_output_tokens=3, searches=2)
    spoken = {"input_cost_per_audio_token": "0.00001", "output_cost_per_audio_token": "0.00002"}
    site = Site({"a": [("a1", spoken)]}, {"a1": [Step(usage=usage)]})

    assert isinstance(await site.ask(), Answer)

    assert site.last.cost_nano == 6 * 1_000 + 4 * 10_000 + 2 * 2_000 + 3 * 20_000
    for part in ('audio.input_tokens":4', 'audio.output_tokens":3', 'searches":2'):
        assert f'"spanledger.usage.{part}' in site.last.detail


def test_equal_keys_hide_no_image() -> None:
    """An image that a later key of the same name hides is not held for as text."""
    exchange = SITE.exchange()
    exchange.ask.fields["messages"] = msgspec.Raw(
        b'[{"role":"user","content":[{"type":"image_url","image_url":"https://x/y"}],"content":"x"}]'
    )

    why = unbounded_by(demand_of(exchange), OPENAI, PRICE)

    assert "'content' twice" in why


def test_equal_keys_hide_no_tool() -> None:
    """If a tool has a key twice, only the value that was checked is sent."""
    exchange = SITE.exchange()
    exchange.ask.fields["tools"] = msgspec.Raw(
        b'[{"type": "web_search_preview", "type": "function", "function": {"name": "f"}}]'
    )

    demand = demand_of(exchange)

    assert unbounded_by(demand, OPENAI, PRICE) == ""
    sent = bytes(exchange.ask.fields["tools"])
    assert sent == b'[{"type":"function","function":{"name": "f"}}]'


def test_a_deployments_own_choices_are_held_for() -> None:
    """The limit on `n` is for callers; what a file says is held for as it stands."""
    assert read(n=500).choices == 500
