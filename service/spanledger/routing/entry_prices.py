"""The prices that an entry of `model_list` sets itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from spanledger.config import LiteLLMParams, ModelEntry
from spanledger.errors import ConfigError
from spanledger.money import parse_price

PRICE_KEY = re.compile(
    r"_cost_per_(?:audio_|reasoning_)?token|_token_cost|_cost_per_(?:query|character|second|image)$"
)


def prices_of(entry: ModelEntry, extra: Mapping[str, object], place: str) -> dict[str, int]:
    """Overrides of the price book, pico-USD per token or other unit; `litellm_params` wins over `model_info`.

    `extra` has the keys of `litellm_params` that are not fields of ours. Raises ConfigError.
    """
    found: dict[str, int] = {}
    sources: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("model_info", entry.model_info.model_extra or {}),
        ("litellm_params", extra),
    )
    for section, source in sources:
        for key, value in source.items():
            if value is None or not PRICE_KEY.search(key):
                continue
            try:
                found[key] = parse_price(str(value))
            except ValueError as error:
                raise ConfigError(f"{place}.{section}.{key}: {error}") from None
    known = {
        key: getattr(entry.litellm_params, key)
        for key in LiteLLMParams.model_fields
        if PRICE_KEY.search(key)
    }
    return found | {key: pico for key, pico in known.items() if pico is not None}
