"""Batches and answers in the background that end before their time, or that the ledger did not learn of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from tests.service.gateway.batch_calls import chat, jsonl, upload
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_unread import Place, answered, bill
from tests.service.gateway.test_unread import place as place
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider

USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


@dataclass
class Scripted:
    """A provider that answers by method and path; `{}` for what it is not told."""

    answers: dict[tuple[str, str], Callable[[], Sent]] = field(default_factory=dict)

    def tell(self, method: str, path: str, body: Any, status: int = 200) -> None:
        """Answer requests to a path."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[method, path] = lambda: Sent(status, data)

    def __call__(self, request: Received) -> Sent:
        return self.answers.get((request.method, request.path), Sent)()


def response(status: str, **more: Any) -> dict[str, Any]:
    """An answer of the Responses API."""
    return {"id": "resp_x", "object": "response", "status": status, "output": [], **more}


def batch(status: str | None, **more: Any) -> dict[str, Any]:
    """A batch."""
    found = {"id": "batch_x", "object": "batch", "endpoint": "/v1/chat/completions", **more}
    return found if status is None else {**found, "status": status}


@pytest.fixture
def scripted() -> Scripted:
    """What a provider is to answer."""
    found = Scripted()
    found.tell("POST", "/v1/responses", response("queued", background=True))
    found.tell("POST", "/v1/files", {"id": "file-in", "object": "file", "purpose": "batch"})
    found.tell("GET", "/v1/files/file-in/content", jsonl(chat(), model="gpt-4o-mini"))
    found.tell("POST", "/v1/batches", batch("validating"))
    return found


@pytest.fixture
def provider(scripted: Scripted) -> Iterator[RawProvider]:
    """The provider."""
    with raw_provider(scripted) as found:
        yield found


def calls(provider: RawProvider) -> list[tuple[str, str]]:
    """What the provider got after the request itself."""
    return [(each.method, each.path) for each in provider.received][1:]


def test_deleting_an_answer_in_progress(place: Place) -> None:
    """It is cancelled first, so the provider writes no more of it, and its hold ends at once."""
    place.sim.state.speed = 1.0
    gateway = place.open()
    request_id, handed = answered(gateway, metadata={"sim": "slow:1000"})
    with gateway.client() as client:
        client.responses.delete(handed)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(handed)
    wait_for(lambda: bill(place) > 0)
    assert [entry.outcome for entry in place.sim.state.bill.entries] == ["cancelled"]
    found = place.attempt(request_id)
    assert (found["state"], found["estimated"]) == ("settled", 1)
    assert found["cost_nano"] == found["expected_nano"] >= bill(place)


def test_it_costs_what_the_provider_says(
    place: Place, scripted: Scripted, provider: RawProvider
) -> None:
    """Where the cancelled answer reports usage, that is charged."""
    gateway = place.open(api_base=f"{provider.url}/v1")
    request_id, handed = answered(gateway)
    scripted.tell("GET", "/v1/responses/resp_x", response("in_progress"))
    scripted.tell("POST", "/v1/responses/resp_x/cancel", response("cancelled", usage=USAGE))
    with gateway.client() as client:
        client.responses.delete(handed)
    one = "/v1/responses/resp_x"
    assert calls(provider) == [("GET", one), ("POST", f"{one}/cancel"), ("DELETE", one)]
    found = place.attempt(request_id)
    assert (found["state"], found["estimated"], found["output_tokens"]) == ("settled", 0, 7)


def test_it_has_just_ended(place: Place, scripted: Scripted, provider: RawProvider) -> None:
    """An answer that ends before it can be cancelled costs what it says."""
    gateway = place.open(api_base=f"{provider.url}/v1")
    request_id, handed = answered(gateway)
    now = iter([response("in_progress"), response("completed", usage=USAGE)])
    one = "/v1/responses/resp_x"
    scripted.answers["GET", one] = lambda: Sent(body=json.dumps(next(now)).encode())
    scripted.tell("POST", f"{one}/cancel", {"error": {"message": "It has ended."}}, 400)
    with gateway.client() as client:
        client.responses.delete(handed)
    found = place.attempt(request_id)
    assert (found["state"], found["output_tokens"]) == ("settled", 7)


@pytest.mark.parametrize(("status", "deleted"), [(405, True), (503, False)])
def test_it_cannot_be_cancelled(
    place: Place, scripted: Scripted, provider: RawProvider, status: int, *, deleted: bool
) -> None:
    """A server that has no cancelling deletes it all the same; one that fails is asked again. The hold
    stays in either case."""
    gateway = place.open(api_base=f"{provider.url}/v1")
    request_id, handed = answered(gateway)
    one = "/v1/responses/resp_x"
    scripted.tell("GET", one, response("in_progress"))
    scripted.tell("POST", f"{one}/cancel", {"error": {"message": "no"}}, status)
    with gateway.client() as client:
        if deleted:
            client.responses.delete(handed)
        else:
            with pytest.raises(openai.InternalServerError):
                client.responses.delete(handed)
    assert (("DELETE", one) in calls(provider)) == deleted
    assert place.attempt(request_id)["state"] == "held"


