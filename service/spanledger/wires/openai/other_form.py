"""Streams joined and answers split, where a server sends the form that was not requested.

Usage that a stream reported before it broke is kept: it is billed.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from spanledger.errors import ProviderError
from spanledger.wires.base import Answer, FailedAnswerError, Frame, Server
from spanledger.wires.failures import failed_after, malformed, reported_by
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.openai.answer import DONE, read_answer, read_chunk
from spanledger.wires.openai.answer_forms import completion_of
from spanledger.wires.sse import ErrorPayload, events_of


def joined(server: Server, body: bytes, provider_request_id: str) -> Answer:
    """The complete answer that a stream adds up to, for a server that streams unasked.

    Raises:
        ProviderError: the stream has no end, or an error in it.
    """
    frames: list[Frame] = []
    try:
        for payload in events_of(body):
            if payload.startswith(DONE):
                break
            one_line = payload if type(payload) is ErrorPayload else payload.replace(b"\n", b" ")
            frames.append(read_chunk(server, one_line, provider_request_id, began=bool(frames)))
        return answer_of(server, frames)
    except FailedAnswerError:
        raise
    except ProviderError as error:
        raise failed_after(error, frames) from None


def join_chunks(server: Server, chunks: list[bytes]) -> bytes:
    """The complete answer that these chunks add up to. Raises ProviderError."""
    try:
        whole = completion_of(chunks)
    except (*DECODE_ERRORS, KeyError, TypeError, AttributeError):
        whole = None
    if whole is None:
        raise malformed(server, "it sent an unfinished stream, and a complete answer was requested")
    return whole


def answer_of(server: Server, frames: Iterable[Frame]) -> Answer:
    """The complete answer that the frames of a stream add up to. Raises ProviderError."""
    frames = list(frames)
    body = join_chunks(server, [frame.data.removeprefix(b"data: ") for frame in frames])
    found = read_answer(server, body)
    return replace(
        found,
        usage=reported_by(frames) or found.usage,
        provider_request_id=frames[-1].provider_request_id,
        service=next((frame.service for frame in reversed(frames) if frame.service), ""),
    )


def frame_of(server: Server, answer: Answer) -> Frame:
    """A complete answer as the only event of a stream."""
    frame = read_chunk(server, answer.body, answer.provider_request_id, began=False)
    frame.usage = answer.usage or frame.usage
    frame.service = answer.service
    return frame
