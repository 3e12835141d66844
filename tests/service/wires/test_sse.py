"""Server-sent events are recognized however the network splits them."""

from __future__ import annotations

import pytest

from spanledger.wires.sse import EventParser, EventTooLargeError, encode_event

STREAM = (
    b"\xef\xbb\xbf: ping\n\n"
    b'data: {"a":"\xc3\xa9"}\n\n'
    b"event: message\r\nid: 7\r\ndata:no space\r\n\r\n"
    b": keep-alive\r\n\r\n"
    b"retry: 100\n\n"
    b"data:\n\n"
    b"data: one\rdata:  two\r\r"
    b"\n\n\n"
    b"data: [DONE]\n\n"
)
PAYLOADS = [b'{"a":"\xc3\xa9"}', b"no space", b"one\n two", b"[DONE]"]


def parse(*pieces: bytes, limit: int = 1000) -> list[bytes]:
    """The payloads of a stream that arrives in these pieces."""
    parser = EventParser(limit)
    return [payload for piece in pieces for payload in parser.feed(piece)]


def test_cut_anywhere() -> None:
    """The same events result wherever the bytes are split in three, and byte by byte."""
    size = len(STREAM)
    for first in range(size + 1):
        for second in range(first, size + 1, 5):
            pieces = STREAM[:first], STREAM[first:second], STREAM[second:]

            assert parse(*pieces) == PAYLOADS, pieces
    assert parse(*(STREAM[i : i + 1] for i in range(size))) == PAYLOADS


def test_unfinished_event_is_kept_apart() -> None:
    """An event without a final blank line is not an event; its payload is kept for an end mark."""
    parser = EventParser(1000)

    assert parser.feed(b"data: 1\n\ndata: [DONE]\n") == [b"1"]
    assert parser.finish() == b"[DONE]"
    assert parser.finish() == b""


@pytest.mark.parametrize("pieces", [1, 7, 100])
def test_event_over_the_limit_is_refused_before_it_is_whole(pieces: int) -> None:
    """An endless event is aborted at the limit, in one read or in many."""
    event = b"data: " + b"x" * 120
    step = -(-len(event) // pieces)

    with pytest.raises(EventTooLargeError):
        parse(*(event[i : i + step] for i in range(0, len(event), step)), limit=100)
    with pytest.raises(EventTooLargeError):
        parse(event + b"\n\n", limit=100)


def test_encoding_is_the_inverse() -> None:
    """A relayed event parses to the same payload, however many lines it has."""
    for payload in PAYLOADS:
        assert [payload] == parse(encode_event(payload))
