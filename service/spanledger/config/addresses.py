"""What an address of each kind looks like; nothing is resolved or opened.

The checks raise ValueError with what to write instead. Addresses are shown without credentials.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PARAMETERS = re.compile(r"(?:host|hostaddr|port|dbname|user|password|service)\s*=")
"""The other form that libpq reads; not shown in an error, because it may have a password."""
_POSTGRES = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?:[^@/?#]*@)?(?P<hosts>[^@/?#]*)(?P<database>/[^@?#]*)?"
    r"(?:\?[^@#]*)?"
)
"""No `@` after the first: a password with one could be taken for a host, and shown."""
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::[0-9]+)?")
WRITE_POSTGRES = (
    "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with the password's special characters"
    " percent-encoded (@ as %40, / as %2F)"
)


def is_postgres(url: str) -> bool:
    """Whether a ledger's URL is of a Postgres database."""
    return url.startswith(("postgresql://", "postgres://"))


def postgres_url(url: str) -> str:
    """The URL, if it names a Postgres database; its parameters are for libpq to judge."""
    found = _POSTGRES.fullmatch(url)
    if found is None or not all(map(_HOST.fullmatch, found["hosts"].split(","))):
        raise ValueError(f"of a Postgres database cannot be read; {WRITE_POSTGRES}")
    return url


def shown_ledger(url: str) -> str:
    """A ledger's URL that is safe to print: a database's without user, password and parameters."""
    if not is_postgres(url):
        return url
    found = _POSTGRES.fullmatch(url)
    if found is None or not all(map(_HOST.fullmatch, found["hosts"].split(","))):
        return "postgresql://"
    return f"postgresql://{found['hosts']}{found['database'] or ''}"


def sqlite_file(url: str) -> Path:
    """The file that a ledger's URL names; a URL without a scheme is the path itself."""
    if _PARAMETERS.match(url):
        raise ValueError(
            "in the form host=… dbname=… is not supported; write"
            " postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    if url and not _SCHEME.match(url):
        return Path(url)
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise ValueError(
            f"{without_secrets(url)!r} is not supported; write sqlite:///PATH"
            " (four slashes for an absolute path) or postgresql://HOST/DATABASE"
        )
    return Path(path)


def ledger_url(url: str) -> str:
    """The URL, if it names a ledger."""
    if is_postgres(url):
        return postgres_url(url)
    sqlite_file(url)
    return url


def server_url(url: str) -> str:
    """The URL, if it names a server of Postgres; empty if there is none."""
    return postgres_url(url) if url else url


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
