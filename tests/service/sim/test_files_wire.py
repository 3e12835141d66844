"""The simulated files and batches refuse what the real ones refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.harness import wait_for

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
URL = "/v1/chat/completions"


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    """A simulator."""
    with sim_in_thread() as found:
        yield found


def line(custom_id: str = "a", **changes: Any) -> bytes:
    """A request of a batch."""
    usual = {"custom_id": custom_id, "method": "POST", "url": URL, "body": BODY}
    return json.dumps({**usual, **changes}).encode()


def ended(client: openai.OpenAI, data: bytes, **more: Any) -> Any:
    """A batch of these lines, once it has ended."""
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    asked: dict[str, Any] = {"endpoint": URL, "completion_window": "24h", **more}
    batch = client.batches.create(input_file_id=file.id, **asked)
    wait_for(lambda: client.batches.retrieve(batch.id).status not in ("validating", "in_progress"))
    return client.batches.retrieve(batch.id)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", line() + b"\n" + line(), line(url="/v1/embeddings"), line(method="GET")),
        *(
            line(body={**BODY, "stream": True}),
            line() + b"\n" + line("b", body={**BODY, "model": "o3"}),
        ),
    ],
)
def test_a_batch_that_is_wrong(sim: RunningSim, data: bytes) -> None:
    """It fails when it is validated, and bills nothing."""
    before = sim.state.bill.total.billed_calls
    with openai.OpenAI(base_url=sim.openai_url, api_key="sk-a") as client:
        batch = ended(client, data)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert batch.errors is not None
    assert sim.state.bill.total.billed_calls == before


def test_a_batch_is_one_entry_at_half_the_price(sim: RunningSim) -> None:
    """Its answers are billed together, as its usage says."""
    with openai.OpenAI(base_url=sim.openai_url, api_key="sk-a") as client:
        batch = ended(client, line() + b"\n" + line("b"))
        assert len(client.files.content(batch.output_file_id).text.splitlines()) == 2
    entry = sim.state.bill.entries[-1]
    assert (entry.operation, entry.id, entry.service) == ("batch", batch.id, "batch")
    assert batch.usage.total_tokens == entry.usage.input_tokens + entry.usage.output_tokens
    used = entry.usage
    assert entry.nano_usd * 1000 >= used.input_tokens * 75_000 + used.output_tokens * 300_000


def test_requests_that_are_refused(sim: RunningSim) -> None:
    """Files of another key, of another purpose, with unknown fields, and batches without a window."""
    with (
        openai.OpenAI(base_url=sim.openai_url, api_key="sk-a") as client,
        openai.OpenAI(base_url=sim.openai_url, api_key="sk-b") as other,
    ):
        file = client.files.create(file=("x", b"x"), purpose="user_data")
        with pytest.raises(openai.BadRequestError, match="Not allowed to download"):
            client.files.content(file.id)
        with pytest.raises(openai.NotFoundError):
            other.files.retrieve(file.id)
        with pytest.raises(openai.BadRequestError, match="Unrecognized"):
            client.files.create(file=("x", b"x"), purpose="user_data", extra_body={"model": "m"})
        with pytest.raises(openai.BadRequestError, match="jsonl"):
            client.files.create(file=("x.txt", b"x"), purpose="batch")
        create: Any = client.batches.create
        with pytest.raises(openai.BadRequestError, match="purpose"):
            create(input_file_id=file.id, endpoint=URL, completion_window="24h")
        with pytest.raises(openai.BadRequestError, match="completion_window"):
            ended(client, line(), completion_window="1h")
        with pytest.raises(openai.APIStatusError, match="Cannot cancel"):
            client.batches.cancel(ended(client, line()).id)
