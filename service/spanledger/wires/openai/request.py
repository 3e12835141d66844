"""A request on OpenAI's wire as it goes out: the caller's own, except for model, stream and cap."""

from __future__ import annotations

import msgspec

from spanledger.wires.base import WRITES_TEXT, Outgoing
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, OBJECT, is_set

_INTEGER = msgspec.json.Decoder(int)
_ENCODER = msgspec.json.Encoder()


def encode_request(out: Outgoing, *, stream: bool, cap_key: str, ask_usage: bool = True) -> bytes:
    """The body to send: the caller's own, with the model, stream and cap of this attempt.

    `cap_key` is the name the provider knows an output cap by, for callers that set none;
    `ask_usage` is False for a server that refuses `stream_options`.

    Raises:
        ProviderError: `stream_options` or a cap is not what it should be.
    """
    fields: dict[str, object] = {**out.fields, "model": out.deployment.model}
    options = fields.pop("stream_options", None)
    fields.pop("stream", None)
    if stream:
        fields["stream"] = True
        if ask_usage and out.deployment.asks_usage:
            fields["stream_options"] = _with_usage(options)
        elif isinstance(options, msgspec.Raw) and is_set(options):
            out.changed.append("stream_options")
    if out.max_output_tokens is not None and out.wire.operation in WRITES_TEXT:
        _cap(fields, out.max_output_tokens, cap_key)
    return _ENCODER.encode(fields)


def asks_for_usage(options: object) -> bool:
    """Whether the caller's `stream_options` contain only what we add."""
    if not isinstance(options, msgspec.Raw) or not is_set(options):
        return True
    try:
        return OBJECT.decode(options).keys() <= {"include_usage"}
    except DECODE_ERRORS:
        return False


def _with_usage(options: object) -> dict[str, object]:
    merged: dict[str, object] = {}
    if isinstance(options, msgspec.Raw) and is_set(options):
        try:
            merged.update(OBJECT.decode(options))
        except DECODE_ERRORS:
            raise invalid("'stream_options' must be an object", param="stream_options") from None
    merged["include_usage"] = True
    return merged


def _cap(fields: dict[str, object], cap: int, cap_key: str) -> None:
    """Lower the caller's own caps, or set one if there is none. Servers refuse both at once."""
    capped = False
    for key in ("max_completion_tokens", "max_tokens"):
        raw = fields.get(key)
        if not isinstance(raw, msgspec.Raw) or not is_set(raw):
            continue
        try:
            wanted = _INTEGER.decode(raw)
        except DECODE_ERRORS:
            raise invalid(f"{key!r} must be an integer", param=key) from None
        fields[key] = min(wanted, cap)
        capped = True
    if not capped:
        fields[cap_key] = cap
