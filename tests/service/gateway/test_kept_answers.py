"""Answers that a provider keeps: found again by their own customer, at the deployment that has them."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import openai
import pytest

from spanledger.sim.server import sim_in_thread
from spanledger.wires.answer_ids import answer_id
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_messages import board
from tests.service.gateway.test_responses import HELLO, ResponsesSite, configuration
from tests.service.gateway.test_responses import site as site
from tests.support.ledgers import store_at


@pytest.mark.parametrize("stream", [False, True])
def test_read_list_and_delete(site: ResponsesSite, *, stream: bool) -> None:
    """An answer is read, its input is listed, and it is deleted, by the id that its caller got."""
    with site.client() as client:
        answer: Any = client.responses.create(model="gpt", input=HELLO, stream=stream)
        if stream:
            events = list(answer)
            assert {e.response.id for e in events if hasattr(e, "response")} == {
                events[-1].response.id
            }
            answer = events[-1].response
        read = client.responses.retrieve(answer.id)
        items = client.responses.input_items.list(answer.id, limit=5, order="asc").data
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            client.responses.cancel(answer.id)
        client.responses.delete(answer.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(answer.id)

    assert (read.id, read.output_text) == (answer.id, answer.output_text)
    assert len(items) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_continued(site: ResponsesSite, *, stream: bool) -> None:
    """The next answer knows the one before, names it as the caller does, and is held and paid whole."""
    with site.client() as client:
        first = client.responses.create(model="gpt", input=HELLO, metadata={"sim": "tokens:5000"})
        before = len(site.billed())
        raw = client.responses.with_raw_response.create(
            model="gpt",
            input="And now?",
            previous_response_id=first.id,
            stream=stream,
            max_output_tokens=16,
        )
        answer: Any = raw.parse()
        answer = list(answer)[-1].response if stream else answer

    assert answer.previous_response_id == first.id
    assert first.usage is not None
    assert answer.usage.input_tokens > first.usage.total_tokens
    site.check(raw.headers["x-request-id"], before)


@pytest.mark.parametrize("customer", ["free", "team"])
def test_an_answer_is_its_owners_alone(site: ResponsesSite, customer: str) -> None:
    """To another customer, or another team, it does not exist; to another key of theirs it does."""
    with site.client() as owner, site.client(customer) as other, site.client("twin") as twin:
        answer = owner.responses.create(model="gpt", input=HELLO)
        for call in (other.responses.retrieve, other.responses.delete, other.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                call(answer.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.input_items.list(answer.id)
        with pytest.raises(openai.BadRequestError) as caught:
            other.responses.create(model="gpt", input=HELLO, previous_response_id=answer.id)
        assert caught.value.code == "previous_response_not_found"
        assert twin.responses.retrieve(answer.id).output_text == answer.output_text


@pytest.mark.parametrize("named", ["resp_1", "resp_0123456789abcdef01234567_resp_1", "nothing/.."])
def test_ids_that_are_not_ours(site: ResponsesSite, named: str) -> None:
    """An id that no row vouches for opens nothing, a provider's own least of all."""
    with site.client() as client:
        answer = client.responses.create(model="gpt", input=HELLO)
        theirs = answer.id.split("_", 2)[2]
        for unknown in (named, theirs):
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(unknown)
            with pytest.raises(openai.BadRequestError):
                client.responses.create(model="gpt", input=HELLO, previous_response_id=unknown)


