"""Which model a path of Google's names, and what it asks."""

from __future__ import annotations

import pytest

from spanledger.errors import InvalidRequestError
from spanledger.wires import GENERATE, named_in_path, spoken_by
from spanledger.wires.gemini.paths import asked_in, is_model_path

SSE = b"alt=sse"


@pytest.mark.parametrize(
    ("path", "model", "verb"),
    [
        (b"/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", "generateContent"),
        (b"/v1/models/gpt:countTokens", "gpt", "countTokens"),
        (b"/v1alpha/models/m:streamGenerateContent", "m", "streamGenerateContent"),
        (b"/v1beta/models/openai/gpt-4o:generateContent", "openai/gpt-4o", "generateContent"),
        (b"/v1beta/models/ollama/llama3:8b:generateContent", "ollama/llama3:8b", "generateContent"),
        (b"/v1beta/models/openai%2Fgpt:generateContent", "openai/gpt", "generateContent"),
        (b"/v1beta/models/llama3%3A8b:generateContent", "llama3:8b", "generateContent"),
        (b"/v1beta/models/m%3AgenerateContent", "m", "generateContent"),
        (b"/v1beta/models/a%3Ab%3agenerateContent", "a:b", "generateContent"),
        (b"/v1beta/models/models/m:generateContent", "models/m", "generateContent"),
        (b"/v1beta/models/a%252Fb:generateContent", "a%2Fb", "generateContent"),
        (b"/v1beta//models//m:generateContent/", "m", "generateContent"),
        (b"/v1beta/models/caf%C3%A9:generateContent", "caf\u00e9", "generateContent"),
        (b"/v1beta/models/:generateContent", "", "generateContent"),
        (b"/v1beta/models/%FF:generateContent", "", "generateContent"),
    ],
)
def test_the_last_colon_is_the_verbs(path: bytes, model: str, verb: str) -> None:
    """What is before it is the model, decoded once, with all its slashes and colons."""
    assert asked_in(path) == (model, verb)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1beta/models/m:embedContent",
        b"/v1beta/models/m",
        b"/v1beta/tunedModels/m:generateContent",
        b"/v1beta/cachedContents",
        b"/v1/chat/completions",
        b"/v2/models/m:generateContent",
        b"/v1beta/models/m:generatecontent",
    ],
)
def test_other_paths(path: bytes) -> None:
    """They ask nothing that is served here."""
    assert asked_in(path) is None


def test_a_stream_is_asked_for_as_events() -> None:
    """A stream as one long array is refused by the wire, not by its path."""
    found = named_in_path(b"/v1beta/models/m:streamGenerateContent", SSE)
    assert found is not None
    assert found.wire.read(b'{"contents":[{"parts":[{"text":"x"}]}]}').stream
    other = named_in_path(b"/v1beta/models/m:streamGenerateContent", b"")
    assert other is not None
    with pytest.raises(InvalidRequestError, match="alt=sse"):
        other.wire.read(b'{"contents":[{"parts":[{"text":"x"}]}]}')


def test_errors_are_in_the_callers_shape() -> None:
    """Google's paths, and its header for the key, say who is calling."""
    assert spoken_by("/v1beta/files", {}) is GENERATE
    assert spoken_by("/v1/models", {b"x-goog-api-key": b"k"}) is GENERATE
    assert spoken_by("/v1/chat/completions", {b"x-goog-api-key": b"k"}) is not GENERATE


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1beta/models", True),
        ("/v1beta/models/a/b:c", True),
        ("/v1beta/modelsx", False),
        ("/v1/models", False),
    ],
)
def test_lists_of_models(path: str, wanted: bool) -> None:
    """They are at Google's path as well."""
    assert is_model_path(path) is wanted
