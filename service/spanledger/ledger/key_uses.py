"""When keys were last used. It is noted where gateways look keys up, which they do once a second at most,
and written with the next sweep, for a key once in a while: no request waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from spanledger.ledger.keys import USED_EVERY_NS, FoundKey
from spanledger.ledger.records import Records

MAX_SWEPT = 200
"""Keys in one sweep, which keeps the commit short; the others follow with the next ones."""
MAX_WAITING = 10_000


class KeyUses:
    """Looks keys up, in one thread; another one takes what was noted."""

    def __init__(self, records: Records, now_ns: Callable[[], int]) -> None:
        self._records = records
        self._now_ns = now_ns
        self._used: deque[tuple[str, int]] = deque(maxlen=MAX_WAITING)

    def find_key(self, digest: str) -> FoundKey | None:
        """See `Records.find_key`."""
        found = self._records.find_key(digest)
        if found is not None and found.key.revoked_ns is None:
            now_ns, ends_ns = self._now_ns(), found.ends_ns
            due_ns = (found.key.last_used_ns or 0) + USED_EVERY_NS
            if now_ns >= due_ns and (ends_ns is None or now_ns < ends_ns):
                self._used.append((found.key.id, now_ns))
        return found

    def take(self) -> tuple[tuple[str, int], ...]:
        """The next keys with the time of their last use. They are noted again if they are not written."""
        found: dict[str, int] = {}
        while self._used and len(found) < MAX_SWEPT:
            key_id, at_ns = self._used.popleft()
            found[key_id] = at_ns
        return tuple(found.items())
