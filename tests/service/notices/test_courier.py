"""What is found arrives: signed, once for each id, and after hours of failures as well. Real receivers over
loopback, a ledger of each kind, and a clock that the test moves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from spanledger.config.notices import AnyDestination, SlackDestination
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.notices import NoticeFigures
from spanledger.notices import courier as courier_module
from spanledger.notices.courier import Courier
from spanledger.notices.senders import sender_of
from tests.service.ledger.stores import cut_off
from tests.service.notices.conftest import DAY, HOUR, SECOND, SECRET, Rig, hook
from tests.support.notice_sink import Answer, NoticeSink

OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 24).decode()
MINUTE = 60 * SECOND


@pytest.fixture
def sink() -> Iterator[NoticeSink]:
    """A receiver."""
    with NoticeSink() as sink:
        yield sink


class Post:
    """A courier, and everything that it needs."""

    def __init__(self, rig: Rig, *destinations: AnyDestination) -> None:
        self.rig = rig
        self.destinations = destinations
        rig.watch(*destinations)
        self.restart()

    def restart(self) -> None:
        """Another process, which knows what the ledger knows."""
        book = self.rig.notices
        ledger_id = book.ledger_id()
        senders = [sender_of(d, ledger_id, self.rig.book.time.now_ns) for d in self.destinations]
        self.courier = Courier(book, senders, time.monotonic, jitter=lambda: 1.0)

    def go(self, later_ns: int = 0) -> None:
        """One round, some time later."""
        clock = self.rig.book.time
        clock.now += later_ns
        self.courier.step(clock.now)
        self.courier.finish(clock.now_ns, 30)
        assert not self.courier.busy

    def states(self, destination: str = "hook") -> list[tuple[str, str, int, str]]:
        """Step, state, attempts and error of each notice for a destination, oldest first."""
        with self.rig.book.store.reports() as reports:
            found = reports.notices(1_000, destination)
        return [(d.notice.step, d.state, d.attempts, d.error) for d in reversed(found)]

    def figures(self) -> list[NoticeFigures]:
        """For `/metrics`."""
        with self.rig.book.store.reports() as reports:
            return reports.notice_figures()


async def reach(post: Post, cents: int, **who: Any) -> None:
    """Spend, and look."""
    await post.rig.spend(cents, **who)
    post.rig.look()


def verified(secret: str, headers: Any, body: bytes) -> bool:
    """As a receiver checks it, by the text of the specification."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")


async def test_a_webhook_is_signed_with_each_secret(rig: Rig, sink: NoticeSink) -> None:
    """So a receiver can change its secret at any time while both are there."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url, secrets=[SECRET, OLD_SECRET], headers={"X-Team": "a b"}))
    await reach(post, 60)
    post.go()
    [received] = sink.received
    assert received.path == "/hooks/canary-path"
    assert received.headers["webhook-timestamp"] == str(rig.book.time.now // SECOND)
    assert received.headers["content-type"] == "application/json; charset=utf-8"
    assert received.headers["x-team"] == "a b"
    assert verified(SECRET, received.headers, received.body)
    assert verified(OLD_SECRET, received.headers, received.body)
    assert not verified(SECRET, received.headers, received.body + b" ")
    body = json.loads(received.body)
    assert body["type"] == "budget.threshold_reached"
    assert body["timestamp"].endswith("Z")
    assert body["data"]["subjects"] == {"customer": "acme"}
    assert post.states() == [("50", "sent", 1, "")]
    post.go(HOUR)
    assert len(sink.received) == 1
    assert post.figures() == [NoticeFigures("hook", 0, 0, 0, 1)]


async def test_a_cloud_event_has_what_it_must_have(rig: Rig, sink: NoticeSink) -> None:
    """Version 1.0, JSON, structured: source and id are unique, and the subject is the account's."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url, format="cloudevents"))
    await reach(post, 99)
    post.go()
    [received] = sink.received
    event = json.loads(received.body)
    assert received.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert event.pop("data")["percent"] == 100
    assert event.pop("time").startswith("2026-11-23T12:00:02")
    assert event == {
        "specversion": "1.0",
        "id": received.headers["webhook-id"],
        "source": f"urn:uuid:{rig.notices.ledger_id()}",
        "type": "spanledger.budget.limit_reached",
        "datacontenttype": "application/json",
        "subject": "acme",
    }
    assert verified(SECRET, received.headers, received.body)


async def test_slack_gets_what_is_found_together_in_one_message(rig: Rig, sink: NoticeSink) -> None:
    """A thousand customers at one moment are not a thousand messages, and no name is markup."""
    rig.book.budget("each", subject="*")
    chat = SlackDestination.model_validate({"name": "chat", "kind": "slack", "url": sink.url})
    post = Post(rig, chat)
    for number in range(25):
        await rig.spend(60, customer=f"<!channel> & {number:02}")
    rig.look()
    post.go()
    texts = [json.loads(received.body)["text"] for received in sink.received]
    assert [text.count("•") for text in texts] == [20, 5]
    whole = "\n".join(texts)
    assert "customer &lt;!channel&gt; &amp; 07) has reached 50 %: $0.60 of $1.00 spent" in whole
    assert {state for _, state, _, _ in post.states("chat")} == {"sent"}


