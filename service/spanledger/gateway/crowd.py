"""What is in flight, by caller, and the shares that keep one caller from taking everything.

The bounds of a single request are the server's. This owns the bounds of many at once: how many
requests one key may have in flight, how many of them may still be sending their body, and how many
bytes of bodies are kept in memory. It counts; it reads nothing and waits for nobody.
"""

from __future__ import annotations

from spanledger.errors import OverloadedError

SMALL_BODY_BYTES = 64 * 1024
"""A body up to here is always taken, so that large ones of others do not keep a chat message out."""


class Share:
    """What one key has in flight."""

    __slots__ = ("body_bytes", "requests", "sending")

    def __init__(self) -> None:
        self.requests = 0
        self.sending = 0
        self.body_bytes = 0


class Place:
    """One request's place in the crowd; `leave` gives back all that it took."""

    __slots__ = ("_body_bytes", "_counted", "_crowd", "_key_id", "_sending", "_share")

    def __init__(self, crowd: Crowd, key_id: str, share: Share) -> None:
        self._crowd = crowd
        self._key_id = key_id
        self._share = share
        self._sending = False
        self._body_bytes = self._counted = 0

    def start_sending(self) -> None:
        """The body did not come with the headers: its caller is still sending.

        Raises:
            OverloadedError: too many requests of this key are at that point.
        """
        most = self._crowd.most_sending
        if self._key_id and self._share.sending >= most:
            raise OverloadedError(
                f"{most} requests of this key are still sending their bodies, the most one key "
                "may; send each body at once, or wait for others to finish"
            )
        self._share.sending += 1
        self._sending = True

    def stop_sending(self) -> None:
        """The body is whole."""
        if self._sending:
            self._share.sending -= 1
            self._sending = False

    def take(self, size: int) -> None:
        """Keep so many more bytes of the body in memory until the request ends.

        Raises:
            OverloadedError: the bodies in flight, or this key's, are as large as they may be.
        """
        self._body_bytes += size
        if self._body_bytes <= SMALL_BODY_BYTES:
            return
        crowd, share = self._crowd, self._share
        more = self._body_bytes - self._counted
        if self._key_id and share.body_bytes + more > crowd.most_body_bytes_per_key:
            raise OverloadedError(
                f"the large bodies of this key's requests in flight are over "
                f"{crowd.most_body_bytes_per_key} bytes together; wait for some to finish"
            )
        if crowd.body_bytes + more > crowd.most_body_bytes:
            raise OverloadedError(
                f"the large bodies of the requests in flight are over {crowd.most_body_bytes} bytes "
                "together (gateway.max_body_bytes_in_flight); ask again shortly"
            )
        self._counted += more
        crowd.body_bytes += more
        share.body_bytes += more

    def leave(self) -> None:
        """Give everything back."""
        self.stop_sending()
        share = self._share
        share.requests -= 1
        share.body_bytes -= self._counted
        self._crowd.body_bytes -= self._counted
        if not share.requests:
            self._crowd.forget(self._key_id)


class Crowd:
    """All requests whose caller is known.

    While no keys exist all callers are programs of this machine and share one place in the books,
    so only the joint bound holds for them.

    Attributes:
        most_per_key: requests that one key may have in flight.
        most_sending: those of them that may still be sending their body: a quarter, as a body
            usually comes with its headers.
        most_body_bytes: bytes of large bodies in memory, of all requests together.
        most_body_bytes_per_key: half of that, or one body of the largest size where that is more.
        body_bytes: those in memory now.
    """

    def __init__(self, most_per_key: int, most_body_bytes: int, largest_body: int) -> None:
        self.most_per_key = most_per_key
        self.most_sending = max(1, most_per_key // 4)
        self.most_body_bytes = most_body_bytes
        self.most_body_bytes_per_key = max(largest_body, most_body_bytes // 2)
        self.body_bytes = 0
        self._shares: dict[str, Share] = {}

    def enter(self, key_id: str) -> Place:
        """A place for one more request of a key; empty is the caller while no keys exist.

        Raises:
            OverloadedError: the key has as many requests in flight as it may.
        """
        share = self._shares.get(key_id)
        if share is None:
            share = self._shares[key_id] = Share()
        elif key_id and share.requests >= self.most_per_key:
            raise OverloadedError(
                f"{self.most_per_key} requests of this key are in flight, the most one key may "
                "have (gateway.max_concurrent_requests_per_key); wait for some to finish"
            )
        share.requests += 1
        return Place(self, key_id, share)

    def forget(self, key_id: str) -> None:
        """Nothing of this key is in flight any more."""
        self._shares.pop(key_id, None)

    @property
    def keys(self) -> int:
        """How many keys have something in flight."""
        return len(self._shares)
