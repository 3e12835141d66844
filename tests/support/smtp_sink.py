"""A mail server for tests: SMTP over loopback, with STARTTLS, TLS and a login.

It speaks as much of RFC 5321, 3207 and 4954 as a client that submits a mail needs.
"""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
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


class SmtpSink:
    """The server.

    Args:
        context: with a certificate: it offers STARTTLS, or with `tls` speaks TLS at once.
        login: `user:password` that it requires.
        refused: recipients that it refuses.
        silent: it accepts connections and never says anything.
        rude: it hangs up instead of answering QUIT.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        tls: bool = False,
        login: str = "",
        refused: tuple[str, ...] = (),
        silent: bool = False,
        rude: bool = False,
    ) -> None:
        self.mails: list[Mail] = []
        self.released = threading.Event()
        sink = self

        class Handler(socketserver.BaseRequestHandler):
            """One connection."""

            def handle(self) -> None:
                """Serve it."""
                if silent:
                    sink.released.wait(60)
                    return
                self.encrypted, self.login = False, ""
                try:
                    if tls:
                        self._encrypt()
                    self._talk()
                except OSError:
                    return

            def finish(self) -> None:
                """Close what TLS has taken over as well."""
                self.request.close()

            def _encrypt(self) -> None:
                assert context is not None
                self.request = context.wrap_socket(self.request, server_side=True)
                self.encrypted = True

            def _say(self, *lines: str) -> None:
                for line in lines:
                    self.request.sendall(line.encode() + b"\r\n")

            def _talk(self) -> None:
                self._say("220 sink ESMTP")
                self.reader = self.request.makefile("rb", buffering=0)
                sender = ""
                recipients: list[str] = []
                while line := self.reader.readline():
                    text = line.decode().strip()
                    verb = text.upper().split(" ", 1)[0]
                    if verb in ("EHLO", "HELO"):
                        offers = ["250-sink"]
                        if context is not None and not self.encrypted:
                            offers.append("250-STARTTLS")
                        if login:
                            offers.append("250-AUTH PLAIN")
                        self._say(*offers, "250 8BITMIME")
                    elif verb == "STARTTLS":
                        self._say("220 go on")
                        self._encrypt()
                        self.reader = self.request.makefile("rb", buffering=0)
                    elif verb == "AUTH":
                        self._authenticate(text)
                    elif verb == "MAIL":
                        if login and not self.login:
                            self._say("530 log in first")
                            continue
                        sender = _address(text)
                        recipients = []
                        self._say("250 ok")
                    elif verb == "RCPT":
                        address = _address(text)
                        if address in refused:
                            self._say("550 no such mailbox")
                            continue
                        recipients.append(address)
                        self._say("250 ok")
                    elif verb == "DATA":
                        self._say("354 go on")
                        self._take(sender, recipients)
                    elif verb == "QUIT":
                        if not rude:
                            self._say("221 bye")
                        return
                    else:
                        self._say("250 ok")

            def _authenticate(self, text: str) -> None:
                given = base64.b64decode(text.split()[-1]).decode().split("\0")
                if ":".join(given[1:]) == login:
                    self.login = given[1]
                    self._say("235 welcome")
                else:
                    self._say("535 wrong login")

            def _take(self, sender: str, recipients: list[str]) -> None:
                lines = []
                while (line := self.reader.readline()) != b".\r\n":
                    lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
                message = message_from_bytes(b"".join(lines), policy=policy.default)
                mail = Mail(sender, recipients, message, self.encrypted, self.login)
                sink.mails.append(mail)
                self._say("250 queued")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
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


def _address(text: str) -> str:
    return text[text.index("<") + 1 : text.index(">")]
