"""Write docs/usage.md from the tables that decide how usage is read and priced.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from spanledger.pricing.forms import AMBIGUITIES, FORMS, PLACES, STREAMS
from spanledger.pricing.names import RESOLD, ROUTES

TARGET = Path(__file__).resolve().parent.parent / "docs" / "usage.md"

HEAD = """\
<!-- Written by tools/generate_usage_docs.py; change service/spanledger/pricing/forms.py and names.py. -->
# How usage is read and priced

Providers report an attempt's usage in many ways. Some include cached tokens in the prompt, others
count them separately; some include reasoning in the answer, others only in the total. Reading usage
wrong means charging wrong, so the code follows the tables on this page, and each row names its source:
a provider's documentation, or a public report (`repository#number`).

Every row is tested with its cost to the nano-dollar (`tests/service/pricing/test_forms.py`). If your
provider reports usage in a form that is missing here, please open an issue with the `usage` object as
it was sent.

"""

NAMES = {
    "prompt": "prompt",
    "completion": "answer",
    "total": "total",
    "read": "read from the cache",
    "write": "written to the cache",
    "write_1h": "written to the cache for an hour",
    "reasoning": "reasoning",
    "citations": "citations read",
    "audio_input": "audio in the prompt",
    "audio_output": "audio in the answer",
    "searches": "web searches",
}
TERMS = {"completion": "answer"}


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            sys.exit(f"{TARGET.name} is out of date: run `make generate` and commit it")
        return
    TARGET.write_text(text, encoding="utf-8")


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join((places(), forms(), streams(), ambiguities(), anthropic(), prices()))


def places() -> str:
    """Where counts are looked for."""
    rows = [
        f"| {NAMES[count]} | `{place.path}` | {place.source} |"
        for count, found in PLACES.items()
        for place in found
    ]
    return (
        "## Where counts are looked for\n\n"
        "In answers of OpenAI's API. The first place with a count above zero is used; `null`, strings\n"
        "and negative numbers are ignored.\n\n"
        "| count | in `usage` | source |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def forms() -> str:
    """How the counts add up."""
    rows = [
        f"| {form.name} | {_total(form.total)}{', or missing' if form.without_total else ''} |"
        f" {_sum(form.input)} | {_sum(form.output)} | {'; '.join(form.sources)} |"
        for form in FORMS
    ]
    return (
        "## How counts add up\n\n"
        "The total shows what the counts include. The first row that matches is used: the total\n"
        "equals the sum shown, cached tokens fit into the input, and reasoning fits into the output.\n"
        "*Read* and *write* are the tokens read from the cache and written to it.\n\n"
        "| form | the total is | input | output | sources |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nFresh input is the input minus cache reads and writes. Each part has its own price.\n"
    )


def _sum(terms: str) -> str:
    return re.sub(r"\w+", lambda word: TERMS.get(word[0], word[0]), terms)


def _total(terms: str) -> str:
    if terms:
        return _sum(terms)
    return "more than prompt + answer, no reasoning is named, and no part of the cache is as small"


def streams() -> str:
    """Which events of a stream report usage."""
    rows = [f"| {row.told} | {row.read} | {'; '.join(row.sources)} |" for row in STREAMS]
    return (
        "## In streams\n\n"
        "| usage is reported | what is used | sources |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "If a stream breaks before it reports usage, the gateway counts what it received and marks the\n"
        "attempt as `estimated`. An estimate never exceeds the output cap that was sent to the provider,\n"
        "nor the attempt's hold. Usage that a provider reports can exceed both, and is charged in full.\n"
    )


def ambiguities() -> str:
    """What is charged when no row matches."""
    rows = [f"| `{why}` | {meaning} |" for why, meaning in AMBIGUITIES.items()]
    return (
        "## Ambiguous usage\n\n"
        "Usage that matches none of these forms is charged by the more expensive reading. The attempt\n"
        "is marked as `estimated`, its span has the reason in `spanledger.usage.ambiguity`, and the\n"
        "metric `spanledger.usage.ambiguous` counts it by provider and model.\n\n"
        "| `spanledger.usage.ambiguity` | what it means and what is charged |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def anthropic() -> str:
    """Anthropic's API has a single form."""
    return (
        "## In Anthropic's API\n\n"
        "`input_tokens` is the fresh input only; `cache_read_input_tokens` and\n"
        "`cache_creation_input_tokens` are separate, and `cache_creation` splits the writes by lifetime.\n"
        "`output_tokens` includes thinking. The passes of a compacted context, which no total\n"
        "includes, are added from `iterations`.\n"
    )


def prices() -> str:
    """Which entry of the price book is charged."""
    rows = [f"| `{row.owner}` | {row.what} | `{row.example}` | {row.source} |" for row in ROUTES]
    resold = ", ".join(f"`openrouter/{beginning}…`" for beginning in RESOLD)
    return (
        "## Which price is charged\n\n"
        "1. The prices in the configuration (`input_cost_per_token` and the like).\n"
        "2. The price of `model_info.base_model`, if the price book has it. You choose the name of an\n"
        "   Azure deployment, a provisioned model or an ARN, so the base model decides even if the book\n"
        "   has that name too. `spanledger config check` warns if the book does not have a base model.\n"
        "3. The price of the model exactly as written, then of `provider/model`, then of the model.\n"
        "4. The same without routing prefixes or suffixes, as listed below. A model is never matched\n"
        "   loosely: the remainder must be a name in the book.\n\n"
        "Without any of these, a deployment has no price: its requests are refused under a blocking\n"
        "budget, and booked as unpriced otherwise.\n\n"
        "| provider | what is removed | example | source |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nSurcharges for a region or geography are charged as the book lists them. If it lists a model\n"
        "only for other regions than the one requested, the most expensive of them is charged.\n\n"
        f"OpenRouter passes on the maker's price: {resold} have the price of their maker. Models that\n"
        "several hosts sell, and variants such as `:free`, need prices in the configuration.\n"
    )


if __name__ == "__main__":
    main()
