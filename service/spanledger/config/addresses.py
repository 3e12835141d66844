"""What an address of each kind looks like; nothing is resolved or opened.

The checks raise ValueError with what to write instead. Addresses are shown without credentials.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def sqlite_file(url: str) -> Path:
    """The file that a ledger's URL names; a URL without a scheme is the path itself."""
    if url and not _SCHEME.match(url):
        return Path(url)
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise ValueError(
            f"{without_secrets(url)!r} is not supported; write sqlite:///PATH"
            " (four slashes for an absolute path)"
        )
    return Path(path)


def ledger_url(url: str) -> str:
    """The URL, if it names a ledger."""
    sqlite_file(url)
    return url


def collector_url(url: str) -> str:
    """The URL, if spans and metrics can be sent to it."""
    if not _is_http(url):
        raise ValueError(
            f"{without_secrets(url)!r} is not an http(s) URL; write it like http://localhost:4318"
        )
    return url


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is not a number, or half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def listening_host(host: str) -> str:
    """The host, unless it can be neither an address nor a name."""
    bare = host.strip("[]")
    if ":" in bare and not _is_ip(bare):
        raise ValueError(
            f"{host!r} is neither an address nor a host name; write it without a scheme or port"
        )
    # The system would read 10.0.1 as 10.0.0.1, and look 127.0.0.300 up as a name.
    if bare and not bare.strip("0123456789.") and not _is_ip(bare):
        raise ValueError(
            f"{host!r} is not an IPv4 address; write four numbers from 0 to 255, like 127.0.0.1"
        )
    return host


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def without_secrets(url: str) -> str:
    """A URL that is safe to print: without user, password, query or fragment."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
