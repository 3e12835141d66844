"""Connections to providers: when they are kept, who waits for one, what may come over one."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from spanledger.providers import dialing
from spanledger.providers.connection import HIGH_WATER_BYTES
from spanledger.providers.http import HttpProvider
from spanledger.providers.transport import Limits
from tests.service.providers import test_transport
from tests.service.providers.samples import ANSWER, DONE, STREAM, failure
from tests.service.providers.scripted import (
    Scripted,
    ask,
    call,
    chunk,
    collect,
    deployment,
    head,
    scripted,
)

BODY = json.dumps(ANSWER).encode()
REPLY = head(b"application/json", extra=b"content-length: %d\r\n" % len(BODY)) + BODY


async def test_a_body_that_ends_with_its_connection(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A response without a length is complete when the server closes, and its connection is gone."""
    server.answer(head(b"application/json") + BODY, hang_up=True)

    for _ in range(2):
        answer = await openai_provider.complete(call(deployment(server.url), ask()))
        assert answer.body == BODY

    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        REPLY.replace(b"HTTP/1.1", b"HTTP/1.0"),
        REPLY.replace(b"\r\n", b"\r\nconnection: close\r\n", 1),
        REPLY + REPLY,
        REPLY + b"garbage",
    ],
    ids=["1.0", "close", "two", "garbage"],
)
async def test_what_is_not_kept(
    server: Scripted, openai_provider: HttpProvider, reply: bytes
) -> None:
    """A connection that the server closes, or that has bytes nobody asked for, is not used again."""
    server.answer(reply)

    for _ in range(2):
        answer = await openai_provider.complete(call(deployment(server.url), ask()))
        assert answer.body == BODY

    assert server.connections == 2


