"""Requests in flight per caller, and the limits that keep one caller from taking all capacity.

The server limits single requests; this module limits many at once: how many requests one key may
have in flight, how many of them may still be sending their body, and how many bytes of bodies are
kept in memory and of uploads on disk. It only counts; it reads nothing and never waits.
"""

from __future__ import annotations

from spanledger.errors import OverloadedError

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are always accepted, so that large ones never lock out chat messages."""


class Share:
    """What one key has in flight."""

    __slots__ = ("body_bytes", "requests", "sending", "upload_bytes")

    def __init__(self) -> None:
        self.requests = 0
        self.sending = 0
        self.body_bytes = 0
        self.upload_bytes = 0


class Slot:
    """One request's place in the crowd; `leave` gives back everything it took."""

    __slots__ = (
        "_body_bytes",
        "_counted",
        "_crowd",
        "_key_id",
        "_sending",
        "_share",
        "_upload_bytes",
    )

    def __init__(self, crowd: Crowd, key_id: str, share: Share) -> None:
        self._crowd = crowd
        self._key_id = key_id
        self._share = share
        self._sending = False
        self._body_bytes = self._counted = self._upload_bytes = 0

    def start_sending(self) -> None:
        """The body did not arrive with the headers: the caller is still sending it.

        Raises:
            OverloadedError: too many requests of this key are still sending.
        """
        most = self._crowd.most_sending
        if self._key_id and self._share.sending >= most:
            raise OverloadedError(
                f"{most} requests of this key are still sending their bodies, the most allowed "
                "per key; send each body at once, or wait for others to finish"
            )
        self._share.sending += 1
        self._sending = True

    def stop_sending(self) -> None:
        """The body is complete."""
        if self._sending:
            self._share.sending -= 1
            self._sending = False

    def take(self, size: int) -> None:
        """Count this many more bytes of the body as kept in memory until the request ends.

        Raises:
            OverloadedError: the bodies in flight, or this key's share of them, are too large.
        """
        self._body_bytes += size
        if self._body_bytes <= SMALL_BODY_BYTES:
            return
        crowd, share = self._crowd, self._share
        more = self._body_bytes - self._counted
        if self._key_id and share.body_bytes + more > crowd.most_body_bytes_per_key:
            raise OverloadedError(
                f"the large bodies of this key's requests in flight exceed "
                f"{crowd.most_body_bytes_per_key} bytes in total; wait for some to finish"
            )
        if crowd.body_bytes + more > crowd.most_body_bytes:
            raise OverloadedError(
                f"the large bodies of all requests in flight exceed {crowd.most_body_bytes} bytes "
                "in total (gateway.max_body_bytes_in_flight); retry shortly"
            )
        self._counted += more
        crowd.body_bytes += more
        share.body_bytes += more

    def to_disk(self) -> None:
        """Count what is in memory of the body as kept on disk until the request ends.

        Raises:
            OverloadedError: the uploads in flight, or this key's share of them, are too large.
        """
        crowd, share, more = self._crowd, self._share, self._body_bytes
        if self._key_id and share.upload_bytes + more > crowd.most_upload_bytes_per_key:
            raise OverloadedError(
                f"the uploads of this key's requests in flight exceed "
                f"{crowd.most_upload_bytes_per_key} bytes in total; wait for some to finish"
            )
        if crowd.upload_bytes + more > crowd.most_upload_bytes:
            raise OverloadedError(
                f"the uploads of all requests in flight exceed {crowd.most_upload_bytes} bytes in"
                " total (gateway.max_upload_bytes_in_flight); retry shortly"
            )
        self._upload_bytes += more
        crowd.upload_bytes += more
        share.upload_bytes += more
        self._forget_memory()

    def leave(self) -> None:
        """Give everything back."""
        self.stop_sending()
        self._forget_memory()
        crowd, share = self._crowd, self._share
        share.requests -= 1
        share.upload_bytes -= self._upload_bytes
        crowd.upload_bytes -= self._upload_bytes
        if not share.requests:
            crowd.forget(self._key_id)

    def _forget_memory(self) -> None:
        self._share.body_bytes -= self._counted
        self._crowd.body_bytes -= self._counted
        self._body_bytes = self._counted = 0


class Crowd:
    """All requests whose caller is known.

    While no keys exist, all callers are programs on this machine and are counted as one, so only
    the limit for all bodies together applies to them.

    Attributes:
        most_per_key: requests that one key may have in flight.
        most_sending: how many of those may still be sending their body: a quarter, as a body
            usually arrives with its headers.
        most_body_bytes: limit on large bodies in memory, over all requests.
        most_body_bytes_per_key: half of that, or one body of the largest size if that is more.
        body_bytes: bytes of large bodies in memory now.
        most_upload_bytes, most_upload_bytes_per_key, upload_bytes: the same for uploads on disk.
    """

    def __init__(
        self,
        most_per_key: int,
        most_body_bytes: int,
        largest_body: int,
        most_upload_bytes: int = 0,
        largest_upload: int = 0,
    ) -> None:
        self.most_per_key = most_per_key
        self.most_sending = max(1, most_per_key // 4)
        self.most_body_bytes = most_body_bytes
        self.most_body_bytes_per_key = max(largest_body, most_body_bytes // 2)
        self.body_bytes = 0
        self.most_upload_bytes = most_upload_bytes
        self.most_upload_bytes_per_key = max(largest_upload, most_upload_bytes // 2)
        self.upload_bytes = 0
        self._shares: dict[str, Share] = {}

    def enter(self, key_id: str) -> Slot:
        """A place for one more request of a key; `key_id` is empty while no keys exist.

        Raises:
            OverloadedError: the key has the maximum number of requests in flight.
        """
        share = self._shares.get(key_id)
        if share is None:
            share = self._shares[key_id] = Share()
        elif key_id and share.requests >= self.most_per_key:
            raise OverloadedError(
                f"{self.most_per_key} requests of this key are already in flight "
                "(gateway.max_concurrent_requests_per_key); wait for some to finish"
            )
        share.requests += 1
        return Slot(self, key_id, share)

    def forget(self, key_id: str) -> None:
        """This key has nothing in flight any more."""
        self._shares.pop(key_id, None)

    @property
    def keys(self) -> int:
        """How many keys have something in flight."""
        return len(self._shares)
