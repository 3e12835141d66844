"""What goes to a provider with a request that is passed on, and the masking of our secrets in what
comes back."""

from __future__ import annotations

import random

import pytest

from spanledger.errors import InvalidRequestError
from spanledger.providers.base import Deployment, Passage
from spanledger.providers.forward import passage_target
from spanledger.providers.own_secrets import SecretMask, masked, secrets_of

KEY = "sk-sk-secret"


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 40])
def test_a_key_in_pieces_is_masked(pieces: int) -> None:
    """Wherever the pieces are cut, the key is masked, and nothing else changes or is lost."""
    text = f"s sk sk-s {KEY}{KEY} sk-sk-sk-secre {KEY} sk-sk-".encode()
    dice = random.Random(pieces)
    for _ in range(200):
        cuts = sorted(dice.sample(range(len(text)), pieces - 1))
        mask = SecretMask((KEY.encode(),))
        parts = zip([0, *cuts], [*cuts, len(text)], strict=True)
        out = b"".join(mask.feed(text[start:end]) for start, end in parts) + mask.rest()
        assert out == text.replace(KEY.encode(), b"*" * len(KEY))


def test_only_a_beginning_of_the_key_waits() -> None:
    """A piece that cannot be part of the key goes on at once."""
    mask = SecretMask((KEY.encode(),))
    assert mask.feed(b"data: {}\n\n") == b"data: {}\n\n"
    assert mask.feed(b"x s") == b"x "
    assert mask.feed(b"o") == b"so"


def deployment(base: str | None = None, key: str | None = None, **headers: str) -> Deployment:
    """A deployment with these secrets."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Deployment("d", "r", "openai", "openai", "m", "openai/m", base, "", key, headers=named)


@pytest.mark.parametrize("key", [None, "", "short"])
def test_without_a_key_nothing_changes(key: str | None) -> None:
    """A deployment without a key, or with one as short as a word, has nothing to mask."""
    mask = SecretMask(secrets_of(deployment(key=key)))
    assert mask.feed(b"a short text") == b"a short text"


def test_every_secret_is_masked() -> None:
    """The key, the password of the address, what HTTP makes of it, and headers that are secret by
    their name; a header that only says who calls is none."""
    found = secrets_of(
        deployment(
            "http://joe:pass-word-1@host/v1",
            KEY,
            X_Proxy_Token="Bearer token-0123456",
            X_Team="engineering",
        )
    )
    text = b"sk-sk-secret pass-word-1 am9lOnBhc3Mtd29yZC0x token-0123456 engineering joe"
    out = masked(text, found)
    assert out == b"*" * 12 + b" " + b"*" * 11 + b" " + b"*" * 20 + b" " + b"*" * 13 + (
        b" engineering joe"
    )


def test_two_secrets_in_pieces() -> None:
    """Each of several secrets is masked wherever the pieces are cut, the longer one where both are."""
    mask_of = (b"aabaac-long", b"aabaac")
    text = b"aabaaaabaac aabaac-long aabaac-lon"
    for cut in range(len(text)):
        mask = SecretMask(mask_of)
        out = mask.feed(text[:cut]) + mask.feed(text[cut:]) + mask.rest()
        assert b"aabaac" not in out
        assert len(out) == len(text)


def sent(target: Deployment, query: str = "", *headers: tuple[bytes, bytes]) -> dict[str, str]:
    """The headers that a provider gets."""
    passage = Passage("openai", "GET", "models", query, headers, b"")
    return dict(passage_target(target, passage)[0].headers)


def test_an_address_with_a_password() -> None:
    """The password of an address is sent as HTTP has it, unless a key takes its place."""
    base = "http://joe:pass@host/v1"
    assert sent(deployment(base))["authorization"] == "Basic am9lOnBhc3M="
    assert sent(deployment(base, KEY))["authorization"] == f"Bearer {KEY}"
    assert sent(deployment(base, Authorization="own"))["authorization"] == "own"


@pytest.mark.parametrize("name", ["x-goog-user-project", "X-LiteLLM-API-Key", "OpenAI-Project"])
def test_another_account_is_not_chosen(name: str) -> None:
    """A header of the caller's that would choose another account or project stays here; the
    deployment's own goes."""
    given = (name.encode(), b"theirs")
    assert name.lower() not in sent(deployment(), "", given)
    own = deployment(**{name.replace("-", "_"): "ours"})
    assert sent(own, "", given)[name.lower()] == "ours"


@pytest.mark.parametrize("query", ["key=AIza", "a=1&%24userProject=p", "access_token=x"])
def test_another_account_at_google(query: str) -> None:
    """Parameters by which Google would take another account are refused there, and pass elsewhere."""
    google = deployment("https://generativelanguage.googleapis.com/v1beta")
    with pytest.raises(InvalidRequestError) as caught:
        sent(google, query)
    assert caught.value.code == "key_in_query"
    sent(google, "alt=sse")
    sent(deployment("https://example.com/v1"), query)
