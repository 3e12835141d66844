"""Counts text as OpenAI's models do, where this machine can: with tiktoken, and the encodings that LiteLLM
brings along. Nothing is downloaded.

An encoding takes half a second and some 60 MB to load, so that happens once a budget has refused. Texts are
encoded in a thread, a megabyte in about a tenth of a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from spanledger.pricing.media import UNREADABLE
from spanledger.providers import hosts
from spanledger.providers.base import Deployment

log = logging.getLogger(__name__)

MAX_COUNTED_BYTES = 4 * 2**20
LEAST_CHARACTERS = 64
"""Of shorter texts the bytes are counted."""
APART_TOKENS = 4
"""Added for each text: what stands before and behind it is encoded with it."""
CACHE_VARIABLE = "TIKTOKEN_CACHE_DIR"
_WITH_TEXT = ("messages", "input", "system", "instructions")
_TEXTS = frozenset({"content", "text", "output", "arguments"})
_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_AZURE = ".openai.azure.com"


class Encodes(Protocol):
    """What is used of tiktoken's."""

    def encode_ordinary(self, text: str) -> Sequence[int]:
        """The tokens of a text, in which nothing is special."""
        ...


class Tokenizers:
    """The encodings of this process, each loaded when it is first used."""

    def __init__(self) -> None:
        self._encodings: dict[str, Encodes | None] = {}
        self._alone = asyncio.Lock()

    async def saved(self, deployment: Deployment, fields: Mapping[str, msgspec.Raw]) -> int:
        """By how much a request's input is certainly less than its bytes, in tokens; 0 where that cannot
        be counted."""
        name = encoding_of(deployment)
        if not name:
            return 0
        async with self._alone:
            return await asyncio.to_thread(self._saved, name, fields)

    def _saved(self, name: str, fields: Mapping[str, msgspec.Raw]) -> int:
        if name not in self._encodings:
            self._encodings[name] = load(name)
        encoding = self._encodings[name]
        if encoding is None:
            return 0
        try:
            decoded = [msgspec.json.decode(fields[n]) for n in _WITH_TEXT if n in fields]
        except UNREADABLE:
            return 0
        texts = [text for value in decoded for text in _texts(value)]
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        if sum(sizes) > MAX_COUNTED_BYTES:
            return 0
        counts = [len(encoding.encode_ordinary(text)) + APART_TOKENS for text in texts]
        return sum(max(0, size - count) for size, count in zip(sizes, counts, strict=True))


def encoding_of(deployment: Deployment) -> str:
    """The encoding of a model at OpenAI's or Azure's own address; empty for all others, whose servers may
    count by anything, and where tiktoken is not installed."""
    if not _is_openais(deployment) or importlib.util.find_spec("tiktoken") is None:
        return ""
    from tiktoken.model import encoding_name_for_model

    try:
        return encoding_name_for_model(
            (deployment.base_model or deployment.model).rpartition("/")[2]
        )
    except KeyError:
        return ""


def _is_openais(deployment: Deployment) -> bool:
    base = deployment.api_base
    if base is None:
        return deployment.provider == "openai"
    owner = hosts.host_of(base)
    if owner is not None:
        return owner.prefix == "openai"
    return (urlsplit(base).hostname or "").endswith(_AZURE)


def load(name: str) -> Encodes | None:
    """An encoding from a file of this machine; None if there is none."""
    file = hashlib.sha1(_URL.format(name).encode(), usedforsecurity=False).hexdigest()
    own = os.environ.get(CACHE_VARIABLE)
    folder = Path(own) if own else _litellms()
    if folder is None or not (folder / file).is_file():
        return None
    os.environ[CACHE_VARIABLE] = str(folder)  # as LiteLLM itself does
    try:
        import tiktoken

        return tiktoken.get_encoding(name)
    except (ImportError, OSError, ValueError) as error:
        log.warning("the tokenizer %r cannot be used: %s", name, error)
        return None


def _litellms() -> Path | None:
    """Where LiteLLM has encodings, found without the seconds that its import takes."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")


def _texts(value: Any, named: bool = True) -> Iterator[str]:
    """Texts that a model reads as they stand. Everything else, such as the name of a tool, may be written
    in another way, so its bytes stay counted."""
    if isinstance(value, str):
        if named and len(value) >= LEAST_CHARACTERS:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, named)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, name in _TEXTS)
