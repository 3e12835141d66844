"""A request's parameters as attributes of its span, by the names of the GenAI conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from spanledger.wires.base import INT64, MAX_ITEMS, MAX_TEXT
from spanledger.wires.fields import DECODE_ERRORS

_FLOAT = msgspec.json.Decoder(float)
_INT = msgspec.json.Decoder(int)
_STR = msgspec.json.Decoder(str)
"""Made once: making a decoder takes longer than decoding with it."""


def _number(raw: msgspec.Raw) -> float:
    return _FLOAT.decode(raw)


def _integer(raw: msgspec.Raw) -> int | None:
    value = _INT.decode(raw)
    return value if value in INT64 else None


def _text(raw: msgspec.Raw) -> str:
    return _STR.decode(raw)[:MAX_TEXT]


def _texts(raw: msgspec.Raw) -> list[str]:
    value = msgspec.json.decode(raw, type=str | list[str])
    return [text[:MAX_TEXT] for text in ([value] if isinstance(value, str) else value)[:MAX_ITEMS]]


def _choices(raw: msgspec.Raw) -> int | None:
    """The convention sets the count of choices only where it is not 1."""
    count = _integer(raw)
    return None if count == 1 else count


class _Format(msgspec.Struct):
    type: str = ""


def _output_type(raw: msgspec.Raw) -> str | None:
    kind = msgspec.json.decode(raw, type=_Format).type
    return {"text": "text", "json_object": "json", "json_schema": "json"}.get(kind)


class _TextSettings(msgspec.Struct):
    format: _Format = msgspec.field(default_factory=_Format)


def _text_format(raw: msgspec.Raw) -> str | None:
    """The Responses API has the format in `text`."""
    kind = msgspec.json.decode(raw, type=_TextSettings).format.type
    return {"text": "text", "json_object": "json", "json_schema": "json"}.get(kind)


class _Reasoning(msgspec.Struct):
    effort: str = ""


def _effort(raw: msgspec.Raw) -> str | None:
    """OpenRouter's `reasoning`, an object where OpenAI has `reasoning_effort`."""
    return msgspec.json.decode(raw, type=_Reasoning).effort[:MAX_TEXT] or None


class _Named(msgspec.Struct):
    id: str = ""
    session_id: str = ""


def _conversation(raw: msgspec.Raw) -> str | None:
    """OpenAI's `conversation`, an id or an object with one."""
    value = msgspec.json.decode(raw, type=str | _Named)
    return (value if isinstance(value, str) else value.id)[:MAX_TEXT] or None


def _session(raw: msgspec.Raw) -> str | None:
    return msgspec.json.decode(raw, type=_Named).session_id[:MAX_TEXT] or None


ReadAttribute = Callable[[msgspec.Raw], object]
CHAT_ATTRIBUTES: dict[str, tuple[str, ReadAttribute]] = {
    "max_tokens": ("gen_ai.request.max_tokens", _integer),
    "max_completion_tokens": ("gen_ai.request.max_tokens", _integer),
    "temperature": ("gen_ai.request.temperature", _number),
    "top_p": ("gen_ai.request.top_p", _number),
    "top_k": ("gen_ai.request.top_k", _number),
    "reasoning_effort": ("gen_ai.request.reasoning.level", _text),
    "reasoning": ("gen_ai.request.reasoning.level", _effort),
    "conversation": ("gen_ai.conversation.id", _conversation),
    "session_id": ("gen_ai.conversation.id", _text),
    "litellm_session_id": ("gen_ai.conversation.id", _text),
    "metadata": ("gen_ai.conversation.id", _session),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", _number),
    "presence_penalty": ("gen_ai.request.presence_penalty", _number),
    "seed": ("gen_ai.request.seed", _integer),
    "stop": ("gen_ai.request.stop_sequences", _texts),
    "n": ("gen_ai.request.choice.count", _choices),
    "response_format": ("gen_ai.output.type", _output_type),
    "service_tier": ("openai.request.service_tier", _text),
}
"""Fields of a body that become attributes: name, and how to read them. Where several become the
same, the first in the body wins."""
RESPONSES_ATTRIBUTES: dict[str, tuple[str, ReadAttribute]] = {
    "max_output_tokens": ("gen_ai.request.max_tokens", _integer),
    "temperature": ("gen_ai.request.temperature", _number),
    "top_p": ("gen_ai.request.top_p", _number),
    "reasoning": ("gen_ai.request.reasoning.level", _effort),
    "text": ("gen_ai.output.type", _text_format),
    "metadata": ("gen_ai.conversation.id", _session),
    "service_tier": ("openai.request.service_tier", _text),
}
"""The same for the Responses API."""
EMBEDDINGS_ATTRIBUTES: dict[str, tuple[str, ReadAttribute]] = {
    "encoding_format": ("gen_ai.request.encoding_formats", _texts),
    "dimensions": ("gen_ai.embeddings.dimension.count", _integer),
}
"""The same for embeddings."""


def read_attributes(
    fields: Mapping[str, msgspec.Raw], known: Mapping[str, tuple[str, ReadAttribute]]
) -> dict[str, object]:
    """The attributes of these fields; a field of an unexpected type is left out."""
    found: dict[str, object] = {}
    for name, raw in fields.items():
        if name not in known:
            continue
        attribute, read = known[name]
        if attribute in found:
            continue
        try:
            value = read(raw)
        except DECODE_ERRORS:
            continue
        if value not in (None, "", []):
            found[attribute] = value
    return found
