"""Joins streams and splits answers if a server sends the other form than the one requested.

Usage that a stream reported before it broke is kept, because it is billed. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spanledger.errors import ProviderError
from spanledger.pricing.usage import Usage
from spanledger.providers.answer_forms import completion_of
from spanledger.providers.base import Answer, Call, FailedAnswerError, Frame
from spanledger.providers.openai_wire import DECODE_ERRORS, DONE, malformed, read_answer, read_chunk
from spanledger.providers.sse import ErrorPayload, events_of


def joined(call: Call, body: bytes, provider_request_id: str) -> Answer:
    """The complete answer from a stream, for a server that streams unrequested.

    Raises:
        ProviderError: the stream is incomplete, or contains an error.
    """
    frames: list[Frame] = []
    try:
        for payload in events_of(body):
            if payload.startswith(DONE):
                break
            one_line = payload if type(payload) is ErrorPayload else payload.replace(b"\n", b" ")
            frames.append(read_chunk(call, one_line, provider_request_id, began=bool(frames)))
        return answer_of(call, frames)
    except FailedAnswerError:
        raise
    except ProviderError as error:
        raise failed_after(error, frames) from None


def failed_after(error: ProviderError, frames: Iterable[Frame]) -> ProviderError:
    """The error, with the usage that earlier events reported, which is billed."""
    usage = _told(frames)
    if usage is None:
        return error
    return FailedAnswerError(error, Answer(b"", usage, finish_reasons=("error",)))


def _told(frames: Iterable[Frame]) -> Usage | None:
    told: Usage | None = None
    for frame in frames:
        if frame.usage is not None:
            told = frame.usage if told is None else told.followed_by(frame.usage)
    return told


def join_chunks(call: Call, chunks: list[bytes]) -> bytes:
    """The complete answer from these chunks. Raises ProviderError."""
    try:
        whole = completion_of(chunks)
    except (*DECODE_ERRORS, KeyError, TypeError, AttributeError):
        whole = None
    if whole is None:
        raise malformed(call, "it sent an unrequested stream, which is incomplete")
    return whole


def answer_of(call: Call, frames: Iterable[Frame]) -> Answer:
    """The complete answer from an adapter's frames. Raises ProviderError."""
    frames = list(frames)
    body = join_chunks(call, [frame.data.removeprefix(b"data: ") for frame in frames])
    found = read_answer(call, body)
    return replace(
        found,
        usage=_told(frames) or found.usage,
        provider_request_id=frames[-1].provider_request_id,
        service=next((frame.service for frame in reversed(frames) if frame.service), ""),
    )


def frame_of(call: Call, answer: Answer) -> Frame:
    """A non-streamed answer as the only event of a stream."""
    frame = read_chunk(call, answer.body, answer.provider_request_id, began=False)
    frame.usage = answer.usage or frame.usage
    frame.service = answer.service
    return frame