async def test_a_crash_after_sending_repeats_the_same_id(
    rig: Rig, sink: NoticeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver has it, the ledger does not know it: the next process sends the same bytes under the same
    id, and then it is sent."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url))
    await reach(post, 60)
    with monkeypatch.context() as patch:
        patch.setattr(rig.notices, "settle", _crash)
        with pytest.raises(_Crash):
            post.go()
    post.restart()
    rig.watch(*post.destinations)
    post.go()
    post.go(DAY)
    first, second = sink.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert post.states() == [("50", "sent", 1, "")]


class _Crash(BaseException):
    pass


def _crash(_: object) -> None:
    raise _Crash


async def test_an_unavailable_ledger_does_not_lose_the_mark(rig: Rig, sink: NoticeSink) -> None:
    """What was sent is marked once the ledger is back, by the same process, without being sent again."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url))
    await reach(post, 60)
    clock = rig.book.time
    post.courier.step(clock.now)
    await rig.book.ledger.close()
    with cut_off(rig.book.store), pytest.raises(LedgerUnavailableError):
        _finish_checked(post)
    again = rig.book.store.notices()
    post.courier._book = again
    rig.notices.close()
    rig.notices = again
    post.go()
    assert len(sink.received) == 1
    assert post.states() == [("50", "sent", 1, "")]


def _finish_checked(post: Post) -> None:
    """As the service does: a file's connection goes on with a file that has been moved."""
    post.rig.notices.check()
    post.courier.finish(post.rig.book.time.now_ns, 30)


async def test_a_receiver_that_is_down_for_hours_gets_everything(
    rig: Rig, sink: NoticeSink, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets one attempt after growing pauses, another destination gets everything at once, and what was
    found meanwhile arrives in order. The log has two lines, and no secret."""
    caplog.set_level(logging.DEBUG, "spanledger.notices")
    rig.book.budget("each", subject="*")
    with NoticeSink() as other:
        post = Post(rig, hook(url=sink.url), hook("other", url=other.url))
        sink.otherwise = Answer(503, body=b"sorry, no room at /hooks/canary-path")
        for number in range(5):
            await reach(post, 60, customer=f"c{number}")
        attempts = []
        for _ in range(6 * 60):
            post.go(MINUTE)
            attempts.append(len(sink.received))
        assert len(other.received) == 5
        assert attempts[0] >= 1
        assert attempts[-1] <= 9  # 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h
        sink.otherwise = Answer(200)
        before = len(sink.received)
        for _ in range(5 * 60):
            post.go(MINUTE)
        arrived = [received.headers["webhook-id"] for received in sink.received[before:]]
        assert len(arrived) == len(set(arrived)) == 5
        assert {state for _, state, _, _ in post.states()} == {"sent"}
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "destination 'hook': HTTP 503 Service Unavailable; nothing is lost, retrying",
        "destination 'hook' accepts notices again",
    ]


async def test_attempts_end_after_three_days_and_begin_again_on_request(
    rig: Rig, sink: NoticeSink
) -> None:
    """A notice that failed stays listed, and `retry` sends it at once."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url))
    sink.otherwise = Answer(500, body=b"<html>")
    await reach(post, 60)
    for _ in range(40):
        post.go(3 * HOUR)
    [(step, state, attempts, error)] = post.states()
    assert (step, state, error) == ("50", "failed", "HTTP 500 Internal Server Error")
    assert 12 < attempts < 30
    assert post.figures() == [NoticeFigures("hook", 0, 0, 1, 0)]
    sink.otherwise = Answer(200)
    post.go(DAY)
    assert post.states()[0][1] == "failed"
    assert rig.notices.retry(rig.book.time.now, "other") == 0
    assert rig.notices.retry(rig.book.time.now, "hook") == 1
    post.go()
    assert post.states()[0][1] == "sent"


async def test_a_request_to_retry_ends_a_pause(rig: Rig, sink: NoticeSink) -> None:
    """Somebody has repaired the receiver, and does not wait for hours."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url))
    sink.script = [Answer(500)] * 5
    await reach(post, 60)
    for pause_s in (0, 5, 30, 120, 600):
        post.go(pause_s * SECOND)
    assert len(sink.received) == 5
    post.go(MINUTE)
    assert len(sink.received) == 5
    [due] = _listed(rig)
    assert rig.notices.retry(rig.book.time.now, id_prefix=due.notice.id[:20]) == 1
    post.go()
    assert post.states()[0][1:3] == ("sent", 6)


def _listed(rig: Rig) -> list[Any]:
    with rig.book.store.reports() as reports:
        return reports.notices(10)


async def test_a_message_that_is_not_understood_holds_up_no_other(
    rig: Rig, sink: NoticeSink
) -> None:
    """Status 422 is about one message. It is tried again later."""
    rig.book.budget("each", subject="*")
    post = Post(rig, hook(url=sink.url))
    for number in range(3):
        await reach(post, 60, customer=f"c{number}")
    sink.script = [Answer(422, body=b"what is percent?"), Answer(), Answer()]
    post.go()
    assert [state for _, state, _, _ in post.states()] == ["waiting", "sent", "sent"]
    assert post.states()[0][3] == "HTTP 422: what is percent?"
    post.go(10 * SECOND)
    assert [state for _, state, _, _ in post.states()] == ["sent", "sent", "sent"]


async def test_a_receiver_may_say_when(rig: Rig, sink: NoticeSink) -> None:
    """`Retry-After` in seconds, up to six hours."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url))
    sink.script = [Answer(429, {"retry-after": "300"}), Answer(429, {"retry-after": "9999999"})]
    await reach(post, 60)
    post.go()
    post.go(299 * SECOND)
    assert len(sink.received) == 1
    post.go(SECOND)
    assert len(sink.received) == 2
    post.go(6 * HOUR)
    assert len(sink.received) == 3


async def test_a_receiver_that_wants_nothing_more_gets_nothing_more(
    rig: Rig, sink: NoticeSink
) -> None:
    """Status 410, as Standard Webhooks has it: this message has failed for good."""
    rig.book.budget()
    post = Post(rig, hook(url=sink.url))
    sink.script = [Answer(410)]
    await reach(post, 60)
    post.go()
    post.go(DAY)
    assert len(sink.received) == 1
    assert post.states() == [("50", "failed", 1, "HTTP 410 Gone")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(rig: Rig, sink: NoticeSink, status: int) -> None:
    """A message goes where the configuration says, or nowhere."""
    rig.book.budget()
    with NoticeSink() as elsewhere:
        sink.script = [Answer(status, {"location": elsewhere.url})]
        post = Post(rig, hook(url=sink.url))
        await reach(post, 60)
        post.go()
        assert elsewhere.received == []
    assert post.states() == [("50", "waiting", 1, f"HTTP {status} (redirects are not followed)")]


@pytest.mark.parametrize("manner", ["hang", "drip"])
async def test_an_answer_that_never_ends_ends(rig: Rig, sink: NoticeSink, manner: str) -> None:
    """Within the time that an attempt has, whatever the receiver does with it. What comes byte by byte with a good
    status has been accepted."""
    rig.book.budget()
    sink.script = [Answer(500 if manner == "drip" else 200, manner=manner)]
    post = Post(rig, hook(url=sink.url, timeout_s=0.5))
    await reach(post, 60)
    began = time.monotonic()
    post.go()
    assert time.monotonic() - began < 20
    [(_, state, _, error)] = post.states()
    assert state == "waiting"
    assert error in ("no answer within 0.5 s", "timed out", "HTTP 500: xxxxxxxxx", error)
    assert error.startswith(("no answer", "timed out", "HTTP 500"))


async def test_nobody_listens(rig: Rig) -> None:
    """A refused connection is a failure like any other."""
    rig.book.budget()
    post = Post(rig, hook(url="http://127.0.0.1:9/secret-path"))
    await reach(post, 60)
    post.go()
    assert post.states() == [("50", "waiting", 1, "Connection refused")]


async def test_an_error_of_ours_does_not_stop_the_others(
    rig: Rig, sink: NoticeSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the notice waits."""
    rig.book.budget()
    post = Post(rig, hook("broken", url=sink.url), hook(url=sink.url))
    await reach(post, 60)
    broken = post.courier._senders[0]
    monkeypatch.setattr(broken, "send", _raise)
    post.go()
    assert post.states("broken")[0][1] == "waiting"
    assert post.states()[0][1] == "sent"
    assert "a notice cannot be sent" in caplog.text


def _raise(_: object) -> None:
    raise ValueError("ours")


async def test_many_that_wait_are_given_up_together(rig: Rig, sink: NoticeSink) -> None:
    """A receiver that is gone for three days gets one attempt at a time, but all that waits for it ends."""
    rig.book.budget("each", subject="*")
    post = Post(rig, hook(url=sink.url))
    sink.otherwise = Answer(500)
    for number in range(30):
        await rig.spend(60, customer=f"c{number}")
    rig.look()
    for _ in range(16):
        post.go(5 * HOUR)
    assert {state for _, state, _, _ in post.states()} == {"failed"}
    assert len(sink.received) < 20
    assert courier_module.GIVE_UP_S == 3 * DAY // SECOND
