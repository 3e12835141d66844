"""How gently a gateway asks for what nobody has read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.routing import unread
from spanledger.routing.attempt import LATE_ANSWER_S
from spanledger.routing.batches import HOLD_S
from spanledger.routing.unread import FIRST_S, LAST_S, MOST_S, PAUSE_S, wait_s
from tests.service.gateway.test_unread import HOUR, Place, answered
from tests.service.gateway.test_unread import place as place
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider


class Asked:
    """A provider that counts what it is asked at once; `reply` answers a question."""

    def __init__(self) -> None:
        self.reply = Sent(body=json.dumps({"id": "r", "status": "in_progress"}).encode())
        self.open = self.most = self.questions = 0

    def __call__(self, request: Received) -> Sent:
        if request.method == "POST":
            body = {"id": "resp_x", "object": "response", "status": "queued", "output": []}
            return Sent(body=json.dumps({**body, "background": True}).encode())
        self.open += 1
        self.questions += 1
        self.most = max(self.most, self.open)
        time.sleep(0.02)
        self.open -= 1
        return self.reply


@pytest.fixture
def asked() -> Iterator[tuple[Asked, RawProvider]]:
    """A provider whose answers are all in progress."""
    counted = Asked()
    with raw_provider(counted) as provider:
        yield counted, provider


def test_few_at_once(
    place: Place, asked: tuple[Asked, RawProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look asks a limited number of questions, few of them at the same time."""
    monkeypatch.setattr(unread, "MAX_ASKED", 9)
    counted, provider = asked
    gateway = place.open(api_base=f"{provider.url}/v1")
    for _ in range(12):
        answered(gateway)
    gateway.later(HOUR)
    assert counted.questions == 9
    assert 1 < counted.most <= unread.AT_ONCE
    gateway.look()
    assert counted.questions == 12


@pytest.mark.parametrize("reply", [Sent(429, headers=(("retry-after", "600"),)), Sent(503)])
def test_a_provider_that_refuses_is_left_alone(
    place: Place, asked: tuple[Asked, RawProvider], reply: Sent
) -> None:
    """After a refusal the deployment is not asked for a minute, or for as long as it says."""
    counted, provider = asked
    counted.reply = reply
    gateway = place.open(api_base=f"{provider.url}/v1")
    for _ in range(20):
        answered(gateway)
    gateway.later(HOUR)
    refused = counted.questions
    assert refused <= unread.AT_ONCE
    gateway.time.ahead_s += PAUSE_S - 5
    gateway.look()
    assert counted.questions == refused
    gateway.time.ahead_s += 600
    gateway.look()
    assert counted.questions > refused


def test_a_deployment_that_cools_down_is_left_alone(
    place: Place, asked: tuple[Asked, RawProvider]
) -> None:
    """A cooldown holds for these questions as well."""
    counted, provider = asked
    gateway = place.open(api_base=f"{provider.url}/v1")
    answered(gateway)
    built = gateway.running.built
    assert built is not None
    state = built.router.health.states["d-gpt"]
    state.cooling_until = time.monotonic() + 10 * HOUR
    gateway.later(HOUR)
    assert counted.questions == 0


@given(
    kind=st.sampled_from(["answer", "batch"]),
    ready=st.floats(0, 1),
    first=st.floats(0, 1),
)
def test_when_it_is_asked_for(kind: str, ready: float, first: float) -> None:
    """Whenever a result is ready, it is asked for before its hold ends, at the latest an hour and a
    round later or a quarter of its age, and never more than sixty times."""
    hold_s = LATE_ANSWER_S if kind == "answer" else HOLD_S
    ready_s = ready * (hold_s - LAST_S)
    now = FIRST_S[kind] + first * 60
    asked = 1
    while now < ready_s:
        now += max(wait_s(kind, now, hold_s - now), unread.ROUND_S)
        asked += 1
    assert now <= hold_s
    assert now - ready_s <= max(FIRST_S[kind] + 60, min(MOST_S, ready_s / unread.SHARE)) + 60
    assert asked <= 90
