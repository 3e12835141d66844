"""Keys at the edge: who is let in, which ledger reads happen, and what open mode refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator
from typing import cast

import pytest

from spanledger.clock import Clock
from spanledger.errors import AuthenticationError, LedgerUnavailableError
from spanledger.gateway import auth as auth_module
from spanledger.gateway.auth import Authenticator
from spanledger.ledger.ports import Ledger

from .harness import Edge, ScriptedLedger, chat, config_with, request, running_edge

KEY = "slk_" + "a1" * 20
NARROW = "slk_" + "b2" * 20


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with keys."""
    ledger = ScriptedLedger()
    ledger.add(KEY, "acme")
    ledger.add(NARROW, "globex", routes=("echo", "other/route"))
    with running_edge(config_with(), ledger) as running:
        yield running


class ManualTime:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> Clock:
        """A `Clock` that reads that time."""
        return Clock(monotonic=lambda: self.now, rng=random.Random(1))


def bearer(key: str) -> dict[bytes, bytes]:
    """Headers with a key."""
    return {b"authorization": b"Bearer " + key.encode(), b"host": b"localhost"}


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"api_key": KEY},
        {"x_api_key": KEY},
    ],
)
def test_key_decides_the_customer(edge: Edge, headers: dict[str, str]) -> None:
    """A key is accepted from each header that clients use, and wins over the customer header."""
    assert edge.post(chat(), **headers, x_spanledger_customer="mallory").status == 200
    start = edge.router.seen[-1].start
    assert start.customer == "acme"
    assert start.key_id == edge.ledger.keys[hashlib.sha256(KEY.encode()).hexdigest()].id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer slk_wrong"},
        {"authorization": "Bearer sk-something-else"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer slk_" + "x" * 5000},
        {"authorization": "Bearer \xff\xfe"},
    ],
)
def test_no_key_or_wrong_key(edge: Edge, headers: dict[str, str]) -> None:
    """Without a known key: 401, nothing routed, nothing booked, and the key is not echoed."""
    seen, rejected = len(edge.router.seen), len(edge.router.rejected)
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        answer = edge.post(chat(), path, **headers)
        assert answer.status == 401
        assert answer.error["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-should-retry"] == "false"
        assert b"slk_wrong" not in answer.body
    assert edge.get("/v1/models").status == 401
    assert (len(edge.router.seen), len(edge.router.rejected)) == (seen, rejected)


def test_wrong_key_is_refused_before_the_body(edge: Edge) -> None:
    """The refusal is sent before the body arrives, and only the key's digest is looked up."""
    wrong = "slk_" + "c3" * 20
    lookups, has_keys = len(edge.ledger.lookups), edge.ledger.has_keys_calls
    head = request(b"", authorization=f"Bearer {wrong}", content_length="1000000")
    answer = edge.send(head)
    assert answer.status == 401
    assert edge.ledger.lookups[lookups:] == [hashlib.sha256(wrong.encode()).hexdigest()]
    assert edge.ledger.has_keys_calls == has_keys


def test_routes_of_a_key(edge: Edge) -> None:
    """A key limited to routes sees and uses only those; other attempts are booked."""
    narrow = {"authorization": f"Bearer {NARROW}"}
    assert edge.post(chat("echo"), **narrow).status == 200
    answer = edge.post(chat("slow"), **narrow)
    assert (answer.status, answer.error["code"]) == (403, "permission_denied")
    exchange, error = edge.router.rejected[-1]
    assert (exchange.start.route, error.error_type) == ("slow", "permission_denied")
    assert exchange.start.customer == "globex"
    listed = edge.get("/v1/models", **narrow).json()["data"]
    assert [model["id"] for model in listed] == ["echo", "other/route"]
    assert edge.get("/v1/models/slow", **narrow).status == 403


async def test_lookups_are_cached_and_revocation_is_seen() -> None:
    """A key costs one read per second; a revoked key stops working within that second."""
    ledger, time = ScriptedLedger(), ManualTime()
    ledger.add(KEY, "acme")
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    for _ in range(5):
        assert (await auth.identify(bearer(KEY))).customer == "acme"
    assert len(ledger.lookups) == 1
    digest = ledger.lookups[0]
    ledger.keys[digest] = dataclasses.replace(ledger.keys[digest], revoked_ns=5)
    time.now = 1.5
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            await auth.identify(bearer(KEY))
    assert len(ledger.lookups) == 2


