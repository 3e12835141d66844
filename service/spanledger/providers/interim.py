"""Connections to providers that accept a few interim responses (`1xx`), but not a flood of them.

HTTP allows any number of `103 Early Hints` before a response. aiohttp reads them all without
yielding to the event loop, so a provider that sends them forever would stall every caller.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

MAX_INTERIM = 8
"""Most interim responses to one request; real servers send one or two."""
_INTERIM = (b"HTTP/1.1 1", b"HTTP/1.0 1")
_NEXT = re.compile(rb"\r?\n\r?\nHTTP/1\.[01] 1\d\d")


class FloodError(aiohttp.ClientError):
    """The server sent too many interim responses."""


class _Connection(ResponseHandler):
    """aiohttp's connection, which aborts on a flood of interim responses."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0

    def set_response_params(self, **given: Any) -> None:
        self._interim = 0
        super().set_response_params(**given)

    def data_received(self, data: bytes) -> None:
        # Counted before the parser turns one read into thousands of messages.
        if data.startswith(_INTERIM) and sum(1 for _ in _NEXT.finditer(data)) > MAX_INTERIM:
            self._refuse()
        else:
            super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if 100 < data[0].code < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._refuse()
                return
        super().feed_data(data, size)

    def _refuse(self) -> None:
        self.set_exception(FloodError())
        if self.transport is not None:
            self.transport.abort()


class Connector(aiohttp.TCPConnector):
    """aiohttp's connection pool, with such connections."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._factory = partial(_Connection, loop=self._loop)  # type: ignore[assignment]  # partial is invariant