def test_an_id_of_two_answers_is_nobodys(site: ResponsesSite) -> None:
    """One's own request vouches for its own answer alone: not for another customer's."""
    with site.client() as owner, site.client("free") as other:
        theirs = owner.responses.create(model="gpt", input=HELLO).id.split("_", 2)[2]
        mine = other.responses.create(model="gpt", input=HELLO).id.split("_", 2)
        mixed = f"resp_{mine[1]}_{theirs}"
        for call in (other.responses.retrieve, other.responses.delete, other.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                call(mixed)
        with pytest.raises(openai.NotFoundError):
            other.responses.input_items.list(mixed)
        with pytest.raises(openai.BadRequestError) as caught:
            other.responses.create(model="gpt", input=HELLO, previous_response_id=mixed)
        assert caught.value.code == "previous_response_not_found"


def test_an_answer_is_not_charged_as_another(site: ResponsesSite) -> None:
    """One in the background stays held until it is read itself, not a cheaper one in its name."""
    before = len(site.billed())
    with site.client() as client:
        cheap = client.responses.create(model="gpt", input=HELLO, max_output_tokens=16)
        dear = client.responses.create(
            model="gpt", input=HELLO, background=True, metadata={"sim": "tokens:900"}
        )
        request, own = dear.id.split("_", 2)[1:]
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(f"resp_{request}_{cheap.id.split('_', 2)[2]}")
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(f"resp_{cheap.id.split('_', 2)[1]}_{own}")
        wait_for(lambda: client.responses.retrieve(dear.id).status == "completed")

    ((cost, _, estimated, _, output, _),) = site.attempts(f"req_{request}")
    assert (output, estimated) == (900, 0)
    assert cost == max(entry["nano_usd"] for entry in site.billed()[before:])


def test_no_fallback_loses_what_was_said(site: ResponsesSite) -> None:
    """A failing provider's error is the answer: another account does not know what came before."""
    with site.client() as client:
        first = client.responses.create(model="first", input=HELLO)
        board(site, "503", model="gpt-4.1")
        try:
            with pytest.raises(openai.InternalServerError) as caught:
                client.responses.create(model="first", input=HELLO, previous_response_id=first.id)
        finally:
            board(site)
    assert caught.value.response.headers["x-spanledger-attempts"] == "1"


def test_an_answer_of_a_fallback_is_continued_there(site: ResponsesSite) -> None:
    """The account that answered continues, although the route's own deployment is well again."""
    board(site, "503", model="gpt-4.1")
    try:
        with site.client() as client:
            first = client.responses.create(model="first", input=HELLO)
    finally:
        board(site)
    with site.client() as client:
        raw = client.responses.with_raw_response.create(
            model="first", input=HELLO, previous_response_id=first.id
        )
        assert raw.headers["x-spanledger-deployment"] == "d-second"
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="gpt", input=HELLO, previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_here"


@pytest.mark.parametrize("customer", ["free", "rich"])
def test_background_answers(site: ResponsesSite, customer: str) -> None:
    """They are held until they are read complete, and then cost what the provider bills, once."""
    before = len(site.billed())
    with site.client(customer) as client:
        raw = client.responses.with_raw_response.create(
            model="gpt", input=HELLO, background=True, max_output_tokens=500
        )
        unique = raw.headers["x-request-id"]
        assert raw.headers["x-spanledger-cost-usd"] == "0.00"
        queued = raw.parse()
        answer = queued
        while answer.status in ("queued", "in_progress"):
            answer = client.responses.retrieve(queued.id)
        assert client.responses.retrieve(queued.id).output_text == answer.output_text

    (row,) = site.attempts(unique)
    (bill,) = [entry["nano_usd"] for entry in site.billed()[before:] if entry["billed"]]
    assert answer.output_text
    assert row[0] == bill > 0
    assert row[1] >= row[0]
    assert row[2] == 0


@pytest.mark.parametrize("way", ["continue", "delete", "count"])
def test_background_answers_that_are_used_unread(site: ResponsesSite, way: str) -> None:
    """Who continues an answer knows it, and who deletes it leaves no other way to tell its cost: it
    is charged as if it had been read."""
    before = len(site.billed())
    with (
        site.client("rich") as client,
        openai.OpenAI(base_url=f"{site.sim_url}/v1", api_key="sk-sim") as sim,
    ):
        raw = client.responses.with_raw_response.create(
            model="gpt", input=HELLO, background=True, metadata={"sim": "tokens:3000"}
        )
        unique, answer = raw.headers["x-request-id"], raw.parse()
        known = answer_id(answer.id)
        assert known is not None
        wait_for(lambda: sim.responses.retrieve(known.provider_id).status == "completed")
        (bill,) = [entry["nano_usd"] for entry in site.billed()[before:] if entry["billed"]]
        if way == "continue":
            client.responses.create(model="gpt", input="Repeat it.", previous_response_id=answer.id)
        elif way == "count":
            client.responses.input_tokens.count(model="gpt", previous_response_id=answer.id)
        else:
            client.responses.delete(answer.id)

    ((cost, _, held, *_),) = site.attempts(unique)
    assert (cost, held) == (bill, 0)


def test_a_background_answer_that_nobody_reads(site: ResponsesSite) -> None:
    """Until then it is not charged: its hold stays, also after its request has ended."""
    with site.client("rich") as client:
        raw = client.responses.with_raw_response.create(model="gpt", input=HELLO, background=True)
    query = (
        "SELECT a.state, a.cost_nano, a.expected_nano, a.hold_nano, r.outcome FROM attempts a"
        " JOIN requests r USING (request_id) WHERE request_id = ?"
    )
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        found = connection.execute(query, (raw.headers["x-request-id"],)).fetchone()
    state, cost, expected, hold, outcome = found
    assert (state, cost, outcome) == ("held", 0, "ok")
    assert 0 < expected <= hold


def test_ids_survive_a_restart(tmp_path: Path) -> None:
    """Another gateway on the same ledger finds an answer, and continues it."""
    ledger = tmp_path / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {"rich": records.create_key("rich", "", [], 1)[0]}
    records.close()
    with sim_in_thread() as sim:
        config = configuration(sim.url, ledger)
        with (
            Running(config) as url,
            ResponsesSite(url, sim.url, ledger, keys).client() as client,
        ):
            answer = client.responses.create(model="gpt", input=HELLO)
        with (
            Running(config) as url,
            ResponsesSite(url, sim.url, ledger, keys).client() as client,
        ):
            again = client.responses.retrieve(answer.id)
            client.responses.create(model="gpt", input=HELLO, previous_response_id=answer.id)
    assert again.output_text == answer.output_text
