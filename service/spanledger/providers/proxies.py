"""Proxies and CA bundles: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`.

The usual variables, read as curl, requests and httpx read them; lower case wins over upper case.
Servers on this machine are never called through a proxy, which would look for them on its own
machine. This module opens no connections.

Sources: curl's manual on `NO_PROXY` and CURLOPT_NOPROXY; `should_bypass_proxies` of requests for
networks; BerriAI/litellm#2127, #10014 and #11616.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from spanledger.errors import ConfigError

_SCHEMES = ("http", "https")
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy for requests to URLs of one scheme.

    Attributes:
        url: without user and password.
        authorization: the value of `Proxy-Authorization`, if it requires one.
        variable: the variable that set it.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)
    variable: str = ""


@dataclass(frozen=True, slots=True)
class WayOut:
    """How requests leave this machine.

    Attributes:
        proxies: by the scheme of the requested URL.
        direct: the entries of `NO_PROXY`.
        ca_path: certificates to trust instead of the system's.
    """

    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    direct: tuple[str, ...] = ()
    ca_path: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> WayOut:
        """Read the usual variables.

        Raises:
            ConfigError: one of them cannot be used; ignoring it would send requests another way.
        """
        proxies = {}
        for scheme in _SCHEMES:
            proxy = _proxy(environ, scheme)
            if proxy is not None:
                proxies[scheme] = proxy
        given = _variable(environ, "no_proxy")[1]
        direct = tuple(entry.lower() for entry in given.replace(",", " ").split())
        return cls(proxies, direct, _ca_path(environ))

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy for requests to a URL; None: direct."""
        if not self.proxies:
            return None
        parts = urlsplit(url)
        proxy = self.proxies.get(parts.scheme)
        host = (parts.hostname or "").lower()
        if proxy is None or is_loopback(host) or self._is_direct(host, parts.port, parts.scheme):
            return None
        return proxy

    def describe(self) -> list[str]:
        """One line for each setting that differs from the default, without passwords."""
        direct = f", except to {', '.join(self.direct)}" if self.direct else ""
        lines = [
            f"{scheme} requests to providers go through the proxy {proxy.url}"
            f" ({proxy.variable}){direct}"
            for scheme, proxy in self.proxies.items()
        ]
        if self.ca_path is not None:
            lines.append(f"provider certificates are verified against {self.ca_path}")
        return lines

    def _is_direct(self, host: str, port: int | None, scheme: str) -> bool:
        actual = port or (443 if scheme == "https" else 80)
        return any(_matches(entry, host, actual) for entry in self.direct)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `NO_PROXY` names a host: itself, its domain, or its network."""
    if entry == "*":
        return True
    address = _address(host)
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*").lstrip(".").rstrip(".")
    host = host.rstrip(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _split_port(entry: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]`, `[v6]:port` or `v6`."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isdecimal() else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable's name as it is set, and its value; both empty if it is not set."""
    for spelling in (name, name.upper()):
        if value := environ.get(spelling, "").strip():
            return spelling, value
    return "", ""


def _proxy(environ: Mapping[str, str], scheme: str) -> Proxy | None:
    variable, value = _variable(environ, f"{scheme}_proxy")
    if not value:
        variable, value = _variable(environ, "all_proxy")
    if not value:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in _SCHEMES or not host:
        what = f"{parts.scheme} proxies are not supported" if host else "not the URL of a proxy"
        raise ConfigError(
            f"{variable}: {what}; set it to http://HOST:PORT, or unset it to connect directly"
        )
    shown = f"[{host}]" if ":" in host else host
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(f"{parts.scheme}://{shown}:{port}", authorization, variable)


def _ca_path(environ: Mapping[str, str]) -> str | None:
    for variable in CA_VARIABLES:
        if path := environ.get(variable):
            if not Path(path).exists():
                raise ConfigError(f"{variable}: {path!r} does not exist; correct it, or unset it")
            return path
    return None
