"""Who is calling: a virtual key, found by its full digest, or a local caller while no key exists.

Reads only the ledger's keys, through a small cache; never logs, stores or returns a key. Runs
before the body of a request is read.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from spanledger.clock import NANOS, Clock
from spanledger.errors import (
    AuthenticationError,
    ConfigError,
    InvalidRequestError,
    LedgerUnavailableError,
    PermissionDeniedError,
)
from spanledger.ledger.key_records import moment
from spanledger.ledger.keys import KEY_PREFIX, FoundKey, Key
from spanledger.ledger.ports import Ledger
from spanledger.routing.models import AllowedModels

_PREFIX = KEY_PREFIX.encode()
_UNKNOWN = "the key is unknown or was revoked"
_NOT_OURS = (
    "send a spanledger key as `Authorization: Bearer slk_…`, or in `x-api-key` or `x-goog-api-key`;"
    " `spanledger keys create --customer NAME` creates one"
)
MAX_KEY_BYTES = 256
"""Longer keys are refused without a lookup: we never create one this long."""
CACHE_TTL_S = 1.0
"""Revoking a key, or creating the very first one, takes effect within this time everywhere."""
KNOWN_FOR_S = 3600.0
"""While attempts are held in a journal, a key that was used within this time needs no look-up."""
MAX_CACHED_KEYS = 10_000
"""For known and for refused keys separately, so that a flood of wrong keys evicts no valid one."""

_CUSTOMER = re.compile(rb"[A-Za-z0-9._:@+-]{1,128}")
_FORWARDED = re.compile(rb"(?i)for=\"?(\[[^\]]*\]|[^\s;,\":]+)")
_LOCAL_NAMES = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})

HeaderMap = Mapping[bytes, bytes]


class ForWhom(NamedTuple):
    """Whom a request is for besides customer and team; empty where nobody is named."""

    user: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    user_may_differ: bool = False
    """The user is the one of requests that name none."""


NOBODY = ForWhom()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request is booked on. `routes` None: all routes.

    Attributes:
        pass_through: the key may use endpoints that nothing prices (`gateway.pass_through`).
        names: those of the key.
        models: the providers' models that its requests may be sent to; None: all.
    """

    customer: str
    team: str
    key_id: str
    routes: frozenset[str] | None
    pass_through: bool = False
    names: ForWhom = NOBODY
    models: AllowedModels | None = None

    def may_use(self, route: str) -> bool:
        """Whether the key allows this route."""
        return self.routes is None or route in self.routes


