"""Writes the dated price book from LiteLLM's price list; reads the file, never imports LiteLLM.

    python tools/update_prices.py --date 2026-11-23    # write books/2026-11-23.json
    python tools/update_prices.py --check              # is the newest book up to date?

Prices are converted to pico-USD per token with `decimal`, without floats. Models that are not priced
by tokens alone are kept without a price, with the reason, so no request is charged less than it costs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path
from typing import Any, NamedTuple

BOOKS = Path(__file__).resolve().parent.parent / "service" / "spanledger" / "pricing" / "books"
SOURCE_FILE = "model_prices_and_context_window_backup.json"
MODES = ("chat", "completion", "responses", "embedding")
OTHER_MODES = (
    "moderation",
    "rerank",
    "image_generation",
    "image_edit",
    "audio_speech",
    "audio_transcription",
)
"""What does not answer with text, and may be billed by another unit than tokens."""
PICO_PER_USD = 10**12
DEAREST_PICO = 10**10
"""One cent per token; anything higher is a mistake in the list."""
DEAREST_SEARCH_PICO = 10**12
"""One dollar per search."""
DEAREST_UNIT_PICO = 10 * 10**12
"""Ten dollars per image, second, character or query."""
NOISE = Context(prec=12)
"""Rounds away float noise in the list, such as 1.5000020000000002e-05."""

RATES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_cache_read": "cache_read_input_audio_token_cost",
    "audio_output": "output_cost_per_audio_token",
}
IMAGE_RATES = {
    "image_input": "input_cost_per_image_token",
    "image_output": "output_cost_per_image_token",
}
"""Of models whose answers are images; elsewhere the list has these for other endpoints."""
UNITS = {
    "query": ("input_cost_per_query",),
    "character": ("input_cost_per_character",),
    "second": ("output_cost_per_second", "input_cost_per_second"),
    "image": ("output_cost_per_image", "input_cost_per_image"),
}
"""Units other than tokens. Of several keys, each is a name for the same price: the highest counts."""
UNIT_OF_MODE = {
    "rerank": "query",
    "image_generation": "image",
    "image_edit": "image",
    "audio_speech": "character",
    "audio_transcription": "second",
}
SIZED = re.compile(
    r"(?P<head>(?:(?!low/|medium/|high/|standard/|hd/)[a-z_0-9]+/)?)"
    r"(?:(?P<quality>low|medium|high|standard|hd)/)?"
    r"(?P<wide>\d+)-x-(?P<tall>\d+)/(?P<model>[^/].*)"
)
"""An image of one size and quality, which the list has as a model of its own."""
FREE = {
    name: {"litellm_provider": "openai", "mode": "moderation", "input_cost_per_token": 0}
    for name in ("text-moderation-latest", "text-moderation-stable", "text-moderation-007")
}
"""Not in the list. OpenAI: the moderation endpoint is free of charge
(https://platform.openai.com/docs/guides/moderation)."""
SERVICES = {"balanced": "", "batch": "batches", "flex": "", "priority": "", "ultrafast": ""}
"""Service tiers with their own prices: the usual keys with this suffix, or with the tier's name."""
ABOVE = re.compile(r"(?P<key>.+)_above_(?P<number>\d+)(?P<kilo>k?)_tokens")
INCLUSIVE_PROVIDERS = ("xai",)
"""Providers that bill the long-context price from the threshold on, not only above it."""

HALF_PRICE_CACHE = ("fireworks_ai",)
"""Providers that bill cache reads at half the input price unless listed, as LiteLLM's code does."""

OTHER_OUTPUT = tuple(f"output_cost_per_{kind}_token" for kind in ("image", "video"))
FEES = tuple(f"input_cost_per_{unit}" for unit in ("request", "query", "second"))
ROUTERS = ("azure_ai/model_router", "azure_ai/model-router", "azure/model-router")
ALWAYS_SEARCHES = re.compile(r"(^|/)(sonar|.*-search-(preview|api))")


def main() -> int:
    """Write the book, or check it; returns 1 if the check fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--date", help="the book's date and name, such as 2026-11-23")
    action.add_argument("--check", action="store_true", help="compare the newest book instead")
    options = parser.parse_args()
    if options.check:
        return check()
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", options.date):
        parser.error(f"{options.date!r} is not a date like 2026-11-23")
    path = BOOKS / f"{options.date}.json"
    text = book_text(options.date, source_list(), source_version())
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {json.loads(text)['count']} models")
    return 0


def check() -> int:
    """Compare the newest book with one made from the installed list."""
    path = max(BOOKS.glob("*.json"))
    text = path.read_text(encoding="utf-8")
    made_from = json.loads(text)["source"]
    if made_from != source_version():
        print(
            f"not compared: {path.name} was made from {made_from}, but {source_version()} is installed"
        )
        return 0
    if text != book_text(path.stem, source_list(), source_version()):
        print(f"{path.name} is out of date: run tools/update_prices.py --date {path.stem}")
        return 1
    print(f"{path.name} is current ({made_from})")
    return 0


def source_version() -> str:
    """The package the prices come from, with its version."""
    return f"litellm {importlib.metadata.version('litellm')}"


def source_list() -> dict[str, dict[str, Any]]:
    """The shipped list, with exact decimals."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("litellm is not installed here: uv sync")
    path = Path(spec.submodule_search_locations[0]) / SOURCE_FILE
    models = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    return FREE | {name: entry for name, entry in models.items() if isinstance(entry, dict)}


def book_text(date: str, models: Mapping[str, Mapping[str, Any]], source: str) -> str:
    """A book as text: one model per line, sorted."""
    models = with_sizes(models)
    entries = {
        name: book_entry(name, model)
        for name, model in sorted(models.items())
        if model.get("mode") in MODES + OTHER_MODES
    }
    head = {"date": date, "source": source, "count": len(entries)}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entries[name])}" for name in entries)
    return json.dumps(head).removesuffix("}") + ', "models": {\n' + lines + "\n}}\n"


