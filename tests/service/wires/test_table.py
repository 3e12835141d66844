"""Which wire is spoken to a deployment follows from the caller's and those that it speaks."""

from __future__ import annotations

import pytest

from spanledger.providers.base import SPOKEN, Deployment
from spanledger.wires import (
    CHAT,
    EMBEDDINGS,
    INBOUND,
    MESSAGES,
    OUTBOUND,
    PATHS,
    dropped,
    operation_of,
    outbound,
)
from spanledger.wires.base import Inbound


@pytest.mark.parametrize(
    ("asked", "spoken", "name"),
    [
        (CHAT, ("chat", "embeddings"), "chat"),
        (CHAT, ("messages", "chat"), "chat"),
        (CHAT, ("messages",), "messages"),
        (EMBEDDINGS, ("embeddings",), "embeddings"),
        (EMBEDDINGS, ("messages",), None),
        (MESSAGES, ("chat", "messages"), "messages"),
        (CHAT, ("embeddings",), None),
    ],
)
def test_the_callers_own_wire_comes_first(
    asked: Inbound, spoken: tuple[str, ...], name: str | None
) -> None:
    """A translation is for deployments that do not speak the caller's wire."""
    wire = outbound(asked, spoken)

    assert (wire and wire.name) == name


def test_what_is_left_out_belongs_to_the_wire() -> None:
    """Fields that are not sent cost nothing there."""
    assert "web_search_options" in dropped(CHAT, ("messages",))
    assert dropped(CHAT, ("chat",)) == frozenset()
    assert dropped(EMBEDDINGS, ("messages",)) == frozenset()


def test_a_deployment_states_its_wires() -> None:
    """They are those of its kind where nothing else is said."""
    usual = Deployment("d", "r", "openai", "openai", "m", "openai/m")
    both = Deployment("d", "r", "openai", "openai", "m", "openai/m", wires=("messages", "chat"))

    assert usual.speaks == ("chat", "embeddings")
    assert both.speaks == ("messages", "chat")


def test_the_table_has_no_loose_ends() -> None:
    """Each row is for a wire that callers speak, and each kind of deployment speaks some row's."""
    names = {wire.name for wire in INBOUND.values()}

    assert {asked for asked, _ in OUTBOUND} == names
    assert all(wire.name == spoken for (_, spoken), wire in OUTBOUND.items())
    assert {name for wires in SPOKEN.values() for name in wires} <= {s for _, s in OUTBOUND}


def test_rows_are_read_by_the_name_of_their_wire() -> None:
    """What telemetry says of a request follows from it; a name of a later version is its own."""
    assert PATHS["chat"] == "/v1/chat/completions"
    assert [operation_of(name) for name in ("chat", "embeddings", "later")] == [
        "chat",
        "embeddings",
        "later",
    ]