async def test_an_answer_before_its_request(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """An answer that arrives on an unused connection is nobody's: the next request does not get it."""
    late = asyncio.Event()

    async def twice(writer: asyncio.StreamWriter) -> None:
        writer.write(REPLY)
        await writer.drain()
        await late.wait()
        writer.write(REPLY.replace(b"chatcmpl-1", b"chatcmpl-2"))

    server.script = twice
    await openai_provider.complete(call(deployment(server.url), ask()))
    late.set()
    async with asyncio.timeout(5):
        await server.gone.wait()

    answer = await openai_provider.complete(call(deployment(server.url), ask()))

    assert answer.body == BODY
    assert server.connections == 2


async def test_unused_connections_are_closed(server: Scripted) -> None:
    """A connection that no request needs for `keepalive_s` is closed by us."""
    provider = HttpProvider(Limits(keepalive_s=0.05))
    server.json(200, ANSWER)
    await provider.complete(call(deployment(server.url), ask()))

    async with asyncio.timeout(5):
        await server.gone.wait()

    await provider.close()


async def test_requests_wait_for_a_connection(server: Scripted) -> None:
    """Beyond the limit, requests wait for each other, and all are served over the connections that
    there may be; a caller that leaves while it waits takes nobody's turn."""
    provider = HttpProvider(Limits(max_connections=2))
    server.json(200, ANSWER)
    wanted = call(deployment(server.url), ask())
    tasks = [asyncio.create_task(provider.complete(wanted)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[5:10]:
        task.cancel()

    async with asyncio.timeout(10):
        done = await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(isinstance(one, asyncio.CancelledError) for one in done) == 5
    assert [one for one in done if isinstance(one, Exception)] == []
    assert server.connections <= 2
    await provider.close()


async def test_no_connection_is_free(server: Scripted) -> None:
    """A request that gets no connection within its time was not sent, and is not billed."""
    provider = HttpProvider(Limits(max_connections=1))
    server.answer(b"")
    first = asyncio.create_task(provider.complete(call(deployment(server.url), ask())))
    async with asyncio.timeout(5):
        await server.asked.wait()

    error = await failure(provider, call(deployment(server.url), ask(), timeout_s=0.05))

    assert (error.kind, error.billed) == ("timeout", "no")
    assert "no connection was free within 0.05 s; all 1 are in use" in str(error)
    assert len(server.requests) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await provider.close()


async def test_an_unused_connection_makes_room(server: Scripted) -> None:
    """At the limit, a connection kept for another place is closed rather than a request delayed."""
    provider = HttpProvider(Limits(max_connections=1))
    server.json(200, ANSWER)
    await provider.complete(call(deployment(server.url), ask()))
    elsewhere = server.url.replace("127.0.0.1", "localhost")

    await provider.complete(call(deployment(elsewhere), ask()))

    assert server.connections == 2
    async with asyncio.timeout(5):
        await server.gone.wait()
    await provider.close()


@pytest.mark.parametrize(
    "extra",
    [b"x: %b\r\n" % (b"y" * 70_000), b"".join(b"x-%d: y\r\n" % n for n in range(200))],
    ids=["long", "many"],
)
async def test_a_head_without_end(
    server: Scripted, openai_provider: HttpProvider, extra: bytes
) -> None:
    """A response's head has limits on its size and on the number of its headers."""
    server.answer(head(b"application/json", extra=extra))

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", "unknown")
    assert "not valid HTTP (its head is too large)" in str(error)


async def test_a_refusal_before_the_body_was_sent(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A server may refuse a large body without reading it: its answer is read, and the connection,
    which still has half a request on it, is not used again."""
    refused = b"HTTP/1.1 413 X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refused)
        await reader.read()
        writer.close()
        ended.release()

    ended = asyncio.Semaphore(0)
    listening = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=2**16)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    wanted = call(deployment(url), ask(prompt="x" * 30_000_000), timeout_s=60)

    for _ in range(2):
        error = await failure(openai_provider, wanted)
        assert error.status == 413

    assert server.connections == 2
    async with asyncio.timeout(5):
        await ended.acquire()
        await ended.acquire()
    listening.close()


def _raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(BODY)),
        (b"GZIP ", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
        (b"deflate", zlib.compress(BODY)),
        (b"deflate", _raw_deflate(BODY)),
    ],
    ids=["gzip", "members", "deflate", "raw"],
)
async def test_an_answer_compressed_unasked(
    server: Scripted, openai_provider: HttpProvider, coding: bytes, body: bytes
) -> None:
    """An answer that is compressed although we did not ask for it is read nevertheless."""
    extra = b"content-encoding: %b\r\ncontent-length: %d\r\n" % (coding, len(body))
    server.answer(head(b"application/json", extra=extra) + body)

    answer = await openai_provider.complete(call(deployment(server.url), ask()))

    assert answer.body == BODY


async def test_half_a_compressed_answer(server: Scripted, openai_provider: HttpProvider) -> None:
    """A compressed answer that lacks its end is not taken for a complete one."""
    body = gzip.compress(BODY)[:-9]
    extra = b"content-encoding: gzip\r\ncontent-length: %d\r\n" % len(body)
    server.answer(head(b"application/json", extra=extra) + body)

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", "unknown")
    assert "cannot be decompressed" in str(error)


async def test_a_stream_that_is_not_read_is_not_stored(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """While a caller does not read, its provider cannot send more than a little, however long that
    lasts; afterwards every event arrives."""
    count, sent = 4_000, 0
    piece = chunk(STREAM[1] * 20)

    async def fast(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head(b"text/event-stream", chunked=True))
        for _ in range(count):
            writer.write(piece)
            await writer.drain()
            sent += 1
        writer.write(chunk(DONE) + b"0\r\n\r\n")

    server.script = fast
    wanted = call(
        deployment(server.url), ask(), max_response_bytes=2**30, stream_idle_timeout_s=0.2
    )
    frames = openai_provider.stream(wanted)
    await anext(frames)
    seen = -1
    while seen != sent:
        seen = sent
        await asyncio.sleep(0.3)  # longer than the stream may be silent
    assert sent < count
    assert len(piece) * count > 20 * HIGH_WATER_BYTES

    assert 1 + sum([1 async for _ in frames]) == count * 20


@pytest.mark.parametrize("dead", [0, 1], ids=["first", "second"])
async def test_one_of_two_addresses_is_dead(
    server: Scripted,
    openai_provider: HttpProvider,
    monkeypatch: pytest.MonkeyPatch,
    dead: int,
) -> None:
    """Where a name has several addresses, one that does not answer does not fail the request."""
    port = int(server.url.rpartition(":")[2])
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:  # its queue is full now, so that connecting hangs
        filler.setblocking(False)
        filler.connect_ex(silent.getsockname())

    async def both(_host: str, _port: int) -> list[dialing.SocketAddress]:
        found: list[dialing.SocketAddress] = [(socket.AF_INET, ("127.0.0.1", port))]
        found.insert(dead, (socket.AF_INET, silent.getsockname()))
        return found

    monkeypatch.setattr(dialing, "resolve", both)
    server.json(200, ANSWER)
    for _ in range(2):
        await openai_provider.complete(call(deployment("http://two.invalid"), ask()))
    for one in (silent, *fillers):
        one.close()

    assert server.connections == 1


async def test_names_are_resolved_once_for_many(
    server: Scripted, openai_provider: HttpProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of connections to a name asks once for its addresses, also after a caller has left; one
    that failed is asked for again."""
    port, asked, broken = int(server.url.rpartition(":")[2]), 0, True

    async def slowly(_host: str, _port: int) -> list[dialing.SocketAddress]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if broken:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(dialing, "resolve", slowly)
    server.json(200, ANSWER)
    wanted = call(deployment("http://one.invalid"), ask())
    error = await failure(openai_provider, wanted)
    assert "its host name does not resolve" in str(error)
    assert asked == 1

    broken = False
    tasks = [asyncio.create_task(openai_provider.complete(wanted)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert [one for one in done if isinstance(one, Exception)] == []
    assert asked == 2


async def test_a_stream_whose_end_mark_comes_early(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """The connection of a stream that another request cannot have yet is not given to it."""
    rest = asyncio.Event()

    async def slow_end(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True) + chunk(b"".join(STREAM) + DONE))
        await writer.drain()
        await rest.wait()
        writer.write(b"0\r\n\r\n")

    server.script = slow_end
    wanted = call(deployment(server.url), ask())
    assert len(await collect(openai_provider, wanted)) == len(STREAM)
    assert len(await collect(openai_provider, wanted)) == len(STREAM)
    rest.set()
    assert server.connections == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        test_a_body_that_ends_with_its_connection,
        test_an_answer_before_its_request,
        test_a_refusal_before_the_body_was_sent,
        test_a_stream_that_is_not_read_is_not_stored,
        test_a_stream_whose_end_mark_comes_early,
        test_transport.test_aclose_cuts_the_provider_off,
        test_transport.test_connection_is_kept_after_a_stream,
        test_transport.test_large_bodies,
        test_transport.test_no_answer,
        test_transport.test_silence_within_a_stream,
        test_transport.test_a_stale_connection_is_told_to_routing,
    ],
    ids=lambda test: test.__name__,
)
def test_on_the_gateways_loop(
    behaviour: Callable[[Scripted, HttpProvider], Coroutine[None, None, None]],
) -> None:
    """What depends on the event loop's transports is so on uvloop, which serves in production, too."""

    async def run() -> None:
        async with scripted() as server:
            provider = HttpProvider()
            await behaviour(server, provider)
            await provider.close()

    uvloop.run(run())