async def test_flood_of_wrong_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong keys are cached up to a limit and evict no valid key."""
    monkeypatch.setattr(auth_module, "MAX_CACHED_KEYS", 10)
    ledger, time = ScriptedLedger(), ManualTime()
    ledger.add(KEY, "acme")
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    await auth.identify(bearer(KEY))
    for number in range(50):
        with pytest.raises(AuthenticationError):
            await auth.identify(bearer(f"slk_{number}"))
    assert len(auth._refused) == 10
    await auth.identify(bearer(KEY))
    assert ledger.lookups.count(ledger.lookups[0]) == 1


async def test_open_mode_ends_with_the_first_key() -> None:
    """Callers without a key are served until a key exists, and never if other machines can reach
    us."""
    ledger, time = ScriptedLedger(), ManualTime()
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    exposed = Authenticator(cast("Ledger", ledger), time.clock(), "0.0.0.0", "default")
    local = {b"host": b"127.0.0.1:4000"}
    assert (await auth.identify(local)).customer == "default"
    assert (await auth.identify({**local, b"authorization": b"Bearer sk-any"})).key_id == ""
    assert ledger.has_keys_calls == 1
    with pytest.raises(AuthenticationError):
        await exposed.identify(local)
    ledger.add(KEY, "acme")
    time.now = 1.5
    with pytest.raises(AuthenticationError):
        await auth.identify(local)


async def test_ledger_down_lets_nobody_in() -> None:
    """If the ledger cannot identify a caller, nobody is served, and the next request asks again."""
    ledger, time = ScriptedLedger(), ManualTime()
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    ledger.down = True
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError):
            await auth.identify({b"host": b"localhost"})
        with pytest.raises(LedgerUnavailableError):
            await auth.identify(bearer(KEY))
    ledger.down = False
    assert (await auth.identify({b"host": b"localhost"})).customer == "default"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:80"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"x_forwarded_for": "127.0.0.1, 203.0.113.7"},
        {"x_real_ip": "2001:db8::7"},
        {"forwarded": 'for=127.0.0.1;proto=https, for="[2001:db8::7]:4711"'},
        {"forwarded": "by=proxy"},
    ],
)
def test_open_mode_refuses_web_pages(headers: dict[str, str]) -> None:
    """A page whose name resolves to this machine, or of another origin, cannot spend money here;
    neither can requests through a proxy that other machines can reach."""
    with running_edge(config_with()) as edge:
        answer = edge.post(chat(), **headers)
        assert (answer.status, answer.error["code"]) == (403, "permission_denied")
        assert edge.get("/metrics", **headers).status == 403
        assert not edge.router.seen
        assert edge.post(chat(), host="[::1]:4000", origin="http://localhost:3000").status == 200
        near = {"x_forwarded_for": "127.0.0.1, ::1", "forwarded": 'for="[::1]:4711";proto=http'}
        assert edge.post(chat(), **near).status == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [("acme-1.eu@x", 200), ("*", 400), ("a" * 129, 400), ("a b", 400), ("a\tb", 400), ("ä", 400)],
)
def test_customer_header_in_open_mode(name: str, status: int) -> None:
    """Without keys the caller may name the customer, within a safe alphabet."""
    with running_edge(config_with()) as edge:
        answer = edge.post(chat(), x_spanledger_customer=name)
        assert answer.status == status
        if status == 200:
            assert edge.router.seen[-1].start.customer == name


async def test_a_key_in_use_needs_no_look_up_while_attempts_are_journaled() -> None:
    """During such an outage a key that was used within the hour is accepted, as long as it goes on
    being used; an idle one and an unknown one are not."""
    time, ledger = ManualTime(), ScriptedLedger()
    ledger.add(KEY, "acme")
    ledger.add(NARROW, "globex")
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    for key in (KEY, NARROW):
        await auth.identify(bearer(key))
    ledger.down = True
    time.now += 10
    with pytest.raises(LedgerUnavailableError):
        await auth.identify(bearer(KEY))
    ledger.journaling = True
    looked_up = len(ledger.lookups)
    for _ in range(4):
        assert (await auth.identify(bearer(KEY))).customer == "acme"
        time.now += auth_module.KNOWN_FOR_S / 2
    assert len(ledger.lookups) == looked_up
    for key in (NARROW, "slk_" + "c3" * 20):
        with pytest.raises(LedgerUnavailableError):
            await auth.identify(bearer(key))


async def test_an_open_gateway_stays_open_while_attempts_are_journaled() -> None:
    """Where no key exists, local callers are served in such an outage as before."""
    time, ledger = ManualTime(), ScriptedLedger()
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    here = {b"host": b"localhost"}
    assert (await auth.identify(here)).customer == "default"
    ledger.down = ledger.journaling = True
    time.now += 10
    assert (await auth.identify(here)).customer == "default"


async def test_a_key_in_use_is_accepted_when_reads_fail_before_a_commit_has() -> None:
    """Nobody's hold has found out yet that the ledger is down: it must get the chance, or all callers
    get 503 although their budgets allow spending meanwhile."""
    time, ledger = ManualTime(), ScriptedLedger()
    ledger.add(KEY, "acme")
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    await auth.identify(bearer(KEY))
    ledger.down = ledger.journal_has_room = True
    time.now += 10
    assert (await auth.identify(bearer(KEY))).customer == "acme"
    with pytest.raises(LedgerUnavailableError):
        await auth.identify(bearer("slk_" + "c3" * 20))
    ledger.down = False
    ledger.keys.clear()
    time.now += 10
    with pytest.raises(AuthenticationError):
        await auth.identify(bearer(KEY))


async def test_an_open_gateway_stays_open_when_reads_fail_before_a_commit_has() -> None:
    """The same where no key exists."""
    time, ledger = ManualTime(), ScriptedLedger()
    auth = Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")
    here = {b"host": b"localhost"}
    await auth.identify(here)
    ledger.down = ledger.journal_has_room = True
    time.now += 10
    assert (await auth.identify(here)).customer == "default"


LATER_NS = 1_800_000_000 * 10**9
"""When keys in these tests end; the monotonic clock begins a minute before."""


class BothClocks(ManualTime):
    """The wall clock moves with the monotonic one."""

    def clock(self) -> Clock:
        """A `Clock` that reads both."""
        return Clock(
            monotonic=lambda: self.now,
            now_ns=lambda: LATER_NS - 60 * 10**9 + int(self.now * 1e9),
            rng=random.Random(1),
        )


def authenticator(ledger: ScriptedLedger, time: ManualTime) -> Authenticator:
    """One of a gateway that serves this machine."""
    return Authenticator(cast("Ledger", ledger), time.clock(), "127.0.0.1", "default")


def ending(ledger: ScriptedLedger, how: str) -> None:
    """Create the key, which ends at `LATER_NS`."""
    ledger.add(KEY, "acme")
    (digest,) = ledger.keys
    if how == "expires":
        ledger.keys[digest] = dataclasses.replace(ledger.keys[digest], expires_ns=LATER_NS)
    else:
        ledger.replaced[digest] = LATER_NS


ENDS = [
    ("expires", r"the key key_[0-9a-f]{12} expired on 2027-01-15 08:00:00 UTC; ask for a new one"),
    (
        "is replaced",
        r"key_[0-9a-f]{12} has a new secret, and this one stopped working on 2027-01-15",
    ),
]


@pytest.mark.parametrize(("how", "message"), ENDS)
@pytest.mark.parametrize("journaling", [False, True])
async def test_a_secret_ends_on_time(how: str, message: str, journaling: bool) -> None:
    """To the moment, although it was looked up just before, and also in an outage that a journal
    bridges; then the answer says so, and the ledger is asked once a second at most."""
    ledger, time = ScriptedLedger(), BothClocks()
    ending(ledger, how)
    auth = authenticator(ledger, time)
    time.now = 59.5
    assert (await auth.identify(bearer(KEY))).customer == "acme"
    ledger.down = ledger.journaling = ledger.journal_has_room = journaling
    time.now = 59.999
    assert (await auth.identify(bearer(KEY))).customer == "acme"
    time.now = 60.0
    looked_up = len(ledger.lookups)
    if journaling:
        with pytest.raises(LedgerUnavailableError):
            await auth.identify(bearer(KEY))
        return
    for _ in range(3):
        with pytest.raises(AuthenticationError, match=message):
            await auth.identify(bearer(KEY))
    assert len(ledger.lookups) == looked_up + 1


async def test_a_journal_bridges_up_to_the_end_of_a_key() -> None:
    """Within an outage each use lengthens the time without a look-up, but never beyond the end."""
    ledger, time = ScriptedLedger(), BothClocks()
    ending(ledger, "expires")
    auth = authenticator(ledger, time)
    await auth.identify(bearer(KEY))
    ledger.down = ledger.journal_has_room = True
    for time.now in (10.0, 30.0, 59.9):
        assert (await auth.identify(bearer(KEY))).customer == "acme"
    time.now = 60.0
    with pytest.raises(LedgerUnavailableError):
        await auth.identify(bearer(KEY))


async def test_a_later_end_works_at_once() -> None:
    """A key that had expired is served within a second after it got another end."""
    ledger, time = ScriptedLedger(), BothClocks()
    ending(ledger, "expires")
    auth = authenticator(ledger, time)
    time.now = 100.0
    with pytest.raises(AuthenticationError):
        await auth.identify(bearer(KEY))
    (digest,) = ledger.keys
    ledger.keys[digest] = dataclasses.replace(ledger.keys[digest], expires_ns=None)
    time.now += auth_module.CACHE_TTL_S
    assert (await auth.identify(bearer(KEY))).customer == "acme"


async def test_keys_of_another_gateway_are_looked_up() -> None:
    """Imported ones have any form. While no key exists, what looks like one is not looked at."""
    ledger, time = ScriptedLedger(), ManualTime()
    auth = authenticator(ledger, time)
    assert (await auth.identify(bearer("sk-litellm"))).customer == "default"
    assert ledger.lookups == []
    ledger.add("sk-litellm", "acme")
    time.now = 1.5
    assert (await auth.identify(bearer("sk-litellm"))).customer == "acme"
    for _ in range(3):
        with pytest.raises(AuthenticationError, match="send a spanledger key as"):
            await auth.identify(bearer("sk-unknown"))
    assert len(ledger.lookups) == 2
