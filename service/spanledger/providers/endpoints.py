"""Where requests to a deployment go, and what their heads say: made once, used for every request.

Knows addresses and headers, and opens no connections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from yarl import URL

from spanledger import __version__
from spanledger.errors import ProviderError
from spanledger.providers.base import Deployment
from spanledger.providers.own_secrets import basic_auth

_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})


class Destination(NamedTuple):
    """Who a connection leads to."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True)
class Endpoint:
    """Where requests go.

    Attributes:
        headers: names in lower case.
    """

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    method: str = "POST"

    @cached_property
    def destination(self) -> Destination:
        """Who the request is for."""
        url = self.url
        return Destination(url.scheme, url.raw_host or "", url.port or _PORTS[url.scheme])

    @cached_property
    def head(self) -> bytes:
        """The head of a request, up to the length of its body."""
        return self._head(self.url.raw_path_qs, {})

    @cached_property
    def address(self) -> str:
        """Scheme, host and port."""
        return str(self.url.origin())

    def head_for_proxy(self, authorization: str | None) -> bytes:
        """The same for a proxy that forwards the request."""
        bare = self.url.with_user(None).with_fragment(None)
        said = {"proxy-authorization": authorization} if authorization else {}
        return self._head(str(bare), said)

    def request(self, head: bytes, body: bytes) -> bytes:
        """A complete request with one of these heads."""
        if not body and self.method in _WITHOUT_BODY:
            return head + b"\r\n"
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)

    def _head(self, path: str, extra: Mapping[str, str]) -> bytes:
        lines = [f"{self.method} {path} HTTP/1.1", f"host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        return "\r\n".join((*lines, "")).encode()

    @property
    def _host(self) -> str:
        url = self.url
        name = (url.raw_host or "").removesuffix(".")
        shown = f"[{name}]" if ":" in name else name
        port = url.port
        return shown if port in (None, _PORTS[url.scheme]) else f"{shown}:{port}"


def make_target(deployment: Deployment, url: str, headers: Mapping[str, str]) -> Endpoint:
    """Raises ProviderError if the deployment's `api_base`, key or headers cannot be used."""
    given = {
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": f"spanledger/{__version__}",
    }
    given |= {name.lower(): value for name, value in headers.items()}
    if any(not value.isprintable() for value in headers.values()):
        raise ProviderError(
            "authentication_failed",
            f"deployment {deployment.id!r}: its api_key has characters that are not allowed in"
            " HTTP headers",
        )
    if not all(map(_TOKEN.fullmatch, given)):
        raise ProviderError(
            "connection_error",
            f"deployment {deployment.id!r}: a name in its headers has characters that are not"
            " allowed there",
        )
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in _PORTS or not parsed.host:
        raise ProviderError(
            "connection_error",
            f"deployment {deployment.id!r}: its api_base is not an http or https URL",
        )
    if (basic := basic_auth(url)) and "authorization" not in given:
        given["authorization"] = basic
    return Endpoint(parsed, given)
