"""The simulator's token model: four UTF-8 bytes of text are one token.

It owns counting and truncating, and knows nothing about wires. With so simple a model, a test can
say what a call must cost without running the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 3
TOKENS_PER_IMAGE = 1_445
TOKENS_PER_SMALL_IMAGE = 85


def tokens(text: str) -> int:
    """Tokens of one text, rounded up."""
    return _ceil(len(text.encode("utf-8", "surrogatepass")))


def pieces(text: str) -> Iterator[tuple[str, int]]:
    """Split a text as it is streamed: pieces of up to 4 bytes, each with the tokens it adds.

    A character is never split, so non-ASCII text makes some pieces shorter; their tokens
    still add up to `tokens(text)`.
    """
    if text.isascii():
        for start in range(0, len(text), BYTES_PER_TOKEN):
            yield text[start : start + BYTES_PER_TOKEN], 1
        return
    piece, size, sent = "", 0, 0
    for character in text:
        width = len(character.encode("utf-8", "surrogatepass"))
        if size + width > BYTES_PER_TOKEN and piece:
            yield piece, _ceil(sent + size) - _ceil(sent)
            piece, size, sent = "", 0, sent + size
        piece, size = piece + character, size + width
    if piece:
        yield piece, _ceil(sent + size) - _ceil(sent)


def truncate(text: str, limit: int) -> str:
    """The longest prefix of a text that is at most `limit` tokens."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= limit * BYTES_PER_TOKEN:
        return text
    return data[: limit * BYTES_PER_TOKEN].decode("utf-8", "ignore")


def _ceil(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
