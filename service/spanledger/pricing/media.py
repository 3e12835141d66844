"""Tokens of the non-text parts of a prompt: their maximum, and their likely number.

Images, audio, video and files arrive as base64 or as a link, and only the provider knows how many
tokens they are. Before a request is sent, their kind and the size of their data give a bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from spanledger.pricing.usage import estimate_tokens

HIDDEN_TOKENS = 1_024
"""What a provider may add to a prompt: Anthropic's instructions for tools are the longest known,
under 600 tokens."""
IMAGE_TOKENS = 48_169
"""The most expensive known image: gpt-4o-mini in high detail, 8 tiles (2048 by 768) of 5,667 tokens
and 2,833 for the base. gpt-4o counts 1,445 for it, Anthropic under 4,800, Gemini about 4,100."""
LOW_DETAIL_TOKENS = 16_384
"""An image in low detail: 2,833 for gpt-4o-mini and 85 for gpt-4o. Servers that do not know the field count
all of it: Anthropic up to 4,784, Qwen's models up to this many."""
FILE_TOKENS = 2_760_000
"""A PDF: 600 pages, each up to 3,000 tokens of text and 1,600 for its image (Anthropic's figures
and limit, the largest of those published): more than any context window. Its base64 is counted as
text in addition."""
WINDOW_TOKENS = 1_048_576
"""A video, or audio behind a link: as long as a context window allows."""
AUDIO_BYTES_PER_TOKEN = 8
"""Base64 bytes of audio per token. Gemini counts 32 tokens per second, OpenAI 10; even speech at
6 kbit/s has 31 base64 bytes for each of those 32."""
SPOKEN_TOKENS = 16_384
"""An earlier spoken answer, referenced by its id: the longest that OpenAI's models produce."""

LIKELY_IMAGE_TOKENS = 1_445
"""gpt-4o's largest image; Anthropic counts up to 1,600 for most."""
LIKELY_LOW_DETAIL_TOKENS = 85
LIKELY_FILE_TOKENS = 16_384
"""For a file that is only referenced: about ten pages. If the file is sent, its bytes count."""
LIKELY_AUDIO_BYTES_PER_TOKEN = 512
"""Compressed speech, at 10 to 32 tokens per second."""

_IMAGE, _SOUND, _SPOKEN, _FILE, _FILM = "image", "sound", "spoken", "file", "film"
MEDIA = {
    "image_url": _IMAGE,
    "image": _IMAGE,
    "input_image": _IMAGE,
    "image_embeds": _IMAGE,
    "input_audio": _SOUND,
    "audio_url": _SOUND,
    "audio": _SOUND,
    "file": _FILE,
    "document": _FILE,
    "input_file": _FILE,
    "video_url": _FILM,
    "video": _FILM,
    "input_video": _FILM,
}
"""The type or the key of a content part, and its kind."""
_BACKSLASH = ord("\\")
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
"""An escaped letter, which could hide a name; ordinary text escapes only other characters."""
_NAMED = re.compile(rb'"(?:image|audio|video|input_(?:image|audio|file|video)|file"|document")')
"""How a name from `MEDIA` starts; one search, as it begins at quotes alone."""
_FIELDS = ("messages", "input")
UNREADABLE = (ValueError, RecursionError)
"""`ValueError` is the base class of all decoding errors of `json` and msgspec."""


class InputBound(msgspec.Struct, frozen=True):
    """The most input that a request can have.

    Attributes:
        tokens: bound on all its input tokens.
        sound: whether some of it may be audio, which is priced separately.
        repeated: a key that appears twice in one of its objects. Nobody knows which value a
            provider uses, so there is no bound. Checked only if it may have non-text parts.
    """

    tokens: int
    sound: bool = False
    repeated: str = ""


class _Part(NamedTuple):
    """A non-text part: its kind, and the size of its base64; None if the data is elsewhere."""

    kind: str
    data_bytes: int | None
    low_detail: bool


def bound_input(body_bytes: int, fields: Mapping[str, msgspec.Raw] | None = None) -> InputBound:
    """A number of input tokens that a request cannot exceed, for its hold.

    Byte-level BPE never makes more tokens than the text has UTF-8 bytes, JSON never encodes a text
    in fewer bytes than UTF-8, and a chat template adds less around a message than JSON does. So
    the size of the body bounds the text, and `HIDDEN_TOKENS` what a provider adds by itself.
    Images, audio and files count by their kind (`MEDIA`) instead of by their base64. Without them
    this costs a few substring searches.

    The bound does not depend on the model; a caller lowers it to the model's context window.
    """
    bound, sound, repeated = body_bytes + HIDDEN_TOKENS, False, ""
    for name in _FIELDS:
        raw = b"" if fields is None or name not in fields else bytes(fields[name])
        if raw and _may_hold_media(raw):
            try:
                content, twice = decode_noting_repeats(raw)
                parts = list(_parts(content))
            except UNREADABLE:
                return InputBound(bound + WINDOW_TOKENS, sound=True)
            repeated = repeated or twice
            bound += sum(map(_most, parts))
            sound = sound or any(part.kind != _IMAGE for part in parts)
    return InputBound(bound, sound, repeated)


