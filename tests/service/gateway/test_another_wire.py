"""The gateway serves a wire that is not OpenAI's by what that wire says, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from spanledger.wires import INBOUND
from spanledger.wires.base import Problem
from spanledger.wires.openai.chat import Chat
from tests.service.gateway.harness import Edge, chat, config_with, running_edge

PATH = "/v1/postcards"


class Postcards(Chat):
    """A wire with errors, events and an end of its own."""

    name = "postcards"
    path = PATH
    end = b"event: bye\ndata: {}\n\n"

    def error(self, problem: Problem) -> bytes:
        """A body of another shape."""
        shown = {"kind": problem.category, "text": problem.message, "told": problem.told}
        return json.dumps({"sorry": shown}).encode()

    def error_event(self, problem: Problem) -> bytes:
        """An event with a name."""
        return b"event: sorry\ndata: " + self.error(problem) + b"\n\n"


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway that serves the wire as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(INBOUND, PATH, Postcards())
        with running_edge(config_with()) as running:
            yield running


def test_answers_are_served(edge: Edge) -> None:
    """The request is read by the wire of its path."""
    answer = edge.post(chat(), PATH)

    assert answer.status == 200
    assert edge.router.seen[-1].ask.wire.name == "postcards"


def test_a_stream_ends_as_the_wire_does(edge: Edge) -> None:
    """Its own end mark, or its own error."""
    whole = edge.post(chat(stream=True), PATH).body
    broken = edge.post(chat("break-in-stream", stream=True), PATH).body

    assert whole.endswith(Postcards.end)
    assert b"[DONE]" not in whole + broken
    assert b'event: sorry\ndata: {"sorry": {"kind": "server"' in broken


@pytest.mark.parametrize(
    ("route", "status", "kind"),
    [
        ("broke", 429, "quota"),
        ("bug", 500, "server"),
        ("provider-rate_limited", 429, "rate_limit"),
        ("nowhere", 404, "invalid_request"),
    ],
)
def test_errors_are_in_its_shape(edge: Edge, route: str, status: int, kind: str) -> None:
    """Errors of budget, gateway, provider and caller all have the wire's own shape."""
    answer = edge.post(chat(route), PATH)

    assert (answer.status, answer.json()["sorry"]["kind"]) == (status, kind)


def test_a_providers_own_words_are_in_its_shape(edge: Edge) -> None:
    """They are relayed as data, for the wire to write."""
    told = edge.post(chat("provider-invalid_request"), PATH).json()["sorry"]["told"]

    assert told == {"message": "their text", "code": "theirs"}


def test_bodies_and_methods_are_refused_in_its_shape(edge: Edge) -> None:
    """Also before a request could be read."""
    assert edge.post(b"{", PATH).json()["sorry"]["kind"] == "invalid_request"
    assert edge.get(PATH).json()["sorry"]["kind"] == "invalid_request"
