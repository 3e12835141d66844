"""A mail server for tests: SMTP over loopback, with STARTTLS, TLS and a login.

It speaks as much of RFC 5321, 3207 and 4954 as a client that submits a mail needs.
"""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import NamedTuple, Self


class Mail(NamedTuple):
    """A mail that was accepted."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    login: str


@dataclass
class SmtpSink:
    """The server.

    Args:
        context: with a certificate: it offers STARTTLS, or with `tls` speaks TLS at once.
        login: `user:password` that it requires.
        refused: recipients that it refuses.
        silent: it accepts connections and never says anything.
        rude: it hangs up instead of answering QUIT.
    """

    context: ssl.SSLContext | None = None
    tls: bool = False
    login: str = ""
    refused: tuple[str, ...] = ()
    silent: bool = False
    rude: bool = False
    mails: list[Mail] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.sink = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    sink: SmtpSink


class _Connection(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Server

    def handle(self) -> None:
        """Serve it."""
        self.sink, self.encrypted, self.user = self.server.sink, False, ""
        self.sender = ""
        self.recipients: list[str] = []
        if self.sink.silent:
            self.sink.released.wait(60)
            return
        try:
            if self.sink.tls:
                self._encrypt()
            self._say("220 sink ESMTP")
            self.reader = self.request.makefile("rb", buffering=0)
            while line := self.reader.readline():
                verb, _, rest = line.decode().strip().partition(" ")
                if verb.upper() == "QUIT":
                    if not self.sink.rude:
                        self._say("221 bye")
                    return
                self._obey(verb.upper(), rest)
        except OSError:
            return

    def finish(self) -> None:
        """Close what TLS has taken over as well."""
        self.request.close()

    def _obey(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO":
                self._say("250-sink", *self._offers(), "250 8BITMIME")
            case "STARTTLS":
                self._say("220 go on")
                self._encrypt()
                self.reader = self.request.makefile("rb", buffering=0)
            case "AUTH":
                self._log_in(rest)
            case "MAIL" if self.sink.login and not self.user:
                self._say("530 log in first")
            case "MAIL":
                self.sender, self.recipients = _address(rest), []
                self._say("250 ok")
            case "RCPT" if _address(rest) in self.sink.refused:
                self._say("550 no such mailbox")
            case "RCPT":
                self.recipients.append(_address(rest))
                self._say("250 ok")
            case "DATA":
                self._say("354 go on")
                self._accept()
            case _:
                self._say("250 ok")

    def _offers(self) -> list[str]:
        offers = ["250-AUTH PLAIN"] if self.sink.login else []
        if self.sink.context is not None and not self.encrypted:
            offers.append("250-STARTTLS")
        return offers

    def _encrypt(self) -> None:
        assert self.sink.context is not None
        self.request = self.sink.context.wrap_socket(self.request, server_side=True)
        self.encrypted = True

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.request.sendall(line.encode() + b"\r\n")

    def _log_in(self, rest: str) -> None:
        _, user, password = base64.b64decode(rest.split()[-1]).decode().split("\0")
        if f"{user}:{password}" == self.sink.login:
            self.user = user
            self._say("235 welcome")
        else:
            self._say("535 wrong login")

    def _accept(self) -> None:
        lines = []
        while (line := self.reader.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        self.sink.mails.append(
            Mail(self.sender, self.recipients, message, self.encrypted, self.user)
        )
        self._say("250 queued")


def _address(text: str) -> str:
    return text[text.index("<") + 1 : text.index(">")]