def decode_noting_repeats(raw: bytes) -> tuple[Any, str]:
    """Decoded JSON, and a key that appears twice in one of its objects; empty if there is none.

    Of two equal keys, one parser uses the first and another the last, so we could price something
    else than the provider bills. Raises one of `UNREADABLE`.
    """
    repeated = ""

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
        return made

    return json.loads(raw, object_pairs_hook=note), repeated


def _may_hold_media(raw: bytes) -> bool:
    """Whether a name from `MEDIA` may start somewhere; false positives are sorted out afterwards."""
    return _NAMED.search(raw) is not None or hides_letters(raw)


def hides_letters(raw: bytes) -> bool:
    """Whether JSON may hide a word from a search in its bytes: it has an ASCII character escaped, which
    no ordinary client does but for control characters."""
    return _BACKSLASH in raw and b"\\u00" in raw and _ESCAPED_ASCII.search(raw) is not None


def plainly(raw: bytes) -> bytes:
    """The same JSON in which no escape hides a letter, to be searched. What cannot be read stays."""
    if not hides_letters(raw):
        return raw
    try:
        return msgspec.json.encode(msgspec.json.decode(raw))
    except UNREADABLE:
        return raw


def has_media(raw: bytes) -> bool:
    """Whether messages have parts that are not text, or cannot be read."""
    if not _may_hold_media(raw):
        return False
    try:
        return any(_parts(json.loads(raw)))
    except UNREADABLE:
        return True


def likely_media(content: Any) -> tuple[int, int]:
    """The likely tokens of the non-text parts in decoded messages, if nobody reported them, and how
    many of those are audio."""
    counts = [(part.kind, _likely(part)) for part in _parts(content)]
    sound = sum(tokens for kind, tokens in counts if kind in (_SOUND, _SPOKEN))
    return sum(tokens for _, tokens in counts), sound


def _parts(content: Any) -> Iterator[_Part]:
    """All non-text parts, at any depth."""
    if isinstance(content, list):
        for item in content:
            yield from _parts(item)
    elif isinstance(content, dict):
        kinds = {name for name in MEDIA if name in content or content.get("type") == name}
        for name in kinds:
            if (part := _part(name, content)) is not None:
                yield part
        for name, value in content.items():
            if name not in kinds and isinstance(value, dict | list):
                yield from _parts(value)


def _part(name: str, content: Mapping[str, Any]) -> _Part | None:
    value = content.get(name) or content.get("source")
    if value is None and content.get("type") != name:
        return None  # a key without a value, such as `audio` in an answer that was text
    given: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    kind, link = MEDIA[name], given.get("url", value)
    if kind == _SOUND and isinstance(given.get("id"), str):
        return _Part(_SPOKEN, None, low_detail=False)
    if kind == _IMAGE and not _is_picture(link, given.get("format")):
        kind = _FILM  # some providers accept videos and files in place of an image
    data = given.get("data", given.get("file_data", link))
    inline = isinstance(data, str) and (link is not data or data.startswith("data:"))
    size = len(data) if isinstance(data, str) and inline else None
    return _Part(kind, size, given.get("detail") == "low")


def _is_picture(link: object, media_type: object) -> bool:
    said = media_type if isinstance(media_type, str) else ""
    address = link if isinstance(link, str) else ""
    if address.startswith("data:"):
        said = said or address[5:64]
    elif address.startswith("gs:") or _OTHER_MEDIA.search(address):
        return False
    return said in ("", "auto") or said.lower().startswith("image")


_OTHER_MEDIA = re.compile(
    r"\.(pdf|mp[34g]|m4a|mpeg|mov|avi|webm|wmv|flv|3gpp?|wav|flac|ogg|opus|aac|aiff)\b",
    re.IGNORECASE,
)


def _most(part: _Part) -> int:
    """The most tokens of a part, less its base64, which the size of the body includes."""
    size = part.data_bytes or 0
    match part.kind:
        case "image":
            return (LOW_DETAIL_TOKENS if part.low_detail else IMAGE_TOKENS) - size
        case "sound" if part.data_bytes is not None:
            return -(-size // AUDIO_BYTES_PER_TOKEN) - size
        case "spoken":
            return SPOKEN_TOKENS
        case "file":
            return FILE_TOKENS
    return WINDOW_TOKENS


def _likely(part: _Part) -> int:
    match part.kind:
        case "image":
            return LIKELY_LOW_DETAIL_TOKENS if part.low_detail else LIKELY_IMAGE_TOKENS
        case "file" if part.data_bytes is not None:
            return estimate_tokens(part.data_bytes)
        case "sound" | "film" if part.data_bytes is not None:
            return -(-part.data_bytes // LIKELY_AUDIO_BYTES_PER_TOKEN)
    return LIKELY_FILE_TOKENS