def test_a_batch_that_the_ledger_did_not_learn_of(
    place: Place, scripted: Scripted, provider: RawProvider
) -> None:
    """Its caller gets an error and will create another one, so it is cancelled at its provider. Once the
    ledger is back, it is charged like any other."""
    away = place.ledger.with_suffix(".away")
    cancelled = batch("cancelled")

    def lost() -> Sent:
        place.ledger.rename(away)
        return Sent(body=json.dumps(batch("validating")).encode())

    scripted.answers["POST", "/v1/batches"] = lost
    scripted.tell("POST", "/v1/batches/batch_x/cancel", cancelled)
    scripted.tell("GET", "/v1/batches/batch_x", cancelled)
    gateway = place.open(api_base=f"{provider.url}/v1")
    with gateway.client() as client:
        file = upload(client, jsonl(chat(), model="gpt"))
        with pytest.raises(openai.InternalServerError) as caught:
            client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
    assert caught.value.status_code == 503
    assert ("POST", "/v1/batches/batch_x/cancel") in calls(provider)
    away.rename(place.ledger)
    request_id = caught.value.response.headers["x-request-id"]
    wait_for(lambda: place.attempt(request_id)["held_until_ns"] > 0)
    assert gateway.later(3_600) == 1
    found = place.attempt(request_id)
    assert (found["state"], found["cost_nano"]) == ("settled", 0)


def created(place: Place, provider: RawProvider) -> tuple[Any, str, str]:
    """A gateway and the ids of a batch: its request's, and its own."""
    gateway = place.open(api_base=f"{provider.url}/v1")
    with gateway.client() as client:
        file = upload(client, jsonl(chat(), model="gpt"))
        raw = client.batches.with_raw_response.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        return gateway, raw.headers["x-request-id"], raw.parse().id


ANSWER = {"status_code": 200, "body": {"usage": USAGE}}
OUTPUT = json.dumps({"custom_id": "r0", "response": ANSWER}).encode() + b"\n"


@pytest.mark.parametrize("status", ["finalizing", "cancelling"])
def test_output_of_a_batch_that_has_not_ended(
    place: Place, scripted: Scripted, provider: RawProvider, status: str
) -> None:
    """What it cost is not known yet, so its output is neither read nor deleted."""
    gateway, request_id, handed = created(place, provider)
    scripted.tell("GET", "/v1/batches/batch_x", batch(status, output_file_id="file-out"))
    scripted.tell("GET", "/v1/files/file-out/content", OUTPUT)
    with gateway.client() as client:
        output = client.batches.retrieve(handed).output_file_id
        for call in (client.files.content, client.files.delete):
            with pytest.raises(openai.BadRequestError, match="has not ended") as caught:
                call(output)
            assert caught.value.code == "batch_not_ended"
    assert ("GET", "/v1/files/file-out/content") not in calls(provider)
    assert place.attempt(request_id)["state"] == "held"


def test_output_of_a_batch_without_a_status(
    place: Place, scripted: Scripted, provider: RawProvider
) -> None:
    """A server that names no status has ended a batch that has its output: it is charged, then read."""
    gateway, request_id, handed = created(place, provider)
    scripted.tell("GET", "/v1/batches/batch_x", batch(None, output_file_id="file-out"))
    scripted.tell("GET", "/v1/files/file-out/content", OUTPUT)
    with gateway.client() as client:
        output = client.batches.retrieve(handed).output_file_id
        assert client.files.content(output).content == OUTPUT
    found = place.attempt(request_id)
    assert (found["state"], found["output_tokens"]) == ("settled", 7)


def test_output_that_cannot_be_charged(
    place: Place, scripted: Scripted, provider: RawProvider
) -> None:
    """Where the route of a batch does not serve it any more, its output stays closed, and the error says
    what to put back."""
    gateway, request_id, handed = created(place, provider)
    scripted.tell("GET", "/v1/batches/batch_x", batch("in_progress", output_file_id="file-out"))
    with gateway.client() as client:
        output = client.batches.retrieve(handed).output_file_id
    scripted.tell("GET", "/v1/batches/batch_x", batch("completed", output_file_id="file-out"))
    other = place.open(gateway.time, api_base=f"{provider.url}/v1", route="renamed")
    with other.client() as client, pytest.raises(openai.BadRequestError, match="put it back"):
        client.files.content(output)
    assert place.attempt(request_id)["state"] == "held"