def is_loopback(host: str) -> bool:
    """Whether a listening address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, has_keys: bool) -> None:
    """Refuse to serve other machines while no keys exist. Raises ConfigError."""
    if not has_keys and not is_loopback(host):
        raise ConfigError(
            f"no keys exist, so the gateway serves only this machine and will not listen on "
            f"{host!r}; run `spanledger keys create --customer NAME` first, or use "
            "`--host 127.0.0.1`"
        )


class _Known(NamedTuple):
    """A caller as last looked up, until a moment on the monotonic clock.

    Attributes:
        ends: when its secret stops working, whatever can be looked up meanwhile.
    """

    caller: Caller
    until: float
    ends: float


class Authenticator:
    """Maps request headers to a `Caller`, with at most one ledger read per key and second."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        host: str,
        default_customer: str,
        origins: tuple[str, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._now = clock.monotonic
        self._now_ns = clock.now_ns
        self._may_be_open = is_loopback(host)
        self._default_customer = default_customer
        # `*` allows any page to call, but does not trust any page to spend without a key.
        self._origins = frozenset(origin.encode() for origin in origins if origin != "*")
        self._known: dict[bytes, _Known] = {}
        self._refused: dict[bytes, tuple[float, str]] = {}
        self._keyed = True
        self._keyed_until = float("-inf")

    async def identify(self, headers: HeaderMap) -> Caller:
        """The caller of a request.

        Raises:
            AuthenticationError: the key is missing, unknown, revoked or expired.
            PermissionDeniedError: no keys exist, and the call may come from a web page.
            InvalidRequestError: the customer header is not a valid name.
            LedgerUnavailableError: the key could not be looked up, and is not known from before.
        """
        key = _presented(headers)
        if key.startswith(_PREFIX):
            return await self._by_key(key)
        if await self.is_keyed():
            if key:  # from another gateway, whose keys were imported
                return await self._by_key(key, _NOT_OURS)
            raise AuthenticationError(_NOT_OURS)
        check_local(headers, self._origins)
        return self._open_caller(headers)

    async def is_keyed(self) -> bool:
        """Whether callers need a key: at least one exists, or other machines can reach us."""
        if not self._may_be_open:
            return True
        now = self._now()
        if now >= self._keyed_until:
            # Set before the read, so that concurrent callers do not all read; undone if it fails.
            first, before = self._keyed_until == float("-inf"), self._keyed_until
            if not first:
                self._keyed_until = now + CACHE_TTL_S
                if self._ledger.journaling:
                    return self._keyed
            try:
                self._keyed = await self._ledger.has_keys()
            except LedgerUnavailableError:
                if first or not self._ledger.journal_has_room:
                    self._keyed_until = before
                    raise
            except BaseException:
                self._keyed_until = before
                raise
            self._keyed_until = now + CACHE_TTL_S
        return self._keyed

    @property
    def was_keyed(self) -> bool:
        """`is_keyed` as last read, for answers given while the ledger cannot be read."""
        return not self._may_be_open or (self._keyed and self._keyed_until != float("-inf"))

    async def _by_key(self, key: bytes, unknown: str = _UNKNOWN) -> Caller:
        if len(key) > MAX_KEY_BYTES:
            raise AuthenticationError("unknown key: it is too long; check it for stray characters")
        digest = hashlib.sha256(key)
        token = digest.digest()
        now = self._now()
        cached = self._known.get(token)
        if cached is not None:
            if now < cached[1]:
                return cached[0]
            if self._ledger.journaling and (caller := self._used_lately(token, now)):
                return caller
        refused = self._refused.get(token)
        if refused is not None and now < refused[0]:
            raise AuthenticationError(refused[1])
        try:
            found = await self._ledger.find_key(digest.hexdigest())
        except LedgerUnavailableError:
            # Reads can fail before a commit has: then it is this caller's hold that finds out.
            if self._ledger.journal_has_room and (caller := self._used_lately(token, now)):
                return caller
            raise
        now_ns = self._now_ns()
        why = unknown if found is None else _refusal(found, now_ns)
        if found is None or why:
            self._known.pop(token, None)
            _make_room(self._refused)
            self._refused[token] = (now + CACHE_TTL_S, why)
            raise AuthenticationError(why)
        ends_ns = found.ends_ns
        ends = float("inf") if ends_ns is None else now + (ends_ns - now_ns) / NANOS
        if cached is None:
            _make_room(self._known)
        self._known[token] = _Known(_caller(found.key), min(now + CACHE_TTL_S, ends), ends)
        return self._known[token].caller

    def _used_lately(self, token: bytes, now: float) -> Caller | None:
        """The caller of a key that was in use within the hour, which is then known a while longer."""
        known = self._known.get(token)
        if known is None or now >= min(known.until + KNOWN_FOR_S, known.ends):
            return None
        self._known[token] = known._replace(until=min(now + CACHE_TTL_S, known.ends))
        return known.caller

    def _open_caller(self, headers: HeaderMap) -> Caller:
        name = headers.get(b"x-spanledger-customer")
        if name is None:
            return Caller(self._default_customer, "", "", None)
        if not _CUSTOMER.fullmatch(name):
            raise InvalidRequestError(
                "x-spanledger-customer must be 1 to 128 letters, digits or ._:@+-",
                code="invalid_customer",
            )
        return Caller(name.decode("ascii"), "", "", None)


def check_local(headers: HeaderMap, origins: frozenset[bytes] = frozenset()) -> None:
    """Refuse calls that a web page could have sent (a foreign host name that resolves to us, a
    foreign origin), and calls that a local proxy forwards from another machine. Pages of `origins`
    may call.

    Raises:
        PermissionDeniedError: while no keys exist, only programs on this machine are served.
    """
    origin = headers.get(b"origin")
    if (
        _host_name(headers.get(b"host", b"")) not in _LOCAL_NAMES
        or not (origin is None or origin in origins or _is_local_page(origin))
        or not all(is_loopback(address) for address in _forwarded_for(headers))
    ):
        raise PermissionDeniedError(
            "no keys exist, so only programs on this machine are served: call 127.0.0.1 or "
            "localhost, and not from a web page, or create a key with "
            "`spanledger keys create --customer NAME`"
        )


def _is_local_page(origin: bytes) -> bool:
    return _host_name(origin.partition(b"://")[2]) in _LOCAL_NAMES


def _forwarded_for(headers: HeaderMap) -> list[str]:
    """The addresses from which a proxy says it received the request."""
    found = [name for name in (b"x-forwarded-for", b"x-real-ip") if name in headers]
    addresses = [part.strip() for name in found for part in headers[name].split(b",")]
    if forwarded := headers.get(b"forwarded"):
        addresses += _FORWARDED.findall(forwarded) or [forwarded]
    return [address.decode("latin-1") for address in addresses]


def _presented(headers: HeaderMap) -> bytes:
    """The key of a request, from any of the headers that clients use; empty without one."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return key.strip()
    names = (b"api-key", b"x-api-key", b"x-goog-api-key")
    return next(filter(None, map(headers.get, names)), b"").strip()


def _host_name(host: bytes) -> bytes:
    """The name in a Host header, lower case, without its port; IPv6 brackets stay."""
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0].lower()


def _refusal(found: FoundKey, now_ns: int) -> str:
    """Why a key is refused, for its holder; empty if it works."""
    key, until_ns = found
    if key.revoked_ns is not None:
        return _UNKNOWN
    if key.expires_ns is not None and key.expires_ns <= now_ns:
        return f"the key {key.id} expired on {moment(key.expires_ns)}; ask for a new one"
    if until_ns is not None and until_ns <= now_ns:
        return (
            f"the key {key.id} has a new secret, and this one stopped working on {moment(until_ns)};"
            " use the new one"
        )
    return ""


def _caller(key: Key) -> Caller:
    routes = frozenset(key.routes) if key.routes else None
    names = ForWhom(key.user or key.default_user, key.project, key.tags, not key.user)
    models = AllowedModels(key.models) if key.models else None
    return Caller(key.customer, key.team, key.id, routes, key.pass_through, names, models)


def _make_room(cache: dict[bytes, _Known] | dict[bytes, tuple[float, str]]) -> None:
    """Drop the oldest entry if the cache is full."""
    if len(cache) >= MAX_CACHED_KEYS:
        cache.pop(next(iter(cache)))
