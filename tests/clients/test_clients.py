"""People's packages at a real gateway: base URL and key changed, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.sim.audio_wire import TOKEN_BYTES
from spanledger.sim.host import RunningSim
from tests.clients.install import installed, missing_program
from tests.clients.site import WAYS, Site
from tests.clients.table import CLIENTS, FAILING, MEDIA, Client, Task


def cases() -> list[Any]:
    """Every task of every client on every way."""
    return [
        pytest.param(
            client, task, way, id=f"{client.name}-{task}-{way}", marks=_marks(client, task, way)
        )
        for client in CLIENTS
        for way in WAYS[client.ways]
        for task in client.tasks
    ]


def _marks(client: Client, task: str, way: str) -> list[pytest.MarkDecorator]:
    if not installed(client.environment).is_dir():
        why = missing_program(client.environment) or "its installation failed"
        return [pytest.mark.skip(reason=f"{client.environment} is not installed: {why}")]
    return [
        pytest.mark.xfail(reason=why, strict=True)
        for (name, *rest), why in FAILING.items()
        if name == client.name
        and all(a in ("*", b) for a, b in zip(rest, (task, way), strict=True))
    ]


@pytest.mark.parametrize(("client", "task", "way"), cases())
def test_a_client(site: Site, client: Client, task: Task, way: str) -> None:
    """The client gets what the provider wrote, and the ledger has who asked, on which wire, and its price."""
    tried = site.tried(client)
    assert (task, way) in tried.said, tried.output[-20_000:]
    said = tried.said[task, way]
    assert not said.error, said.error
    rows = site.requests(client, said)
    bill = site.billed(said)

    if client.wire == "media":
        _check_media(task, said, bill)
    else:
        _check_answer(site.sim, task, said)
    assert rows
    assert {row["operation"] for row in rows} == {MEDIA.get(task, client.wire)}
    assert {row["outcome"] for row in rows} == {"ok"}
    assert {row["route"] for row in rows} == {WAYS[client.ways][way]}
    assert {row["stream"] for row in rows} == {1} or task != "streamed"
    for row in rows:
        first, *later = row["tries"]
        assert [first["error_type"], len(later)] == (
            ["", 0] if way == "direct" else ["rate_limited", 1]
        )
    charged = [one for row in rows for one in row["tries"] if one["state"] == "settled"]
    assert [_counts(one) for one in charged] == [
        (one["usage"]["input_tokens"], one["usage"]["output_tokens"], one["nano_usd"])
        for one in bill
    ]
    assert not any(one["estimated"] or one["unpriced"] for one in charged)


def _counts(attempt: dict[str, Any]) -> tuple[int, int, int]:
    return attempt["input_tokens"], attempt["output_tokens"], attempt["cost_nano"]


def _check_answer(sim: RunningSim, task: str, said: Any) -> None:
    choices = [choice for answer in list(sim.state.written) for choice in answer.choices]
    texts = [choice.text for choice in choices if choice.text]
    calls = [[c.name, json.loads(c.arguments)] for choice in choices for c in choice.calls]
    if task == "streamed":
        assert said.pieces
        assert "".join(said.pieces) in texts
        assert len([piece for piece in said.pieces if piece]) > 1
    elif task == "structured":
        assert said.data in [arguments for _, arguments in calls] or said.data in map(_read, texts)
    else:
        assert said.text in texts
    if task == "tool":
        assert said.calls
        assert all(call in calls for call in said.calls)


def _check_media(task: Task, said: Any, bill: list[dict[str, Any]]) -> None:
    (entry,) = bill
    if task == "speech":
        assert said.data == entry["usage"]["output_tokens"] * TOKEN_BYTES > 0
    elif task == "edit":
        assert said.data == 2
    else:
        assert (said.text or "".join(said.pieces)).startswith("word ")
        assert said.pieces is None or len(said.pieces) > 1


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
