"""The masking of our key in what passes by."""

from __future__ import annotations

import random

import pytest

from spanledger.providers.forward import KeyMask

KEY = "sk-sk-secret"


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 40])
def test_a_key_in_pieces_is_masked(pieces: int) -> None:
    """Wherever the pieces are cut, the key is masked, and nothing else changes or is lost."""
    text = f"s sk sk-s {KEY}{KEY} sk-sk-sk-secre {KEY} sk-sk-".encode()
    dice = random.Random(pieces)
    for _ in range(200):
        cuts = sorted(dice.sample(range(len(text)), pieces - 1))
        mask = KeyMask(KEY)
        parts = zip([0, *cuts], [*cuts, len(text)], strict=True)
        out = b"".join(mask.feed(text[start:end]) for start, end in parts) + mask.rest()
        assert out == text.replace(KEY.encode(), b"*" * len(KEY))


def test_only_a_beginning_of_the_key_waits() -> None:
    """A piece that cannot be part of the key goes on at once."""
    mask = KeyMask(KEY)
    assert mask.feed(b"data: {}\n\n") == b"data: {}\n\n"
    assert mask.feed(b"x s") == b"x "
    assert mask.feed(b"o") == b"so"


@pytest.mark.parametrize("key", [None, "", "short"])
def test_without_a_key_nothing_changes(key: str | None) -> None:
    """A deployment without a key, or with one as short as a word, has nothing to mask."""
    assert KeyMask(key).feed(b"a short text") == b"a short text"
