"""Responses that are made to be taken for something else, or never to end."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from spanledger.providers.http import HttpProvider
from tests.service.providers.samples import failure
from tests.service.providers.scripted import Scripted, ask, call, chunk, deployment, head
from tests.service.providers.test_connections import BODY, REPLY

PIECE = b"y" * 65_536


@pytest.mark.parametrize(
    "start",
    [chunk(BODY) + b"0\r\nx-long: ", b"1;", chunk(BODY) + b"0;"],
    ids=["trailer", "extension", "last-extension"],
)
async def test_what_never_becomes_a_body(
    server: Scripted, openai_provider: HttpProvider, start: bytes
) -> None:
    """Trailers and extensions of chunks have the limit of a head: they are not read endlessly."""
    written = 0

    async def script(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(head(b"application/json", chunked=True) + start)
        while written < 64 * len(PIECE):
            writer.write(PIECE)
            await writer.drain()
            written += len(PIECE)

    server.script = script

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert (error.kind, error.billed) == ("malformed_response", "unknown")
    assert "too much besides its body" in str(error)


async def test_many_small_chunks(server: Scripted, openai_provider: HttpProvider) -> None:
    """The sizes of chunks never count as such, even where each arrives alone."""
    answer = BODY[:-1] + b" " * 40_000 + b"}"
    server.answer(
        head(b"application/json", chunked=True),
        *(piece for byte in answer for piece in (b"1\r\n", b"%c\r\n" % byte)),
        b"0\r\n\r\n",
    )

    found = await openai_provider.complete(call(deployment(server.url), ask(), timeout_s=60))

    assert found.body == answer


@pytest.mark.parametrize(
    "codings",
    [
        b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
    ],
)
async def test_half_of_a_chunked_answer(
    server: Scripted, openai_provider: HttpProvider, codings: bytes
) -> None:
    """An answer in chunks is not complete when its connection ends, whatever else its coding says."""
    server.answer(
        head(b"text/plain", extra=codings) + b"400\r\n" + BODY[:100],
        hang_up=True,
    )

    error = await failure(openai_provider, call(deployment(server.url), ask()))

    assert "the connection broke during its response" in str(error)


async def test_an_answer_that_waits_for_the_next_request() -> None:
    """A second answer that arrived before the loop came to it does not go to the next request."""
    sent = threading.Event()
    more = threading.Event()

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            kept = []
            for number in range(2):
                connection, _ = listener.accept()
                kept.append(connection)
                connection.recv(65_536)
                connection.sendall(REPLY)
                if number == 0:
                    more.wait(10)
                    connection.sendall(REPLY.replace(b"chatcmpl-1", b"chatcmpl-2"))
                    sent.set()
            for connection in kept:
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        target = deployment(f"http://127.0.0.1:{listener.getsockname()[1]}")
        provider = HttpProvider()
        await provider.complete(call(target, ask()))
        more.set()
        assert sent.wait(10)  # the loop stands still meanwhile, as if it were busy

        answer = await provider.complete(call(target, ask()))

        assert answer.body == BODY
        await provider.close()
        thread.join(10)
