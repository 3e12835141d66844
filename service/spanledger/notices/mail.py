"""Notices by mail, over SMTP with STARTTLS or TLS."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256

from spanledger.clock import NANOS
from spanledger.config.notices import MailDestination
from spanledger.ledger.notices import Notice
from spanledger.notices.facts import found_at, sentence
from spanledger.notices.posting import Reply, Watch, reason_of, within

SUBJECT_CHARACTERS = 150


def mail_of(
    destination: MailDestination, notices: Sequence[Notice], ledger_id: str
) -> EmailMessage:
    """Notices as one mail. The same notices make the same `Message-ID`, by which a mail server or a
    reader may recognise that it has come twice."""
    lines = [sentence(notice) for notice in notices]
    message = EmailMessage()
    first = " ".join(lines[0].split())[:SUBJECT_CHARACTERS]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    message["Subject"] = f"[spanledger] {first}{more}"
    message["From"] = destination.sender
    message["To"] = ", ".join(destination.to)
    message["Date"] = format_datetime(datetime.fromtimestamp(notices[0].at_ns // NANOS, UTC))
    digest = sha256(" ".join(notice.id for notice in notices).encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{ledger_id}.spanledger>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        "\n\n".join(
            f"{line}\n  {found_at(notice)}  {notice.id}"
            for line, notice in zip(lines, notices, strict=True)
        )
    )
    return message


def send_mail(
    destination: MailDestination, message: EmailMessage, context: ssl.SSLContext | None = None
) -> Reply:
    """Send a mail.

    Args:
        context: what certificates are trusted; by default the system's.
    """
    with within(destination.timeout_s) as watch:
        try:
            server = _connected(destination, watch, context or ssl.create_default_context())
            try:
                refused = server.send_message(message)
                with suppress(smtplib.SMTPException, OSError):  # it has the mail already
                    server.quit()
            finally:
                server.close()
        except smtplib.SMTPResponseException as error:
            return _refused(error.smtp_code, _text(error.smtp_error), destination)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            return _refused(code, _text(text), destination)
        except smtplib.SMTPException as error:
            return Reply(False, _reason(error, watch, destination))
        except (OSError, ValueError) as error:
            return Reply(False, _reason(error, watch, destination))
    if refused:  # some recipients have got it, so it is not sent again
        names = ", ".join(sorted(refused))
        return Reply(True, f"the server did not accept {names}")
    return Reply(True)


class _Smtp(smtplib.SMTP):
    """Tells the watch of its sockets as soon as they are there: greetings and TLS may hang as well."""

    def __init__(self, watch: Watch, timeout_s: float) -> None:
        self._watch = watch
        super().__init__(timeout=timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> object:
        sock = super()._get_socket(host, port, timeout)  # type: ignore[misc]  # the seam that SMTP_SSL uses
        self._watch.add(sock)
        return sock


class _SmtpTls(_Smtp):
    """The same with TLS from the beginning."""

    def __init__(self, watch: Watch, timeout_s: float, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(watch, timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> object:
        sock = super()._get_socket(host, port, timeout)
        wrapped = self._context.wrap_socket(sock, server_hostname=host)  # type: ignore[arg-type]  # it is a socket
        self._watch.add(wrapped)
        return wrapped


def _connected(destination: MailDestination, watch: Watch, context: ssl.SSLContext) -> smtplib.SMTP:
    """A server that accepts mail: encrypted and logged in, as configured."""
    tls = destination.security == "tls"
    timeout_s = destination.timeout_s
    server = _SmtpTls(watch, timeout_s, context) if tls else _Smtp(watch, timeout_s)
    try:
        server._host = destination.server  # type: ignore[attr-defined]  # for the name in STARTTLS's certificate
        code, text = server.connect(destination.server, destination.whole_port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)
        if destination.security == "starttls":
            server.starttls(context=context)
            watch.add(server.sock)
        if destination.username is not None and destination.password is not None:
            server.login(destination.username, destination.password.get_secret_value())
    except BaseException:
        server.close()
        raise
    return server


def _reason(error: Exception, watch: Watch, destination: MailDestination) -> str:
    if watch.over:
        return f"no answer within {destination.timeout_s:g} s"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"the server does not support it: {error}"
    return reason_of(error)


def _refused(code: int, text: str, destination: MailDestination) -> Reply:
    password = destination.password.get_secret_value() if destination.password else ""
    shown = "" if password and password in text else f": {text}"
    return Reply(False, f"SMTP {code}{shown}")


def _text(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    text = " ".join(text.split())
    return text[:120] if text.isprintable() else "unreadable answer"
