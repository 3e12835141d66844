"""Write docs/usage.md from the tables that decide how usage is read and priced.

`--check` writes nothing and fails when the file is not what would be written.
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

Providers report what an attempt used in many ways. Some count cached tokens within the prompt,
others beside it; some put reasoning into the answer, others only into the total. A wrong reading is
money read wrong, so the tables on this page decide, and each row names its source: a provider's
documentation, or a public report (`repository#number`).

Every row is a test with its cost to the nano-dollar (`tests/service/pricing/test_forms.py`). If a
provider of yours reports usage in a form that is missing here, please open an issue with the `usage`
object as it was sent.

"""

NAMES = {
    "prompt": "prompt",
    "completion": "answer",
    "total": "total",
    "read": "read from the cache",
    "write": "written to the cache",
    "write_1h": "written for an hour",
    "reasoning": "reasoning",
    "citations": "citations read",
    "audio_input": "sound in the prompt",
    "audio_output": "sound in the answer",
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
        "On OpenAI's wire. The first place that says more than zero stands; `null`, text and negative\n"
        "numbers say nothing.\n\n"
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
        "The total tells what the counts include. The first row that fits decides: the total is the\n"
        "given sum, cached tokens fit into the input and reasoning into the output. *Read* and\n"
        "*write* are what the cache served and took.\n\n"
        "| form | the total is | input | output | sources |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nFresh input is the input less what was read and written. Each part has its own price.\n"
    )


def _sum(terms: str) -> str:
    return re.sub(r"\w+", lambda word: TERMS.get(word[0], word[0]), terms)


def _total(terms: str) -> str:
    if terms:
        return _sum(terms)
    return "more than prompt + answer, no reasoning is named, and no part of the cache is as small"


def streams() -> str:
    """In which events usage comes."""
    rows = [f"| {row.told} | {row.read} | {'; '.join(row.sources)} |" for row in STREAMS]
    return (
        "## In streams\n\n"
        "| usage comes | what stands | sources |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "A stream that breaks before its usage is counted here, from what came of it, and marked as\n"
        "`estimated`. An estimate never exceeds the output cap that was sent to the provider, nor what\n"
        "was held for the attempt. What a provider reports can exceed both, and is charged in full.\n"
    )


def ambiguities() -> str:
    """What is charged where no row fits."""
    rows = [f"| `{why}` | {meaning} |" for why, meaning in AMBIGUITIES.items()]
    return (
        "## Ambiguous usage\n\n"
        "Usage that fits none of these forms is charged the dearer way. The attempt is marked as\n"
        "`estimated`, its span says why in `spanledger.usage.ambiguity`, and the metric\n"
        "`spanledger.usage.ambiguous` counts it by provider and model.\n\n"
        "| `spanledger.usage.ambiguity` | what it means and what is charged |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def anthropic() -> str:
    """Anthropic's own wire has one form."""
    return (
        "## On Anthropic's wire\n\n"
        "`input_tokens` is the fresh input alone; `cache_read_input_tokens` and\n"
        "`cache_creation_input_tokens` come beside it, and `cache_creation` splits the writes by age.\n"
        "`output_tokens` includes thinking. The passes of a compacted context, which no total\n"
        "includes, are added from `iterations`.\n"
    )


def prices() -> str:
    """Which line of the book is charged."""
    rows = [f"| `{row.owner}` | {row.what} | `{row.example}` | {row.source} |" for row in ROUTES]
    resold = ", ".join(f"`openrouter/{beginning}…`" for beginning in RESOLD)
    return (
        "## Which price is charged\n\n"
        "1. The prices in the configuration (`input_cost_per_token` and its relatives).\n"
        "2. The price of `model_info.base_model`, where the book has it. An Azure deployment, a\n"
        "   provisioned model or an ARN has a name of your own, so the base model decides even if the\n"
        "   book has that name too. `spanledger config check` warns of a base model it does not have.\n"
        "3. The price of the model as it is written, then of `provider/model`, then of the model.\n"
        "4. The same without the way to the model, as below. A model is never matched loosely: what\n"
        "   remains must be a name of the book.\n\n"
        "Without any of these a deployment has no price: it is refused under a budget, and booked as\n"
        "unpriced otherwise.\n\n"
        "| provider | what is taken off | for example | source |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nSurcharges of a region or geography are charged as the book has them. If it lists a model\n"
        "in other places than the one asked for, the dearest of them is charged.\n\n"
        f"OpenRouter passes on the maker's price: {resold} have the price of their maker. Models that\n"
        "many hosts sell, and variants such as `:free`, need prices in the configuration.\n"
    )


if __name__ == "__main__":
    main()
