"""Web searches of OpenAI's models: each is charged its fee, whichever way the answer is read."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.service.gateway.batch_calls import jsonl, run, upload
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_responses import ResponsesSite
from tests.service.gateway.test_responses import site as site

FEE_NANO = 25_000_000
"""Of one search by gpt-4.1."""
ASKED: dict[str, Any] = {
    "model": "first",
    "input": "Search the web for the weather in Bern.",
    "tools": [{"type": "web_search"}],
}


def charged(site: ResponsesSite) -> list[tuple[Any, ...]]:
    """Id, cost, whether estimated, and detail of every attempt that was charged."""
    query = "SELECT request_id, cost_nano, estimated, detail FROM attempts WHERE cost_nano > 0"
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        return list(connection.execute(query))


def whole(client: openai.OpenAI) -> None:
    """The answer at once."""
    client.responses.create(**ASKED)


def streamed(client: openai.OpenAI) -> None:
    """The answer as a stream, to its end."""
    with client.responses.stream(**ASKED) as stream:
        done = [event.type for event in stream]
    assert "response.output_item.done" in done


def background(client: openai.OpenAI) -> None:
    """The answer later."""
    started = client.responses.create(**ASKED, background=True)
    wait_for(lambda: client.responses.retrieve(started.id).status == "completed")


def batch(client: openai.OpenAI) -> None:
    """The answer as a line of a batch."""
    asked = {name: value for name, value in ASKED.items() if name != "model"}
    data = jsonl(asked, url="/v1/responses", model="first")
    assert run(client, upload(client, data).id, "/v1/responses").status == "completed"


@pytest.mark.parametrize("ask", [whole, streamed, background, batch])
def test_a_search_has_a_fee(site: ResponsesSite, ask: Callable[[openai.OpenAI], None]) -> None:
    """The ledger has the two searches of the provider's bill, and not the page that was opened."""
    before = len(site.billed())
    known = {row[0] for row in charged(site)}
    with site.client("free") as client:
        ask(client)
    wait_for(lambda: len(site.billed()) > before)
    bill = [entry for entry in site.billed()[before:] if entry["billed"]]
    assert [entry["usage"]["searches"] for entry in bill] == [2]
    assert bill[0]["nano_usd"] > 2 * FEE_NANO

    wait_for(lambda: len(charged(site)) > len(known))
    (row,) = [row for row in charged(site) if row[0] not in known]
    assert row[1:3] == (bill[0]["nano_usd"], 0)
    if ask is not batch:
        assert json.loads(row[3])["spanledger.usage.searches"] == 2


def test_a_broken_stream_pays_for_its_searches(site: ResponsesSite) -> None:
    """What was searched before the stream broke is charged, although its usage never came."""
    known = {row[0] for row in charged(site)}
    broken = {"sim": "cut:5"}
    with site.client("free") as client, pytest.raises(openai.APIError):
        list(client.responses.create(**ASKED, stream=True, metadata=broken))
    wait_for(lambda: len(charged(site)) > len(known))
    (row,) = [row for row in charged(site) if row[0] not in known]
    assert row[1] > 2 * FEE_NANO
    assert row[2] == 1
