"""A request's parameters as attributes of its span, by the names of the GenAI conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from spanledger.wires.base import INT64, MAX_ITEMS, MAX_TEXT
from spanledger.wires.gemini.demand import config_of
from spanledger.wires.gemini.spelling import pick, whole

_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "topP": "gen_ai.request.top_p",
    "topK": "gen_ai.request.top_k",
    "frequencyPenalty": "gen_ai.request.frequency_penalty",
    "presencePenalty": "gen_ai.request.presence_penalty",
}
_INTEGERS = {
    "maxOutputTokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "candidateCount": "gen_ai.request.choice.count",
}


def attributes_of(fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    """The attributes; a field of an unexpected type is left out."""
    config, found = config_of(dict(fields)), dict[str, object]()
    for name, attribute in _NUMBERS.items():
        value = pick(config, name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[attribute] = float(value)
    for name, attribute in _INTEGERS.items():
        number = whole(pick(config, name))
        if number is not None and number in INT64:
            found[attribute] = number
    if found.get("gen_ai.request.choice.count") == 1:
        del found["gen_ai.request.choice.count"]
    if stops := _texts(pick(config, "stopSequences")):
        found["gen_ai.request.stop_sequences"] = stops
    thinking = pick(config, "thinkingConfig")
    level = pick(thinking, "thinkingLevel") if isinstance(thinking, dict) else None
    if isinstance(level, str) and level:
        found["gen_ai.request.reasoning.level"] = level.lower()[:MAX_TEXT]
    kind = pick(config, "responseMimeType")
    if kind in ("application/json", "text/plain"):
        found["gen_ai.output.type"] = "json" if kind == "application/json" else "text"
    return found


def _texts(value: Any) -> list[str]:
    texts = value if isinstance(value, list) else []
    return [text[:MAX_TEXT] for text in texts[:MAX_ITEMS] if isinstance(text, str)]
