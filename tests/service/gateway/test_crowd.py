"""Many requests of one caller: they are limited together, and leave room for everybody else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from spanledger.errors import OverloadedError
from spanledger.gateway.crowd import SMALL_BODY_BYTES, Crowd

from .harness import (
    Edge,
    ScriptedLedger,
    chat,
    config_with,
    read_response,
    request,
    running_edge,
    wait_for,
)

GREEDY, OTHER, THIRD, FOURTH = KEYS = "slk_greedy", "slk_other", "slk_third", "slk_fourth"
MAX_BODY = 200_000
IN_FLIGHT = 520_000


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with keys: eight requests in flight, six for one key, one of them still sending."""
    ledger = ScriptedLedger()
    for key in KEYS:
        ledger.add(key, key.removeprefix("slk_"))
    config = config_with(
        max_concurrent_requests=8, max_body_bytes=MAX_BODY, max_body_bytes_in_flight=IN_FLIGHT
    )
    with running_edge(config, ledger) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(edge: Edge) -> Iterator[None]:
    """Whatever happened, all places and bytes are returned."""
    yield
    wait_for(lambda: edge.server.edge.in_flight == 0)
    crowd = edge.server.edge.crowd
    assert (crowd.body_bytes, crowd.keys) == (0, 0)


def test_half_sent_bodies_leave_room(edge: Edge) -> None:
    """A key whose bodies never arrive may not start more of them; another key is served at once."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(edge.connect()) for _ in range(8)]
        refused = 0
        for sock in sockets:
            sock.sendall(_request(GREEDY, b'{"model"', content_length="500"))
        for sock in sockets[1:]:
            answer = read_response(sock)
            assert (answer.status, answer.error["code"]) == (429, "gateway_overloaded")
            assert "still sending" in answer.error["message"]
            refused += 1
        assert refused == 7
        assert edge.post(chat(), authorization=f"Bearer {OTHER}").status == 200


def test_one_key_does_not_take_every_place(edge: Edge) -> None:
    """A key with its full share in flight waits, while another one is served."""
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            sock = stack.enter_context(edge.connect())
            sock.sendall(request(chat("slow"), authorization=f"Bearer {GREEDY}"))
        wait_for(lambda: edge.router.running == 6)
        answer = edge.post(chat(), authorization=f"Bearer {GREEDY}")
        assert (answer.status, answer.error["code"]) == (429, "gateway_overloaded")
        assert "max_concurrent_requests_per_key" in answer.error["message"]
        assert answer.headers["retry-after"] == "1"
        assert edge.post(chat(), authorization=f"Bearer {OTHER}").status == 200


def test_bodies_in_flight_are_bounded_together(edge: Edge) -> None:
    """Large bodies beyond the joint limit are refused and not kept; small ones still pass."""
    large = chat("slow", padding="x" * 150_000)
    with contextlib.ExitStack() as stack:

        def send(key: str) -> socket.socket:
            sock = stack.enter_context(edge.connect())
            sock.sendall(request(large, authorization=f"Bearer {key}"))
            return sock

        for number, key in enumerate((GREEDY, OTHER, THIRD), start=1):
            send(key)
            wait_for(lambda number=number: edge.router.running == number)  # type: ignore[misc]  # bound now
        for key, why in ((GREEDY, "this key's"), (FOURTH, "max_body_bytes_in_flight")):
            answer = read_response(send(key))
            assert (answer.status, answer.error["code"]) == (429, "gateway_overloaded")
            assert why in answer.error["message"]
        for key in (GREEDY, OTHER):
            assert edge.post(chat(), authorization=f"Bearer {key}").status == 200


def test_the_joint_bound_holds_without_keys() -> None:
    """Callers on this machine share the joint limit and have no other."""
    crowd = Crowd(1, 300_000, 100_000, most_upload_bytes=1, largest_upload=1)
    places = [crowd.enter("") for _ in range(5)]
    for place in places:
        place.start_sending()
    for place in places[:3]:
        place.take(100_000)
    with pytest.raises(OverloadedError, match="max_body_bytes_in_flight"):
        places[3].take(100_000)
    places[0].leave()
    places[4].take(100_000)
    for place in places[1:]:
        place.leave()
    assert (crowd.body_bytes, crowd.keys) == (0, 0)


def test_small_bodies_are_not_counted() -> None:
    """Up to the small size a body does not count; beyond it, all of it does."""
    crowd = Crowd(9, 10**6, 1, most_upload_bytes=1, largest_upload=1)
    place = crowd.enter("key")
    place.take(SMALL_BODY_BYTES)
    assert crowd.body_bytes == 0
    place.take(1)
    assert crowd.body_bytes == SMALL_BODY_BYTES + 1
    place.leave()
    assert crowd.body_bytes == 0


def _request(key: str, body: bytes, **headers: str) -> bytes:
    return request(body, authorization=f"Bearer {key}", **headers)
