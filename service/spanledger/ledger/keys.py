"""Virtual keys: what the ledger has of them. Pure.

A key keeps its id for life, and with it its budgets and rows. What opens it are secrets, of which only the
digests are stored: one at a time, or two while a rotation's overlap lasts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from spanledger.budgets.model import UNKNOWN_AUTHOR, Author

KEY_PREFIX = "slk_"
ID_PREFIX = "key_"

State = Literal["valid", "rotating", "expired", "revoked"]
"""`rotating`: a secret that was replaced still works."""
STATES: tuple[State, ...] = ("valid", "rotating", "expired", "revoked")
ChangeKind = Literal["create", "import", "set", "rotate", "revoke"]


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key as stored. Times are Unix nanoseconds."""

    id: str
    """Short public name of the key (`key_` and 12 hex digits), safe to log."""
    customer: str
    team: str
    routes: tuple[str, ...]
    """Routes the key may use; empty = all."""
    created_ns: int
    revoked_ns: int | None
    pass_through: bool = False
    """It may use endpoints that nothing prices, also under a blocking budget."""
    user: str = ""
    """Of all its requests; if empty, a request may name its own."""
    project: str = ""
    """As `user`."""
    tags: tuple[str, ...] = ()
    """All its requests have them, besides their own."""
    name: str = ""
    """What people call it; no two keys that are not revoked have the same."""
    expires_ns: int | None = None
    """From when on it is refused; None: never."""
    models: tuple[str, ...] = ()
    """Providers' models that its requests may be sent to, `*` for any text; empty = all."""
    default_user: str = ""
    """Of its requests that name no user."""
    metadata: tuple[tuple[str, str], ...] = ()
    """What people note of it, by name."""
    last_used_ns: int | None = None
    """When a gateway looked it up, to within `USED_EVERY_NS`."""

    @property
    def shown(self) -> str:
        """Its id, and its name if it has one."""
        return f"{self.id} ({self.name})" if self.name else self.id


USED_EVERY_NS = 600 * 10**9
"""How far `last_used_ns` may be behind: it is written once in this time, however often a key is used."""


class Secret(NamedTuple):
    """What opens a key.

    Attributes:
        digest: SHA-256 of the whole secret, hex.
        until_ns: when it stops working; None: with its key.
    """

    digest: str
    key_id: str
    from_ns: int
    until_ns: int | None = None


class FoundKey(NamedTuple):
    """A key as found by one of its secrets.

    Attributes:
        until_ns: when that secret stops working, because another one has replaced it.
    """

    key: Key
    until_ns: int | None = None

    @property
    def ends_ns(self) -> int | None:
        """When the secret stops working, for whatever reason that is known already."""
        ends = [ns for ns in (self.key.expires_ns, self.until_ns) if ns is not None]
        return min(ends, default=None)


class KeyChange(NamedTuple):
    """One change in a key's history: what it is since then, and by whom.

    Attributes:
        until_ns: of a rotation: when the secrets before it stop working.
    """

    at_ns: int
    change: ChangeKind
    key: Key
    by: Author = UNKNOWN_AUTHOR
    until_ns: int | None = None


def state_of(key: Key, replaced: Iterable[Secret], now_ns: int) -> State:
    """What a key is at a moment; `replaced` are its secrets that another one has replaced."""
    if key.revoked_ns is not None:
        return "revoked"
    if key.expires_ns is not None and key.expires_ns <= now_ns:
        return "expired"
    return "rotating" if overlap_end(replaced, now_ns) else "valid"


def overlap_end(secrets: Iterable[Secret], now_ns: int) -> int | None:
    """When the last of the replaced secrets stops working; None if none works any more."""
    ends = [each.until_ns for each in secrets if each.until_ns is not None]
    last = max(ends, default=0)
    return last if last > now_ns else None


def new_secret() -> str:
    """A secret that nobody has."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def new_id() -> str:
    """The id of a new key."""
    return ID_PREFIX + secrets.token_hex(6)


def key_digest(secret: str) -> str:
    """The stored form of a secret: 256 random bits need neither a salt nor a slow hash."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def metadata_of(given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Metadata as a key has it."""
    return tuple(sorted(given.items()))


def change_to_json(change: KeyChange) -> str:
    """Encode a change for the history."""
    return json.dumps(
        {**asdict(change.key), "by": change.by, "until_ns": change.until_ns}, ensure_ascii=False
    )


def change_from_json(at_ns: int, change: ChangeKind, text: str) -> KeyChange:
    """Decode a change from the history."""
    data: dict[str, Any] = json.loads(text)
    by, until_ns = Author(*data.pop("by")), data.pop("until_ns")
    for name in ("routes", "tags", "models"):
        data[name] = tuple(data[name])
    data["metadata"] = tuple(map(tuple, data["metadata"]))
    return KeyChange(at_ns, change, Key(**data), by, until_ns)
