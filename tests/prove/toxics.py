"""A TCP proxy that breaks connections as networks do: cuts, delays, black holes, half-open ones.

It knows nothing of what it carries; a fault strikes after a number of pieces in one direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal, NamedTuple

START_S = 30.0
PIECE_BYTES = 65_536

ToxicKind = Literal[
    "cut before", "cut after", "reset", "delay", "black hole", "half open", "refuse"
]
TOXICS: tuple[ToxicKind, ...] = (
    "cut before",
    "cut after",
    "cut after",
    "reset",
    "delay",
    "black hole",
    "half open",
    "refuse",
)


class Toxic(NamedTuple):
    """A fault.

    Attributes:
        kind: `cut before`: a piece of the client's is not passed on, and both connections close.
            `cut after`: it is passed on, and they close before the answer. `reset`: the same, with a
            TCP reset. `delay`: every piece is late. `black hole`: nothing passes any more in either
            direction, and nobody is told. `half open`: the server's connection closes, and the
            client is not told. `refuse`: all connections are reset, and new ones too.
        pieces: of the client's, before it strikes.
        seconds: the delay; or how long it lasts.
    """

    kind: ToxicKind
    pieces: int
    seconds: float

    @classmethod
    def of(cls, dice: random.Random) -> Toxic:
        """The next fault."""
        kind = dice.choice(TOXICS)
        seconds = dice.choice((0.05, 0.3, 1.0)) if kind == "delay" else dice.choice((0.2, 1.0, 3.0))
        return cls(kind, dice.choice((0, 1, 2, 3, 5, 8, 13, 40)), seconds)


class ToxicProxy:
    """A running proxy; `strike` lets a fault happen on the next connection that is used."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._toxic: Toxic | None = None
        self._left = 0
        self._healed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self.port = 0
        self.struck = threading.Event()

    # for the proof's own thread -----------------------------------------------------------

    def strike(self, toxic: Toxic) -> None:
        """Let a fault happen from now on, until `heal`."""
        self.struck.clear()
        self._loop.call_soon_threadsafe(self._set, toxic)

    def heal(self) -> None:
        """Let everything pass again. Connections that were stuck are broken."""
        asyncio.run_coroutine_threadsafe(self._heal(), self._loop).result(START_S)

    # the proxy's thread -------------------------------------------------------------------

    def _set(self, toxic: Toxic) -> None:
        self._toxic, self._left = toxic, toxic.pieces
        self._healed = asyncio.Event()
        if toxic.kind == "refuse":
            self.struck.set()
            for writer in list(self._writers):
                _reset(writer)

    async def _heal(self) -> None:
        stuck = self._toxic is not None and self._toxic.kind in ("black hole", "half open")
        self._toxic = None
        self._healed.set()
        if stuck:
            for writer in list(self._writers):
                _reset(writer)

    async def serve(self, ready: threading.Event, stop: threading.Event) -> None:
        """Serve until it is stopped."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        ready.set()
        while not stop.is_set():  # noqa: ASYNC110 - the event belongs to another thread
            await asyncio.sleep(0.02)
        server.close()
        self._healed.set()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._toxic is not None and self._toxic.kind == "refuse":
            _reset(writer)
            return
        try:
            theirs = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        both = (writer, theirs[1])
        self._writers.update(both)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, theirs[1], both, counted=True))
                group.create_task(self._carry(theirs[0], writer, both, counted=False))
        except* OSError:
            pass
        finally:
            self._writers.difference_update(both)
            for each in both:
                each.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        counted: bool,
    ) -> None:
        """Pass on one direction; `counted` is the client's."""
        while piece := await reader.read(PIECE_BYTES):
            toxic = self._toxic
            if toxic is not None and (counted or self.struck.is_set()):
                self._left -= counted
                if self._left < 0 and await self._break(toxic, piece, writer, both):
                    return
            writer.write(piece)
            await writer.drain()
        for each in both:
            each.close()

    async def _break(
        self,
        toxic: Toxic,
        piece: bytes,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> bool:
        """Let a fault happen to a piece; whether the connection is over."""
        client, server = both
        self.struck.set()
        match toxic.kind:
            case "delay":
                await asyncio.sleep(toxic.seconds)
                return False
            case "cut before":
                client.close()
                server.close()
            case "cut after":
                server.write(piece) if writer is server else None
                await server.drain()
                client.close()
                await asyncio.sleep(0.05)  # the server has received it by then
                server.close()
            case "reset":
                _reset(client)
                server.close()
            case "black hole":
                await self._healed.wait()
                return True
            case "half open":
                server.transport.abort()
                await self._healed.wait()
            case _:
                _reset(client)
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection with a TCP reset."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def toxic_proxy(port: int) -> Iterator[ToxicProxy]:
    """Serve it from a thread, before a port of the loopback interface."""
    proxy = ToxicProxy(("127.0.0.1", port))
    ready, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(ready, stop)), daemon=True)
    thread.start()
    if not ready.wait(START_S):
        raise RuntimeError("the proxy did not start")
    try:
        yield proxy
    finally:
        stop.set()
        thread.join(START_S)