def book_entry(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """One model's line."""
    entry: dict[str, Any] = {"provider": model["litellm_provider"]}
    if model["mode"] != "chat":
        entry["mode"] = model["mode"]
    limits = {"max_input": "max_input_tokens", "max_output": "max_output_tokens"}
    entry |= {key: model[full] for key, full in limits.items() if model.get(full)}
    if reason := unpriced_reason(name, model):
        return entry | {"unpriced": reason}
    if units := units_of(model):
        return entry | {"input": 0, "output": 0, "units": units}
    model = with_hour(name, model)
    entry |= line(model)
    services = {name: line(model) for name, model in variants(model).items()}
    if services:
        entry["services"] = services
    fees = (model.get("search_context_cost_per_query") or {}).values()
    if search := max((pico(fee, DEAREST_SEARCH_PICO) for fee in fees), default=0):
        entry["search"] = search
    return entry


def with_sizes(models: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """The models without those that are only a size of another; that one gets their prices.

    A model that is billed by tokens does not need them: they are what its tokens add up to.
    """
    found: dict[str, dict[str, Any]]
    found = {name: dict(model) for name, model in models.items() if not SIZED.fullmatch(name)}
    for name, model in models.items():
        match = SIZED.fullmatch(name)
        if match is None or model.get("mode") not in OTHER_MODES or "-steps/" in name:
            continue
        base = match["head"] + match["model"]
        owner = {"litellm_provider": model["litellm_provider"], "mode": model["mode"]}
        own = found.setdefault(base, owner)
        if price := sized_price(match, model):
            own.setdefault("sizes", {})[sized(match)] = price
    return found


def sized(match: re.Match[str]) -> str:
    """The unit: an image of this quality and size."""
    return f"image {match['quality'] or 'standard'}/{match['wide']}x{match['tall']}"


def sized_price(match: re.Match[str], model: Mapping[str, Any]) -> Decimal:
    """The price of one such image, which may be listed by the pixel."""
    pixels = int(match["wide"]) * int(match["tall"])
    keys = dict.fromkeys(UNITS["image"], 1)
    keys |= {"input_cost_per_pixel": pixels, "output_cost_per_pixel": pixels}
    return max(round(Decimal(str(model.get(k) or 0)) * times, 6) for k, times in keys.items())


def units_of(model: Mapping[str, Any]) -> dict[str, int]:
    """Prices of units other than tokens; none where tokens have a price."""
    unit = UNIT_OF_MODE.get(model["mode"])
    tokens = (*RATES.values(), *IMAGE_RATES.values())
    if unit is None or any(model.get(key) for key in tokens):
        return {}
    found = {}
    listed = [model[key] for key in UNITS[unit] if model.get(key) is not None]
    if listed:
        found[unit] = max(pico(price, DEAREST_UNIT_PICO) for price in listed)
    for size, price in sorted(model.get("sizes", {}).items()):
        found[size] = pico(price, DEAREST_UNIT_PICO)
    return found


def with_hour(name: str, model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model with a price for the 1-hour cache, if it is an Anthropic model listed without one.

    Wherever that price is listed, it is twice the input price. Without it, writes to the 1-hour cache
    would be charged as writes to the 5-minute cache.
    """
    hour = RATES["cache_write_1h"]
    if "claude" not in name or not model.get(RATES["cache_write"]) or model.get(hour):
        return model
    changed = dict(model)
    for key, price in model.items():
        match = ABOVE.fullmatch(key)
        if price is not None and (match["key"] if match else key) == RATES["input"]:
            changed[key.replace(RATES["input"], hour)] = 2 * Decimal(str(price))
    return changed


def line(model: Mapping[str, Any]) -> dict[str, Any]:
    """The rates of a model and its tiers."""
    base, *tiers = steps(model)
    rates: dict[str, Any] = dict(base.rates)
    if tiers:
        rates["tiers"] = [{"above": tier.above, **tier.rates} for tier in tiers]
    return rates


def variants(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The model's variants by service, if their prices differ.

    Service tiers list the prices that differ. Anthropic's fast mode and its US-only processing
    multiply every price, and combine; LiteLLM lists the factors in `provider_specific_entry`.
    """
    found = {name: at_service(model, name) for name in SERVICES}
    factors = model.get("provider_specific_entry") or {}
    fast, us = (Decimal(str(factors.get(name, 1))) for name in ("fast", "us"))
    for name, factor in (("fast", fast), ("us", us), ("fast us", fast * us)):
        found[name] = times(model, factor) if factor != 1 else dict(model)
    if fast == 1 or us == 1:
        del found["fast us"]
    usual = line(model)
    return {name: variant for name, variant in sorted(found.items()) if line(variant) != usual}


def at_service(model: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The model at a service tier; prices that the tier does not list stay the same."""
    suffix = f"_{SERVICES[service] or service}"
    changed = dict(model)
    if isinstance(model.get("tiered_pricing"), list) or any(
        model.get(f"{key}{suffix}") is None for key in (RATES["input"], RATES["output"])
    ):
        return changed  # a tier without both prices is ignored
    changed.pop(RATES["reasoning"], None)  # there, reasoning costs as much as output
    for key, price in model.items():
        if key.endswith(suffix) and price is not None:
            changed[key.removesuffix(suffix)] = price
    return changed


def times(model: Mapping[str, Any], factor: Decimal) -> dict[str, Any]:
    """The model with every token price multiplied."""
    changed = dict(model)
    for key, price in model.items():
        match = ABOVE.fullmatch(key)
        if price is not None and (match["key"] if match else key) in RATES.values():
            changed[key] = Decimal(str(price)) * factor
    return changed


def unpriced_reason(name: str, model: Mapping[str, Any]) -> str:
    """Why token prices alone do not determine a request's cost; empty if they do."""
    if units_of(model):
        return ""
    if model["mode"] in OTHER_MODES:
        return other_unpriced_reason(model)
    output = model.get("output_cost_per_token") or 0
    if any((model.get(key) or 0) > output for key in OTHER_OUTPUT):
        return "answers other than text have another price"
    if any(model.get(key) for key in FEES):
        return "not billed by tokens alone"
    if name in ROUTERS:
        return "a fee on top of the model it picks"
    if "search_context_cost_per_query" in model and ALWAYS_SEARCHES.search(name):
        return "each request pays for its search as well"
    if any(not step.rates.keys() >= {"input", "output"} for step in steps(model)):
        return "no price per token is listed"
    return ""


def other_unpriced_reason(model: Mapping[str, Any]) -> str:
    """Why a model that does not answer with text has no price."""
    by_image = model["mode"] in ("image_generation", "image_edit")
    if not by_image and any(model.get(key) for key in UNITS["image"]):
        return "not billed by tokens alone"
    if "search_context_cost_per_query" in model:
        return "it may search, and images of it have another price than its tokens"
    if not all(step.rates.keys() >= {"input", "output"} for step in steps(model)):
        return "no price of a unit that its endpoint has is listed"
    return ""


class Step(NamedTuple):
    """The complete rates for prompts of more than `above` tokens."""

    above: int
    rates: dict[str, int]


def steps(model: Mapping[str, Any]) -> list[Step]:
    """A model's rates by ascending prompt size, the first for any size."""
    known = tuple(RATES.values())
    if model["mode"] in ("image_generation", "image_edit"):
        known = (*known, *IMAGE_RATES.values())
    own = {key: model[key] for key in known if model.get(key) is not None}
    if model["mode"] in ("embedding", "moderation", "rerank"):
        own.setdefault("output_cost_per_token", 0)  # there is no output to pay for
    if model["mode"] in OTHER_MODES:
        # Where text has no price of its own, all of the answer has the other one.
        for sound in ("output_cost_per_image_token", "output_cost_per_audio_token"):
            if own.get(sound) is not None:
                own.setdefault("output_cost_per_token", own[sound])
    if own.get("output_cost_per_reasoning_token") == own.get("output_cost_per_token"):
        own.pop("output_cost_per_reasoning_token", None)
    if model["litellm_provider"] in HALF_PRICE_CACHE and "input_cost_per_token" in own:
        own.setdefault("cache_read_input_token_cost", Decimal(own["input_cost_per_token"]) / 2)
    if isinstance(ranges := model.get("tiered_pricing"), list):
        # A range lists all its rates; if it has no output price, the model's apply.
        output = {key: price for key, price in own.items() if key.startswith("output_")}
        given = {
            int(part["range"][0]): part if "output_cost_per_token" in part else {**output, **part}
            for part in ranges
        }
        return [Step(above, rates_of(given[above])) for above in sorted(given)]
    found: dict[int, dict[str, Any]] = {0: {}}
    for key, price in model.items():
        if (match := ABOVE.fullmatch(key)) and match["key"] in RATES.values() and price is not None:
            above = int(match["number"]) * (1000 if match["kilo"] else 1)
            above -= model["litellm_provider"] in INCLUSIVE_PROVIDERS
            found.setdefault(above, {})[match["key"]] = price
    given = {}
    for above in sorted(found):
        own = {**own, **found[above]}
        given[above] = own
    return [Step(above, rates_of(prices)) for above, prices in given.items()]


def rates_of(prices: Mapping[str, Any]) -> dict[str, int]:
    """LiteLLM's prices by our names, in pico-USD."""
    known = RATES | IMAGE_RATES
    rates = {key: pico(prices[full]) for key, full in known.items() if prices.get(full) is not None}
    if rates.get("cache_write") == 0 and rates.get("input"):
        del rates["cache_write"]  # zero means that a write is billed as plain input
    for sound, text in (
        ("audio_input", "input"),
        ("audio_output", "output"),
        ("image_input", "input"),
        ("image_output", "output"),
    ):
        if rates.get(sound) == rates.get(text):
            rates.pop(sound, None)
    return rates


def pico(price: Decimal | int | str, dearest: int = DEAREST_PICO) -> int:
    """USD for one as pico-USD, rounded up."""
    value = NOISE.create_decimal(str(price)) * PICO_PER_USD
    if not 0 <= value <= dearest:
        raise SystemExit(f"{price!r} is out of range for a price in USD per token or per search")
    return int(value.to_integral_value(rounding=ROUND_CEILING))


if __name__ == "__main__":
    sys.exit(main())
