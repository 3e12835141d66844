"""Warns of deployments that their provider does not accept, so that the log names what to correct.

Callers are not told a deployment's address. A warning has no key and no query string.
"""

from __future__ import annotations

import logging

from yarl import URL

from spanledger.errors import ProviderError

EVERY_S = 60.0
"""A deployment is warned of at most this often."""
MAX_REMEMBERED = 4096
"""Deployments whose last warning is remembered."""

_ADVICE = {
    "authentication_failed": "check its api_key",
    "not_found": "check its model and api_base",
}
log = logging.getLogger("spanledger.providers")


class Misconfigured:
    """The warnings of one process."""

    def __init__(self) -> None:
        self._warned: dict[str, float] = {}

    def refused(self, deployment_id: str, url: URL, error: ProviderError, now: float) -> None:
        """Log a refusal that somebody has to correct; `now` is in monotonic seconds."""
        advice = _ADVICE.get(error.kind)
        last = self._warned.get(deployment_id)
        if advice is None or (last is not None and now - last < EVERY_S):
            return
        if len(self._warned) >= MAX_REMEMBERED:
            self._warned.clear()
        self._warned[deployment_id] = now
        shown = url.with_user(None).with_query(None)
        log.warning("%s, from %s; %s", error, shown, advice)
