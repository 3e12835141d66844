"""One POST, within a time limit for all of it; no redirect is followed, and only the beginning of the answer is read.

The standard library's client is enough for a message now and then. Its timeouts are for each wait on the
socket, so a watch shuts the socket down when the whole time is over.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MAX_ANSWER_BYTES = 4_096
SHOWN_CHARACTERS = 120
"""Of an answer, in an error."""


class Reply(NamedTuple):
    """What an attempt to send came to.

    Attributes:
        ok: it was accepted.
        error: why not; without anything secret.
        again_s: when the receiver wants the next attempt, in seconds from now.
        about: what a failure is about: everything that goes to this destination, this message alone, or
            this message for good.
    """

    ok: bool
    error: str = ""
    again_s: float = 0.0
    about: str = "destination"


class Watch:
    """Shuts sockets down once the time is over."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.over = False

    def add(self, sock: socket.socket | None) -> None:
        """Watch a socket too."""
        if sock is None:
            return
        with self._lock:
            self._sockets.append(sock)
            if self.over:
                _shut(sock)

    def end(self) -> None:
        """The time is over."""
        with self._lock:
            self.over = True
            for sock in self._sockets:
                _shut(sock)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def within(seconds: float) -> Iterator[Watch]:
    """A watch that ends after some seconds."""
    watch = Watch()
    timer = threading.Timer(seconds, watch.end)
    timer.daemon = True
    timer.start()
    try:
        yield watch
    finally:
        timer.cancel()


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Reply:
    """Send a body; accepted is any status from 200 to 299."""
    request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 - the config takes only http(s)
    with within(timeout_s) as watch:
        try:
            with _opener(url, watch).open(request, timeout=timeout_s) as answer:
                return Reply(True) if 200 <= answer.status < 300 else _refused(answer, url)
        except urllib.error.HTTPError as error:
            with error:
                return _refused(error, url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if watch.over:
                return Reply(False, f"no answer within {timeout_s:g} s")
            return Reply(False, reason_of(error))


def reason_of(error: BaseException) -> str:
    """Why a connection failed, without an address."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "timed out"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or 'unknown reason'}"
    if isinstance(cause, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, http.client.HTTPException):
        return f"its answer is not HTTP ({type(cause).__name__})"
    return f"cannot be reached ({type(cause).__name__})"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: a message must not go where nobody has configured."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_watched, http.client.HTTPConnection, self._watch), req)


class _Tls(urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connect = partial(
            _watched, http.client.HTTPSConnection, self._watch, context=ssl.create_default_context()
        )
        return self.do_open(connect, req)


def _watched(
    kind: type[http.client.HTTPConnection], watch: Watch, host: str, **options: Any
) -> http.client.HTTPConnection:
    """A connection whose sockets are watched, also while TLS is agreed on."""
    connection = kind(host, **options)
    create: Callable[..., socket.socket] = socket.create_connection

    def created(*arguments: Any, **more: Any) -> socket.socket:
        sock = create(*arguments, **more)
        watch.add(sock)
        return sock

    connection._create_connection = created  # type: ignore[attr-defined]  # its own seam, since Python 3.3
    connect = connection.connect

    def connected() -> None:
        connect()
        watch.add(connection.sock)  # TLS has taken the place of the socket

    connection.connect = connected  # type: ignore[method-assign]  # this object's alone
    return connection


def _opener(url: str, watch: Watch) -> urllib.request.OpenerDirector:
    """Proxies as the environment names them, but none for this machine itself."""
    proxies: dict[str, str] | None = {} if _is_here(urlsplit(url).hostname or "") else None
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(proxies),
        _Plain(watch),
        _Tls(watch),
        _NoRedirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_OF_MESSAGE = frozenset({400, 409, 413, 422})
"""Statuses that are about one message: the next one may be accepted."""
_GONE = 410
"""Standard Webhooks: the receiver wants no more."""


def _refused(answer: Any, url: str) -> Reply:
    status = answer.status
    try:
        text = answer.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        text = b""
    about = "destination"
    if status == _GONE:
        about = "for good"
    elif status in _OF_MESSAGE:
        about = "message"
    error = f"HTTP {status}"
    if 300 <= status < 400:
        error += " (redirects are not followed)"
    elif shown := _shown(text, url):
        error += f": {shown}"
    elif phrase := http.client.responses.get(status):
        error += f" {phrase}"
    return Reply(False, error, _seconds(answer.headers.get("retry-after")), about)


def _shown(body: bytes, url: str) -> str:
    """The beginning of an answer, if it is a line of text that does not repeat the URL."""
    text = " ".join(body.decode("utf-8", "replace").split())
    parts = urlsplit(url)
    secret = [part for part in (*parts.path.split("/"), parts.query) if len(part) >= 6]
    if not text.isprintable() or text.startswith("<") or any(part in text for part in secret):
        return ""
    return text[:SHOWN_CHARACTERS]


def _seconds(value: str | None) -> float:
    return float(value) if value and value.strip().isdecimal() and len(value) < 8 else 0.0
