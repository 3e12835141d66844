"""The simulator's token model: four UTF-8 bytes of text are one token, or as few as one.

It owns counting and truncating, and knows nothing about wires. With so simple a model, a test can
say what a call must cost without running the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

TOKENS_PER_MESSAGE = 3
PAGES_MAX = 24
"""Most pages of a file."""


class Counting(NamedTuple):
    """How a provider counts.

    Attributes:
        text: bytes of text per token.
        image: tokens of an image.
        small_image: of one in low detail.
        page: of a file's page, with its picture.
        tools: of the instructions that come with the first tool.
        hosted_tool: of what a tool of the provider's own reads, such as pages of a web search.
    """

    text: int = 4
    image: int = 1_445
    small_image: int = 85
    page: int = 1_100
    tools: int = 0
    hosted_tool: int = 2_000


USUAL = Counting()
DENSEST = Counting(1, 48_169, 2_833, 4_600, 804, 50_000)
"""Nobody bills more: a token for each byte, as tokenizers do for scripts that they do not know; images as
gpt-4o-mini counts them, pages and instructions for tools as Anthropic does."""
COUNTING: ContextVar[Counting] = ContextVar("counting", default=USUAL)
"""How the provider of the current call counts."""


def tokens(text: str) -> int:
    """Tokens of one text, rounded up."""
    return _ceil(len(text.encode("utf-8", "surrogatepass")))


def pieces(text: str) -> Iterator[tuple[str, int]]:
    """Split a text as it is streamed: pieces of up to a token's bytes, each with the tokens it adds.

    A character is never split, so non-ASCII text makes some pieces shorter; their tokens
    still add up to `tokens(text)`.
    """
    width_max = COUNTING.get().text
    if text.isascii():
        for start in range(0, len(text), width_max):
            yield text[start : start + width_max], 1
        return
    piece, size, sent = "", 0, 0
    for character in text:
        width = len(character.encode("utf-8", "surrogatepass"))
        if size + width > width_max and piece:
            yield piece, _ceil(sent + size) - _ceil(sent)
            piece, size, sent = "", 0, sent + size
        piece, size = piece + character, size + width
    if piece:
        yield piece, _ceil(sent + size) - _ceil(sent)


def truncate(text: str, limit: int) -> str:
    """The longest prefix of a text that is at most `limit` tokens."""
    data = text.encode("utf-8", "surrogatepass")
    size = limit * COUNTING.get().text
    return text if len(data) <= size else data[:size].decode("utf-8", "ignore")


def file_tokens(data: object) -> int:
    """Tokens of a file, whose pages are as many as its data or its address say by chance."""
    text = data if isinstance(data, str) else ""
    return (1 + sum(text.encode("utf-8", "surrogatepass")) % PAGES_MAX) * COUNTING.get().page


def _ceil(size: int) -> int:
    return -(-size // COUNTING.get().text)
