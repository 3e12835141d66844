"""The secrets of a deployment, masked in what its provider sends back for a caller.

A provider may repeat what it was sent: in an error, or because it echoes requests. So the key, the
password of an address and the secrets among the configured headers are replaced wherever they appear.
"""

from __future__ import annotations

import base64
import re

from yarl import URL

from spanledger.providers.base import Deployment
from spanledger.wires.failures import MIN_KEY_CHARS

_SECRET_NAME = re.compile(
    r"auth|cookie|credential|key|password|secret|signature|token", re.IGNORECASE
)
MASK = b"*"


def basic_auth(address: str | None) -> str:
    """What the header `authorization` says for an address with a user; empty without one."""
    try:
        url = URL(address or "")
    except ValueError:
        return ""
    if url.user is None:
        return ""
    pair = f"{url.user}:{url.password or ''}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def secrets_of(deployment: Deployment) -> tuple[bytes, ...]:
    """The secrets, the longest first. Short ones are placeholders, and would garble ordinary text."""
    found = {deployment.api_key or ""}
    if header := basic_auth(deployment.api_base):
        found |= {header.removeprefix("Basic "), URL(deployment.api_base or "").password or ""}
    for name, value in deployment.headers.items():
        if _SECRET_NAME.search(name):
            found |= {value, value.rpartition(" ")[2]}
    long = {each.strip().encode() for each in found if len(each.strip()) >= MIN_KEY_CHARS}
    return tuple(sorted(long, key=len, reverse=True))


def masked(data: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """The data with as many stars in place of each secret."""
    for secret in secrets:
        data = data.replace(secret, MASK * len(secret))
    return data


class SecretMask:
    """Masks secrets in a stream of bytes. Only what may be the beginning of one waits for the next
    piece."""

    __slots__ = ("_held", "_secrets")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What may go on."""
        if not self._secrets:
            return chunk
        data = masked(self._held + chunk, self._secrets)
        keep = max(_begun(data, secret) for secret in self._secrets)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        """What was held back to the end."""
        held, self._held = self._held, b""
        return held


def _begun(data: bytes, secret: bytes) -> int:
    """How many bytes at the end may be the beginning of a secret."""
    return next((n for n in range(len(secret) - 1, 0, -1) if data.endswith(secret[:n])), 0)
