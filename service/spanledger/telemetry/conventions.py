"""Two generations of the GenAI conventions, and how to translate one into the other.

The ledger's rows, the aggregates and everything else in this program use the names of v1.41. This
table lists what changed in v0.1.0 of the conventions' own repository; spans and points are
translated on export if `OTEL_SEMCONV_STABILITY_OPT_IN` asks for it. The collector's pipeline to
Prometheus renames the new metrics back. Nothing here imports a telemetry library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeVar

from spanledger.telemetry.signals import SCHEMA_URL

V = TypeVar("V")

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST = "gen_ai_latest_experimental"

_REPOSITORY = "https://github.com/open-telemetry/semantic-conventions-genai"
_INFERENCE = f"{_REPOSITORY}/blob/v0.1.0/docs/gen-ai/client-inference.md"
_EMBEDDINGS = f"{_REPOSITORY}/blob/v0.1.0/docs/gen-ai/client-embeddings.md"


class Generation(Enum):
    """A generation of names; the value is its version."""

    OLD = "v1.41"
    NEW = "v0.1.0"


SCHEMA_URLS = {
    Generation.OLD: SCHEMA_URL,
    Generation.NEW: "https://opentelemetry.io/schemas/gen-ai/0.1.0",
}


def form_of(environ: Mapping[str, str]) -> Generation:
    """The form to export, from the standard variable: a comma-separated list with our value in it."""
    wanted = {item.strip().lower() for item in environ.get(OPT_IN, "").split(",")}
    return Generation.NEW if LATEST in wanted else Generation.OLD


def unknown_opt_ins(environ: Mapping[str, str]) -> list[str]:
    """Entries of the variable that concern GenAI but are unknown, such as `gen_ai`."""
    items = [item.strip() for item in environ.get(OPT_IN, "").split(",")]
    return [item for item in items if item.lower().startswith("gen_ai") and item.lower() != LATEST]


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """A span attribute whose name or type differs in the new form."""

    old: str
    new: str
    source: str
    integer: bool = False
    """It was a double. Values that are not whole numbers are left out of the new form."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric with another name in the new form.

    One old metric can become several new ones: each receives the points that have all attributes of
    `when`, and drops those of `without`. A `counter` made from a histogram is its sum.
    """

    old: str
    new: str
    source: str
    kind: Literal["histogram", "counter"] = "histogram"
    when: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    adds: tuple[tuple[str, str], ...] = ()


ATTRIBUTE_CHANGES: tuple[AttributeChange, ...] = (
    AttributeChange(
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        f"{_REPOSITORY}/pull/440",
    ),
    AttributeChange(
        "gen_ai.request.top_k", "gen_ai.request.top_k", f"{_REPOSITORY}/pull/217", integer=True
    ),
    AttributeChange(
        "spanledger.usage.audio.input_tokens", "gen_ai.usage.audio.input_tokens", _INFERENCE
    ),
    AttributeChange(
        "spanledger.usage.audio.output_tokens", "gen_ai.usage.audio.output_tokens", _INFERENCE
    ),
)

_OPERATION, _TOKEN_TYPE = "gen_ai.operation.name", "gen_ai.token.type"
_TOKENS = "gen_ai.client.token.usage"
_CHAT, _VECTORS = (_OPERATION, "chat"), (_OPERATION, "embeddings")
_INPUT, _OUTPUT = (_TOKEN_TYPE, "input"), (_TOKEN_TYPE, "output")
_ANY_MODALITY = (("gen_ai.token.modality", "unknown"),)

METRIC_CHANGES: tuple[MetricChange, ...] = (
    MetricChange(
        "gen_ai.client.operation.duration",
        "gen_ai.client.embeddings.duration",
        _EMBEDDINGS,
        when=(_VECTORS,),
    ),
    MetricChange(
        "gen_ai.client.operation.duration",
        "gen_ai.client.inference.duration",
        f"{_REPOSITORY}/pull/521",
        when=(_CHAT,),
    ),
    MetricChange(
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.inference.time_to_first_chunk",
        f"{_REPOSITORY}/pull/521",
        when=(_CHAT,),
    ),
    MetricChange(
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.client.inference.time_per_output_chunk",
        f"{_REPOSITORY}/pull/521",
        when=(_CHAT,),
    ),
    MetricChange(
        _TOKENS,
        "gen_ai.client.embeddings.operation.input_tokens",
        _EMBEDDINGS,
        when=(_VECTORS, _INPUT),
        without=(_TOKEN_TYPE,),
    ),
    MetricChange(
        _TOKENS,
        "gen_ai.client.inference.operation.input_tokens",
        f"{_REPOSITORY}/pull/374",
        when=(_CHAT, _INPUT),
        without=(_TOKEN_TYPE,),
    ),
    MetricChange(
        _TOKENS,
        "gen_ai.client.inference.operation.output_tokens",
        f"{_REPOSITORY}/pull/374",
        when=(_CHAT, _OUTPUT),
        without=(_TOKEN_TYPE,),
    ),
    MetricChange(
        _TOKENS,
        "gen_ai.client.inference.usage.input_tokens",
        f"{_REPOSITORY}/pull/374",
        "counter",
        when=(_CHAT, _INPUT),
        without=(_TOKEN_TYPE,),
        adds=_ANY_MODALITY,
    ),
    MetricChange(
        _TOKENS,
        "gen_ai.client.inference.usage.output_tokens",
        f"{_REPOSITORY}/pull/374",
        "counter",
        when=(_CHAT, _OUTPUT),
        without=(_TOKEN_TYPE,),
        adds=_ANY_MODALITY,
    ),
)

_CHANGED = {change.old: change for change in ATTRIBUTE_CHANGES}


def new_attributes(attributes: Mapping[str, V]) -> dict[str, V | int]:
    """A span's attributes in the new form."""
    found: dict[str, V | int] = {}
    for name, value in attributes.items():
        change = _CHANGED.get(name)
        if change is None:
            found[name] = value
        elif not change.integer:
            found[change.new] = value
        elif isinstance(value, int | float) and abs(value) < 2**63 and value == int(value):
            found[change.new] = int(value)
    return found


def changes_of(metric: str, attributes: Mapping[str, object]) -> list[MetricChange]:
    """The changes that apply to a point in the new form; empty if it stays as it is.

    The overflow point has no attributes to distinguish it by, so it stays too.
    """
    return [
        change
        for change in METRIC_CHANGES
        if change.old == metric and all(attributes.get(k) == v for k, v in change.when)
    ]


def attributes_of(
    change: MetricChange, attributes: Mapping[str, str | bool]
) -> dict[str, str | bool]:
    """A point's attributes in the new form."""
    kept = {name: value for name, value in attributes.items() if name not in change.without}
    return {**kept, **dict(change.adds)}
