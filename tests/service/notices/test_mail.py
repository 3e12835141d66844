"""Mail over a real connection: encrypted, logged in, once, and within its time."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from spanledger.budgets.accounts import AccountKey
from spanledger.config.notices import MailDestination
from spanledger.ledger.notices import Notice
from spanledger.notices.facts import trial
from spanledger.notices.mail import mail_of, send_mail
from spanledger.notices.posting import Reply
from tests.service.providers.proxying import certificate
from tests.support.smtp_sink import SmtpSink

LEDGER = "6a0f6d2c-0000-5000-8000-000000000000"
HOST = "localhost"


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own, and a client's that trusts it."""
    public, server = certificate(tmp_path, HOST)
    return server, ssl.create_default_context(cafile=str(public))


def destination(port: int, **settings: Any) -> MailDestination:
    """A destination at the sink."""
    whole = {
        "name": "mail",
        "kind": "mail",
        "server": HOST,
        "port": port,
        "sender": "spanledger@example.com",
        "to": ["ops@example.com", "cfo@example.com"],
    }
    return MailDestination.model_validate(whole | settings)


def notice(number: int, subject: str = "acme") -> Notice:
    """A step of an account."""
    account = AccountKey("b", "customer", "month", "UTC", 0, subject)
    data = (
        f'{{"budget": "b", "subjects": {{"customer": "{subject}"}}, "percent": 50,'
        ' "spent_usd": "0.50", "limit_usd": "1.00", "period_end": null, "refuses": false}'
    )
    return Notice(f"notice_{number:032x}", account, "50", 1_795_435_200 * 10**9, 0, data)


def send(to: MailDestination, *notices: Notice, context: ssl.SSLContext | None = None) -> Reply:
    """Send notices as one mail."""
    return send_mail(to, mail_of(to, notices or (notice(1),), LEDGER), context)


def test_starttls_and_a_login(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The password is not sent before the connection is encrypted, and the mail is whole."""
    with SmtpSink(tls[0], login="ada:canary-password") as sink:
        to = destination(sink.port, username="ada", password="canary-password")
        assert send(to, notice(1), notice(2, "Ünïté"), context=tls[1]) == Reply(True)
    [mail] = sink.mails
    assert (mail.encrypted, mail.login) == (True, "ada")
    assert mail.sender == "spanledger@example.com"
    assert mail.recipients == ["ops@example.com", "cfo@example.com"]
    assert mail.message["Subject"] == (
        "[spanledger] Budget b (customer acme) has reached 50 %: $0.50 of $1.00 spent. (and 1 more)"
    )
    assert mail.message["Message-ID"].endswith(f"@{LEDGER}.spanledger>")
    assert mail.message["Auto-Submitted"] == "auto-generated"
    text = mail.message.get_content()
    assert "Budget b (customer Ünïté) has reached 50 %" in text
    assert notice(2).id in text


def test_the_same_notices_have_the_same_message_id() -> None:
    """A mail that is sent again after a crash can be recognised."""
    to = destination(1)
    first, second = (mail_of(to, [notice(1), notice(2)], LEDGER) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"]
    assert mail_of(to, [notice(1)], LEDGER)["Message-ID"] != first["Message-ID"]


def test_tls_from_the_beginning(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """As on port 465."""
    with SmtpSink(tls[0], tls=True) as sink:
        assert send(destination(sink.port, security="tls"), context=tls[1]) == Reply(True)
    assert sink.mails[0].encrypted


def test_without_encryption_only_on_request() -> None:
    """For a relay on the same machine."""
    with SmtpSink() as sink:
        assert send(destination(sink.port, security="none")) == Reply(True)
        reply = send(destination(sink.port))
    assert not sink.mails[0].encrypted
    assert len(sink.mails) == 1
    assert reply.error.startswith("the server does not support it: STARTTLS")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_nobody_trusts_is_refused(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], security: str
) -> None:
    """Nothing is sent to it, least of all a password."""
    with SmtpSink(tls[0], tls=security == "tls", login="ada:canary-password") as sink:
        to = destination(sink.port, security=security, username="ada", password="canary-password")
        reply = send(to)
    assert not reply.ok
    assert reply.error.startswith("its certificate is not accepted: ")
    assert sink.mails == []


def test_a_wrong_password_is_not_shown(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The server's answer says what is wrong."""
    with SmtpSink(tls[0], login="ada:right") as sink:
        to = destination(sink.port, username="ada", password="canary-password")
        reply = send(to, context=tls[1])
    assert reply == Reply(False, "SMTP 535: wrong login")


def test_one_of_two_recipients_is_enough() -> None:
    """Who has got the mail does not get it again each time that the other one does not."""
    with SmtpSink(refused=("cfo@example.com",)) as sink:
        reply = send(destination(sink.port, security="none"))
    assert reply == Reply(True, "the server did not accept cfo@example.com")
    assert sink.mails[0].recipients == ["ops@example.com"]


def test_nobody_to_deliver_to_is_a_failure() -> None:
    """It is tried again."""
    with SmtpSink(refused=("cfo@example.com", "ops@example.com")) as sink:
        reply = send(destination(sink.port, security="none"))
    assert reply == Reply(False, "SMTP 550: no such mailbox")


def test_a_server_that_hangs_up_after_the_mail_has_it() -> None:
    """A rude end is not a failure, which would send the mail again."""
    with SmtpSink(rude=True) as sink:
        assert send(destination(sink.port, security="none")) == Reply(True)
    assert len(sink.mails) == 1


def test_a_server_that_says_nothing_is_left() -> None:
    """Within the time that an attempt has."""
    with SmtpSink(silent=True) as sink:
        began = time.monotonic()
        reply = send(destination(sink.port, security="none", timeout_s=0.5))
        assert time.monotonic() - began < 20
    assert not reply.ok
    assert reply.error in ("no answer within 0.5 s", "timed out")


def test_no_server_at_all() -> None:
    """A refused connection is a failure like any other."""
    assert send(destination(9, security="none")) == Reply(False, "Connection refused")


def test_a_test_message_is_a_mail_too() -> None:
    """`notices test` sends it."""
    to = destination(1)
    mail = mail_of(to, [trial(LEDGER, "mail", 10**18)], LEDGER)
    assert mail["Subject"] == "[spanledger] Test: spanledger can reach this destination."
