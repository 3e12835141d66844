"""Calls of the files and batches tests, and what the ledger and the simulator say of them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any

import openai

from spanledger.wires.kept_ids import kept_id
from tests.service.gateway.endpoints import Site
from tests.service.gateway.harness import wait_for

ENDED = ("completed", "failed", "expired", "cancelled")


def jsonl(
    *bodies: dict[str, Any], url: str = "/v1/chat/completions", model: str = "cheap"
) -> bytes:
    """The input of a batch."""
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": url, "body": {"model": model, **body}}
        for n, body in enumerate(bodies)
    ]
    return b"\n".join(json.dumps(line).encode() for line in lines)


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    """A request of a batch."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 40, **more}


def upload(client: openai.OpenAI, data: bytes, name: str = "in.jsonl", **more: Any) -> Any:
    """Upload the input of a batch."""
    return client.files.create(file=(name, data), purpose="batch", **more)


def run(
    client: openai.OpenAI, file: str, endpoint: Any = "/v1/chat/completions", **more: Any
) -> Any:
    """Create a batch, and wait until it has ended."""
    batch = client.batches.create(
        input_file_id=file, endpoint=endpoint, completion_window="24h", **more
    )
    wait_for(lambda: client.batches.retrieve(batch.id).status in ENDED)
    return client.batches.retrieve(batch.id)


def row(site: Site, handed: str) -> dict[str, Any]:
    """The attempt behind an id."""
    known = kept_id(handed)
    assert known is not None
    unique = known.request_id
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        connection.row_factory = sqlite3.Row
        query = (
            "SELECT a.*, r.operation, r.cost_nano AS whole_nano, r.outcome FROM attempts a"
            " JOIN requests r USING (request_id) WHERE request_id = ?"
        )
        found = connection.execute(query, (unique,))
        (one,) = [dict(each) for each in found]
        return one


def billed(site: Site, provider_id: str) -> int:
    """What the provider bills for a batch."""
    (entry,) = [entry for entry in site.billed() if entry["id"] == provider_id]
    return int(entry["nano_usd"])


def theirs(handed: str) -> str:
    """The provider's own id."""
    known = kept_id(handed)
    assert known is not None
    return known.provider_id
