"""Tokens of a prompt's parts that are no text: the most they can be, and what they are likely to be.

Images, sound, films and files come as base64 or as a link, and how many tokens they are is the
provider's to say. Their kind and the size of their data bound them before a request leaves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from spanledger.pricing.usage import estimate_tokens

HIDDEN_TOKENS = 1_024
"""What a provider may put before a prompt: Anthropic's instructions for tools are the longest
known, under 600 tokens."""
IMAGE_TOKENS = 48_169
"""The dearest known image: gpt-4o-mini in high detail, 8 tiles (2048 by 768) of 5,667 tokens and
2,833 for the base. gpt-4o takes 1,445 for it, Anthropic under 4,800, Gemini about 4,100."""
LOW_DETAIL_TOKENS = 2_833
"""The same model's image in low detail; 85 at gpt-4o."""
FILE_TOKENS = 2_760_000
"""A PDF: 600 pages, each up to 3,000 tokens of text and 1,600 of its picture (Anthropic's figures
and limit, the largest of those published): more than any context window. Its base64 is counted as
text besides."""
WINDOW_TOKENS = 1_048_576
"""A film, or sound behind a link: as long as a context window allows."""
AUDIO_BYTES_PER_TOKEN = 8
"""Base64 bytes of sound for one token. Gemini takes 32 tokens a second, OpenAI 10; even speech at
6 kbit/s has 31 base64 bytes for each of those 32."""
SPOKEN_TOKENS = 16_384
"""An earlier spoken answer, named by its id: the longest that OpenAI's models give."""

LIKELY_IMAGE_TOKENS = 1_445
"""gpt-4o's largest image; Anthropic takes up to 1,600 for most."""
LIKELY_LOW_DETAIL_TOKENS = 85
LIKELY_FILE_TOKENS = 16_384
"""Of a file that is only named: some ten pages. Of one that is sent, its bytes are counted."""
LIKELY_AUDIO_BYTES_PER_TOKEN = 512
"""Compressed speech, at between 10 and 32 tokens a second."""

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
"""Type of a content part, or its key, and what it is."""
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
_FIELDS = ("messages", "input")
UNREADABLE = (ValueError, RecursionError)
"""`ValueError` is the base of all decoding errors, of `json` and msgspec."""


class InputBound(NamedTuple):
    """The most input a request can be.

    Attributes:
        tokens: of all its input.
        sound: whether some of it may be sound, which has a price of its own.
        repeated: a key that one of its objects has twice: which value a provider takes is anybody's
            guess, so nothing bounds it. Looked for where not all of it is text.
    """

    tokens: int
    sound: bool = False
    repeated: str = ""


class _Part(NamedTuple):
    """A part that is no text: what it is, and its data as base64, None = it is elsewhere."""

    kind: str
    data_bytes: int | None
    low_detail: bool


def bound_input(body_bytes: int, fields: Mapping[str, msgspec.Raw] | None = None) -> InputBound:
    """A number of input tokens that a request cannot exceed, for its hold.

    Byte-level BPE never makes more tokens than the text has UTF-8 bytes, and JSON never spends
    fewer bytes on a text than UTF-8; the words a chat template puts around a message are shorter
    than the JSON around it. So the body's size bounds the text, and `HIDDEN_TOKENS` what a
    provider adds on its own. Images, sound and files are not text: each counts by its kind
    (`MEDIA`) instead of by its base64. Without them this costs a few searches for a substring.

    The bound knows no model: a caller lowers it to the model's context window.
    """
    bound, sound, repeated = body_bytes + HIDDEN_TOKENS, False, ""
    for name in _FIELDS:
        raw = b"" if fields is None or name not in fields else bytes(fields[name])
        if _may_hold_media(raw):
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
    """Decoded JSON, and a key that one of its objects has twice, else nothing.

    Of two equal keys one reader takes the first and another the last: what is priced may not be
    what is billed. Raises one of `UNREADABLE`.
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
    """Whether a name of `MEDIA` may begin somewhere; text that does is told apart afterwards.

    Spelled out, since every request is asked. An escaped letter could hide a name; what is escaped
    in ordinary text is beyond ASCII.
    """
    return (
        b'"image' in raw
        or b'"audio' in raw
        or b'"video' in raw
        or b'"input_' in raw
        or b'"file"' in raw
        or b'"document"' in raw
        or (b"\\u00" in raw and _ESCAPED_ASCII.search(raw) is not None)
    )


def likely_media(content: Any) -> tuple[int, int]:
    """Tokens that the parts in some decoded messages probably are, where nobody counted them, and
    how many of them are sound."""
    counts = [(part.kind, _likely(part)) for part in _parts(content)]
    sound = sum(tokens for kind, tokens in counts if kind in (_SOUND, _SPOKEN))
    return sum(tokens for _, tokens in counts), sound


def _parts(content: Any) -> Iterator[_Part]:
    """All that is no text, at any depth."""
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
        return None  # a key without a value, such as `audio` of an answer that was text
    given: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    kind, link = MEDIA[name], given.get("url", value)
    if kind == _SOUND and isinstance(given.get("id"), str):
        return _Part(_SPOKEN, None, low_detail=False)
    if kind == _IMAGE and not _is_picture(link, given.get("format")):
        kind = _FILM  # some providers take films and files in the place of an image
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
    """The most tokens of a part, less its base64, which the body's size has in it."""
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
