"""Every way a connection to a provider can fail, and what happens to it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
import zlib

import pytest
from msgspec.structs import replace

from spanledger.errors import ProviderError
from spanledger.providers.http import HttpProvider
from spanledger.providers.transport import Limits
from spanledger.wires.base import Frame
from tests.service.providers.samples import (
    ANSWER,
    DONE,
    STREAM,
    failure,
)
from tests.service.providers.scripted import (
    Scripted,
    ask,
    call,
    chunk,
    collect,
    deployment,
    head,
)


async def test_connection_lost_in_a_stream(server: Scripted, openai_provider: HttpProvider) -> None:
    """The frames before the break are relayed, then the break is reported."""
    server.events(b"", *STREAM[:2], hang_up=True)
    frames: list[Frame] = []

    async def read() -> None:
        async for frame in openai_provider.stream(call(deployment(server.url), ask())):
            frames.append(frame)  # noqa: PERF401 - a comprehension would lose them

    with pytest.raises(ProviderError) as caught:
        await read()

    assert [frame.data for frame in frames] == STREAM[:2]
    assert (caught.value.kind, caught.value.billed) == ("stream_interrupted", "unknown")


async def test_answer_over_the_limit(server: Scripted, openai_provider: HttpProvider) -> None:
    """An answer larger than the limit is not read completely."""
    server.answer(head(b"application/json", chunked=True), *[chunk(b"x" * 1000)] * 20)

    error = await failure(
        openai_provider, call(deployment(server.url), ask(), max_response_bytes=5000)
    )

    assert error.kind == "malformed_response"
    assert "larger than 5000 bytes" in str(error)
    async with asyncio.timeout(5):
        await server.gone.wait()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_compressed_without_end(
    server: Scripted, openai_provider: HttpProvider, coding: str, stream: bool
) -> None:
    """A compressed answer that is small on the wire and expands without limit is aborted."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    bomb = b"".join(packer.compress(b": ping\n\n" * 2**17) for _ in range(100)) + packer.flush()
    kind = b"text/event-stream" if stream else b"application/json"
    extra = b"content-encoding: %b\r\ncontent-length: %d\r\n" % (coding.encode(), len(bomb))
    server.answer(head(kind, extra=extra) + bomb)

    tracemalloc.start()
    request = call(deployment(server.url), ask(), max_response_bytes=5 * 2**20)
    error = await failure(openai_provider, request, stream=stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (error.kind, error.billed) == ("malformed_response", "unknown")
    assert server.requests[0].headers["accept-encoding"] == "identity"
    if stream and coding != "br":  # brotli cannot be read at all
        assert "its stream is compressed" in str(error)
    assert peak < 20 * 2**20, "a hundred megabytes were in there"


async def test_half_an_answer(server: Scripted, openai_provider: HttpProvider) -> None:
    """A connection that breaks during an answer: malformed, and perhaps billed."""
    server.answer(head(b"application/json", extra=b"content-length: 99\r\n") + b"{", hang_up=True)

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", "unknown")


async def test_no_answer(server: Scripted, openai_provider: HttpProvider) -> None:
    """Hung up, refused, unresolvable, not HTTP, not a URL: not one byte of an answer, nothing
    billed."""
    server.answer(hang_up=True)
    for stream in (False, True):
        error = await failure(openai_provider, call(deployment(server.url), ask()), stream=stream)
        assert (error.kind, error.billed) == ("connection_error", "no")

    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid", "ftp://x", "::", "https://"):
        error = await failure(openai_provider, call(deployment(url), ask()))
        assert (error.kind, error.billed) == ("connection_error", "no"), url

    server.answer(b"SSH-2.0-OpenSSH\r\n\r\n", hang_up=True)
    error = await failure(openai_provider, call(deployment(server.url), ask()))
    assert error.kind == "malformed_response"


@pytest.mark.parametrize("stream", [False, True])
async def test_hung_up_on_after_a_while(server: Scripted, stream: bool) -> None:
    """A proxy that times out aborts an answer that is being written, and billed; a kept connection
    that had closed already fails at once."""
    impatient = HttpProvider(Limits(at_once_s=0.02))

    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.close()

    server.script = late
    error = await failure(impatient, call(deployment(server.url), ask()), stream=stream)
    assert (error.kind, error.billed) == ("connection_error", "unknown")

    error = await failure(impatient, call(deployment("http://127.0.0.1:1"), ask()), stream=stream)
    assert (error.kind, error.billed) == ("connection_error", "no")
    await impatient.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_connecting_takes_too_long(
    server: Scripted, openai_provider: HttpProvider, stream: bool
) -> None:
    """A TLS handshake that never completes is a timeout, and is never billed."""
    silent = deployment(server.url.replace("http", "https"))

    error = await failure(openai_provider, call(silent, ask(), timeout_s=0.1), stream=stream)

    assert (error.kind, error.billed) == ("timeout", "no")
    assert "connecting took too long" in str(error)


async def test_a_stale_connection_is_told_to_routing(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A kept connection that the server closes on the next request says so, and is not retried here;
    other kept connections there are closed as well. The same on a new connection is a failure."""
    request = call(deployment(server.url), ask())
    server.json(200, ANSWER)
    await asyncio.gather(*(openai_provider.complete(request) for _ in range(3)))
    server.answer(hang_up=True)

    first = await failure(openai_provider, request)
    second = await failure(openai_provider, request)

    assert (first.kind, first.billed, first.stale) == ("connection_error", "no", True)
    assert (second.kind, second.billed, second.stale) == ("connection_error", "no", False)
    assert (server.connections, len(server.requests)) == (4, 5)


async def test_a_response_that_began_is_not_stale(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A server that has said anything about the request has seen it."""
    request = call(deployment(server.url), ask())
    server.json(200, ANSWER)
    await openai_provider.complete(request)
    server.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n", hang_up=True)

    error = await failure(openai_provider, request)

    assert (error.kind, error.stale) == ("connection_error", False)


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("DELETE", 2)])
async def test_what_only_reads_is_sent_again(
    server: Scripted, openai_provider: HttpProvider, method: str, sent: int
) -> None:
    """A read that a stale connection lost is answered on a new one; what changes something is not
    sent twice."""
    request = call(deployment(server.url), ask())
    server.json(200, ANSWER)
    await openai_provider.complete(request)
    answers = iter([False, True])

    async def once_hung_up(writer: asyncio.StreamWriter) -> None:
        if next(answers):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        else:
            writer.close()

    server.script = once_hung_up
    reading = openai_provider.kept(request, method, "/chatcmpl_1", "")
    if method == "GET":
        assert await reading == b"{}"
    else:
        with pytest.raises(ProviderError) as caught:
            await reading
        assert caught.value.stale
    assert len(server.requests) == sent


