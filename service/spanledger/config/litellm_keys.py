"""Every key of a LiteLLM proxy file, and what happens to it here: one table, `litellm_keys.toml`.

The loader reads the table and docs/configuration.md is generated from it, so page and behaviour
cannot differ. Keys are of four kinds: `obeyed`; `warned`, listed at startup as having no effect,
because they do not decide where a request, a key or money goes; `refused`, because they do and we
do not obey them; and `litellm`, obeyed for deployments that LiteLLM serves and warned of elsewhere.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Literal, NamedTuple

Status = Literal["obeyed", "warned", "refused", "litellm"]

TOP, GENERAL, SETTINGS, ROUTER = "", "general_settings", "litellm_settings", "router_settings"
ENTRY, PARAMS, INFO = "model_list[]", "litellm_params", "model_info"
FILLED_IN = "sent if the caller leaves it out"


class LiteLLMKey(NamedTuple):
    """What happens to a key."""

    section: str
    key: str
    status: Status
    note: str


def _read() -> dict[tuple[str, str], LiteLLMKey]:
    path = Path(__file__).with_suffix(".toml")
    groups = tomllib.loads(path.read_text(encoding="utf-8"))["group"]
    return {
        (group["section"], key): LiteLLMKey(group["section"], key, group["status"], group["note"])
        for group in groups
        for key in group["keys"].split()
    }


TABLE = _read()
"""By section and key."""

_TOKEN_PRICE = re.compile(
    r"(?:(?:input|output)_cost_per_(?:audio_|reasoning_)?token"
    r"|cache_(?:read|creation)_input_token_cost(?:_above_1hr)?|cache_read_input_audio_token_cost)"
    r"(?:_above_\d+k?_tokens)?(?:_(?:balanced|flex|priority|ultrafast))?"
)
_UNIT_PRICE = re.compile(
    r"input_cost_per_(?:query|character|second|image)|output_cost_per_(?:second|image)"
)
_OTHER_PRICE = re.compile(r"cost_per_|_token_cost|^ocr_cost|^output_vector_size|_uplift_multiplier")

PARAMETERS: dict[str, Status] = {
    key: row.status for (section, key), row in TABLE.items() if section == PARAMS
}
BODY_KEYS = frozenset(
    key for (section, key), row in TABLE.items() if section == PARAMS and row.note == FILLED_IN
)
"""Parameters of a deployment that are sent as fields of its requests."""


def row_of(section: str, key: str) -> LiteLLMKey | None:
    """What happens to a key; None for a key that LiteLLM does not have either."""
    row = TABLE.get((section, key))
    if row is None and section in (PARAMS, INFO):
        if _TOKEN_PRICE.fullmatch(key):
            return LiteLLMKey(section, key, "obeyed", "a price; overrides the price book")
        if _UNIT_PRICE.fullmatch(key):
            return LiteLLMKey(section, key, "obeyed", "a price; then only such units are billed")
        if _OTHER_PRICE.search(key):
            return LiteLLMKey(section, key, "warned", "not a price per token")
    return row


def keys_of(section: str) -> list[str]:
    """The keys a section may have."""
    return [key for (name, key) in TABLE if name == section]


_ADDRESSING = {
    name.replace("_", ""): name
    for name in ("api_base", "api_key", "api_version", "base_url", "organization", "extra_headers")
}
"""Keys that decide where a request and its key go, by their spelling without underscores."""


def meant_by(parameter: str) -> str:
    """The addressing key that an unknown key is probably a misspelling of; empty for none.

    If it were ignored, the request and its key would go to the wrong place.
    """
    if parameter in PARAMETERS or parameter in BODY_KEYS:
        return ""
    folded = parameter.lower().replace("_", "").replace("-", "")
    near = difflib.get_close_matches(folded, _ADDRESSING, n=1, cutoff=0.8)
    return _ADDRESSING[near[0]] if near else ""
