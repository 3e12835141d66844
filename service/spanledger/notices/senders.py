"""One sender for each kind of destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from spanledger import __version__
from spanledger.clock import NANOS
from spanledger.config.notices import (
    AnyDestination,
    MailDestination,
    SlackDestination,
    WebhookDestination,
)
from spanledger.ledger.notices import Notice
from spanledger.notices import messages
from spanledger.notices.mail import mail_of, send_mail
from spanledger.notices.posting import Reply, post

NOTICES_AT_ONCE = 20
"""Notices in one message for people: what is found together does not become a flood."""
USER_AGENT = f"spanledger/{__version__}"


class Sender(Protocol):
    """Sends to one destination.

    Attributes:
        most: notices in one message.
    """

    name: str
    most: int

    def send(self, notices: Sequence[Notice]) -> Reply:
        """Make one attempt; never raises for what the other side does."""
        ...


class WebhookSender:
    """Signed webhooks, one notice each."""

    most = 1

    def __init__(
        self, destination: WebhookDestination, ledger_id: str, now_ns: Callable[[], int]
    ) -> None:
        self.name = destination.name
        self._destination = destination
        self._secrets = [secret.get_secret_value() for secret in destination.secrets]
        self._ledger_id = ledger_id
        self._now_ns = now_ns

    def send(self, notices: Sequence[Notice]) -> Reply:
        """See `Sender`."""
        [notice] = notices
        destination = self._destination
        if destination.format == "cloudevents":
            body = messages.cloud_event(notice, self._ledger_id)
            content = "application/cloudevents+json; charset=utf-8"
        else:
            body, content = messages.standard(notice), "application/json; charset=utf-8"
        timestamp_s = self._now_ns() // NANOS
        headers = {
            **{name: value.get_secret_value() for name, value in destination.headers.items()},
            "content-type": content,
            "user-agent": USER_AGENT,
            "webhook-id": notice.id,
            "webhook-timestamp": str(timestamp_s),
        }
        if self._secrets:
            signed = messages.signatures(self._secrets, notice.id, timestamp_s, body)
            headers["webhook-signature"] = signed
        return post(destination.url.get_secret_value(), body, headers, destination.timeout_s)


class SlackSender:
    """Slack's incoming webhooks, several notices in one message."""

    most = NOTICES_AT_ONCE

    def __init__(self, destination: SlackDestination) -> None:
        self.name = destination.name
        self._destination = destination

    def send(self, notices: Sequence[Notice]) -> Reply:
        """See `Sender`."""
        destination = self._destination
        headers = {"content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT}
        body = messages.slack(notices)
        return post(destination.url.get_secret_value(), body, headers, destination.timeout_s)


class MailSender:
    """Mail, several notices in one."""

    most = NOTICES_AT_ONCE

    def __init__(self, destination: MailDestination, ledger_id: str) -> None:
        self.name = destination.name
        self._destination = destination
        self._ledger_id = ledger_id

    def send(self, notices: Sequence[Notice]) -> Reply:
        """See `Sender`."""
        mail = mail_of(self._destination, notices, self._ledger_id)
        return send_mail(self._destination, mail)


def sender_of(destination: AnyDestination, ledger_id: str, now_ns: Callable[[], int]) -> Sender:
    """The sender for a destination."""
    if isinstance(destination, WebhookDestination):
        return WebhookSender(destination, ledger_id, now_ns)
    if isinstance(destination, SlackDestination):
        return SlackSender(destination)
    return MailSender(destination, ledger_id)