@pytest.mark.parametrize("stream", [False, True])
async def test_timeout(server: Scripted, openai_provider: HttpProvider, stream: bool) -> None:
    """No answer in time: the connection is closed, and it may have cost money."""
    server.answer(b"HTTP/1.1 200 OK\r\n")

    error = await failure(
        openai_provider, call(deployment(server.url), ask(), timeout_s=1.0), stream=stream
    )

    assert (error.kind, error.billed) == ("timeout", "unknown")
    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_silence_within_a_stream(server: Scripted, openai_provider: HttpProvider) -> None:
    """A stream that is silent for too long is aborted; until the first chunk the attempt's own
    timeout applies."""
    server.answer(head(b"text/event-stream", chunked=True) + chunk(STREAM[1]))
    request = call(deployment(server.url), ask(), stream_idle_timeout_s=0.05)
    error = await failure(openai_provider, request, stream=True)
    assert (error.kind, error.billed) == ("timeout", "unknown")
    async with asyncio.timeout(5):
        await server.gone.wait()

    async def late(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True))
        await asyncio.sleep(0.15)
        writer.write(chunk(b"".join(STREAM) + DONE) + b"0\r\n\r\n")

    server.script = late
    assert len(await collect(openai_provider, request)) == len(STREAM)


async def test_aclose_cuts_the_provider_off(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Closing a stream early, or cancelling its reader, closes the connection at once."""
    server.answer(head(b"text/event-stream", chunked=True) + chunk(STREAM[1]))
    request = call(deployment(server.url), ask())
    frames = openai_provider.stream(request)
    await anext(frames)
    await frames.aclose()
    async with asyncio.timeout(5):
        await server.gone.wait()

    for started in (False, True):
        server.gone.clear()
        server.answer(head(b"text/event-stream", chunked=True) if started else b"")
        task = asyncio.create_task(collect(openai_provider, request))
        server.asked.clear()
        async with asyncio.timeout(5):
            await server.asked.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.gone.wait()


async def test_connection_is_kept_after_a_stream(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """The bytes after an end mark are read, so that the next call needs no handshake."""
    request = call(deployment(server.url), ask())
    for _ in range(3):
        server.events(b"".join(STREAM) + DONE)
        await collect(openai_provider, request)
        async with asyncio.timeout(5):
            while openai_provider._transport.pool.draining:  # noqa: ASYNC110  # nothing to wait on
                await asyncio.sleep(0)

    assert server.connections == 1


async def test_endless_stream_after_its_end_mark_is_cut(server: Scripted) -> None:
    """A server that keeps sending after its end mark blocks neither the caller nor a connection."""
    provider = HttpProvider(Limits(drain_timeout_s=0.05))
    server.answer(head(b"text/event-stream", chunked=True) + chunk(b"".join(STREAM) + DONE))

    assert len(await collect(provider, call(deployment(server.url), ask()))) == len(STREAM)

    async with asyncio.timeout(5):
        await server.gone.wait()
    await provider.close()


async def test_redirects_are_not_followed(server: Scripted, openai_provider: HttpProvider) -> None:
    """A key is never sent where a provider redirects to."""
    server.json(307, {}, f"location: {server.url}/elsewhere")

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert error.kind == "not_found"
    assert "redirect" in str(error)
    assert len(server.requests) == 1


async def test_large_bodies(server: Scripted, openai_provider: HttpProvider) -> None:
    """A prompt of several megabytes arrives complete."""
    server.json(200, ANSWER)
    text = "é" * 1_500_000

    await openai_provider.complete(call(deployment(server.url), ask(prompt=text)))

    assert server.requests[0].json["prompt"] == text


async def test_request_id_that_is_no_text(server: Scripted, openai_provider: HttpProvider) -> None:
    """A provider's request id of any bytes can be written wherever ids are written."""
    server.json(200, ANSWER, "x-request-id: a" + "\u00ff" * 300)

    answer = await openai_provider.complete(call(deployment(server.url), ask()))

    assert answer.provider_request_id.startswith("a?")
    assert len(answer.provider_request_id) <= 256


async def test_signs_of_life_do_not_make_a_stream_endless(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A stream that only ever sends comments ends at the request's deadline."""

    async def alive(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True))
        while not writer.is_closing():  # a script that never ends by itself
            writer.write(chunk(b": ping\n\n"))
            await writer.drain()
            await asyncio.sleep(0.02)

    server.script = alive
    asked = replace(call(deployment(server.url), ask()), total_s=0.2)
    async with asyncio.timeout(5):
        with pytest.raises(ProviderError) as caught:
            await collect(openai_provider, asked)

    assert (caught.value.kind, caught.value.billed) == ("timeout", "unknown")


@pytest.mark.parametrize("pieces", [1, 7, 4096], ids=["whole", "fragments", "reads"])
async def test_a_flood_of_interim_answers(
    server: Scripted, openai_provider: HttpProvider, pieces: int
) -> None:
    """A provider that sends `103 Early Hints` forever is aborted after a few, while everybody else
    is served."""
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"
    turns = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write((hint * 4096)[: pieces * 1000] if pieces > 1 else hint * 4096)
                await writer.drain()
                await asyncio.sleep(0)

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    server.script = flood
    beside = asyncio.create_task(others())
    error = await failure(openai_provider, call(deployment(server.url), ask()))
    beside.cancel()

    assert error.kind == "malformed_response"
    assert "interim responses" in str(error)
    assert turns > 0


async def test_a_few_interim_answers(server: Scripted, openai_provider: HttpProvider) -> None:
    """Interim responses before the real one are ignored, on each request of a connection."""
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 8
    body = json.dumps(ANSWER).encode()
    for _ in range(3):
        server.answer(hints + head(b"application/json", chunked=True), chunk(body) + chunk(b""))
        answer = await openai_provider.complete(call(deployment(server.url), ask()))
        assert answer.body == body
    assert server.connections == 1


async def test_a_stream_without_end(server: Scripted, openai_provider: HttpProvider) -> None:
    """A stream has the same size limit as an answer, however small its events are."""
    server.events(b"", *[STREAM[0]] * 2000)

    error = await failure(
        openai_provider, call(deployment(server.url), ask(), max_response_bytes=50_000), stream=True
    )

    assert error.kind == "malformed_response"
    assert "its stream is larger than 50000 bytes" in str(error)


async def test_a_model_may_think_after_the_first_event(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Silence before the first content may last as long as the attempt's timeout, however short the
    idle timeout is; after it, only as long as that."""
    thought = asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True) + chunk(STREAM[0]))
        await writer.drain()
        await asyncio.sleep(0.3)  # three times as long as a stream may be idle
        writer.write(chunk(STREAM[1]))
        await writer.drain()
        thought.set()

    server.script = script
    wanted = call(deployment(server.url), ask(), timeout_s=5.0, stream_idle_timeout_s=0.1)
    frames: list[Frame] = []

    async def read() -> None:
        async for frame in openai_provider.stream(wanted):
            frames.append(frame)  # noqa: PERF401 - a comprehension would lose them

    with pytest.raises(ProviderError) as caught:
        await read()

    assert thought.is_set()
    assert frames[-1].content
    assert (caught.value.kind, caught.value.billed) == ("timeout", "unknown")
    assert "no next chunk within 0.1 s" in str(caught.value)
