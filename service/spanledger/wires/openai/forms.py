"""OpenAI's wires whose requests are forms with files."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.wires.base import Ask, Habits, Outgoing, Written
from spanledger.wires.failures import invalid
from spanledger.wires.fields import Fields, is_set, missing, wrong
from spanledger.wires.form import Form
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.outbound import EmbeddingsOut
from spanledger.wires.openai.spelling import ACTED_ON, check_spelling

SINGLE = ACTED_ON | {
    "chunking_strategy",
    "input_fidelity",
    "language",
    "mask",
    "partial_images",
    "quality",
    "response_format",
    "size",
    "temperature",
    "user",
}
"""Fields that a form has once at most: of two, a provider may read another one than we do."""
_NUMBERS = ("n", "partial_images")


class FormInbound(OpenAIInbound):
    """The common part of inbound wires that are forms."""

    end = b""

    def read(self, body: bytes) -> Ask:
        """Not reached: the body of such a wire is read as a form. Raises InvalidRequestError."""
        del body
        raise InvalidRequestError(
            "the body must be a form; send `multipart/form-data`",
            status=415,
            code="unsupported_media_type",
        )


def read_fields(form: Form) -> Fields:
    """The fields of a form, those that we act on as what they mean. Raises InvalidRequestError."""
    fields = form.fields
    folded = {name.removesuffix("[]"): raw for name, raw in fields.items()}
    check_spelling(folded)
    for name, raw in fields.items():
        plain = name.removesuffix("[]")
        if plain in SINGLE and (plain != name or bytes(raw)[:1] == b"["):
            raise wrong(name, f"a single field with the name {plain!r}")
    for part in form.parts:
        if part.is_file and part.name in SINGLE - {"mask"}:
            raise wrong(part.name, "a field without a file name")
    if "model" not in fields:
        raise missing("model")
    for name in _NUMBERS:
        text = text_of(fields, name)
        if text.isascii() and text.isdecimal() and len(text) < 10:
            fields[name] = msgspec.Raw(str(int(text)).encode())
    if "stream" in fields:
        said = text_of(fields, "stream").lower()
        if said not in ("true", "false", "1", "0", ""):
            raise wrong("stream", "true or false")
        fields["stream"] = msgspec.Raw(b"true" if said in ("true", "1") else b"false")
    return fields


def text_of(fields: Mapping[str, msgspec.Raw], name: str) -> str:
    """A field that is a text; empty if it is not one."""
    raw = fields.get(name)
    try:
        value = None if raw is None else msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return ""
    return value if isinstance(value, str) else ""


class FormOut(EmbeddingsOut):
    """The common part of outbound wires that are forms."""

    spelled = False

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The caller's form with the deployment's model."""
        del stream, habits
        if out.upload is None:
            raise invalid("this endpoint needs a form with a file")
        return Written(out, b"", pieces=out.upload.form.pieces(out.fields, out.deployment.model))


def size_of(form: Form) -> int:
    """Bytes of a form without its files."""
    return form.size - sum(part.size for part in form.parts if part.is_file)


def has(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    """Whether a field is there and says something."""
    raw = fields.get(name)
    return raw is not None and is_set(raw) and bytes(raw) != b'""'
