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

Providers report usage in many different ways. Some count cached tokens as part of the prompt, others
separately; some include reasoning in the answer, others only in the total. A misread count is a wrong
charge, so the tables on this page decide how usage is read. Each row names its source: a provider's
documentation, or a public report (`repository#number`).

Every row has a test that checks its cost to the nano-dollar (`tests/service/pricing/test_forms.py`).
If your provider reports usage in a form that is missing here, please open an issue with the `usage`
object exactly as it was sent.

"""

NAMES = {
    "prompt": "prompt",
    "completion": "answer",
    "total": "total",
    "read": "read from the cache",
    "write": "written to the cache",
    "write_1h": "written to the cache for an hour",
    "reasoning": "reasoning",
    "citations": "citations",
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
    """The complete page."""
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
        "On OpenAI's wire, the first place with a number above zero is used. `null`, text and negative\n"
        "numbers are ignored.\n\n"
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
        "The total shows what the counts include. The first row that fits decides: the total equals\n"
        "the sum in its row, cached tokens fit into the input, and reasoning fits into the output.\n"
        "*Read* and *write* are tokens read from and written to the cache.\n\n"
        "| form | the total is | input | output | sources |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nFresh input is the input less cache reads and writes. Each part has its own price.\n"
    )


def _sum(terms: str) -> str:
    return re.sub(r"\w+", lambda word: TERMS.get(word[0], word[0]), terms)


def _total(terms: str) -> str:
    if terms:
        return _sum(terms)
    return "above prompt + answer, by less than any part of the cache; no reasoning is reported"


def streams() -> str:
    """In which events usage arrives."""
    rows = [f"| {row.told} | {row.read} | {'; '.join(row.sources)} |" for row in STREAMS]
    return (
        "## In streams\n\n"
        "| usage arrives | what counts | sources |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "If a stream breaks before it reports usage, we estimate it from what arrived, and the attempt\n"
        "is marked as `estimated`. An estimate never exceeds the output cap that was sent to the\n"
        "provider, or the attempt's hold. Reported usage can exceed both, and is charged in full.\n"
    )


def ambiguities() -> str:
    """What is charged if no row fits."""
    rows = [f"| `{why}` | {meaning} |" for why, meaning in AMBIGUITIES.items()]
    return (
        "## Ambiguous usage\n\n"
        "Usage that fits none of these forms is charged at the higher of its possible readings. The\n"
        "attempt is marked as `estimated`, its span has the reason in `spanledger.usage.ambiguity`, and\n"
        "the metric `spanledger.usage.ambiguous` counts it by provider and model.\n\n"
        "| `spanledger.usage.ambiguity` | what it means and what is charged |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def anthropic() -> str:
    """Anthropic's own wire has one form."""
    return (
        "## On Anthropic's wire\n\n"
        "`input_tokens` is the fresh input only. `cache_read_input_tokens` and\n"
        "`cache_creation_input_tokens` are separate from it, and `cache_creation` splits the writes by\n"
        "lifetime. `output_tokens` includes thinking. When a context is compacted, the extra passes are\n"
        "in no total, so they are added from `iterations`.\n"
    )


def prices() -> str:
    """Which line of the book applies."""
    rows = [f"| `{row.owner}` | {row.what} | `{row.example}` | {row.source} |" for row in ROUTES]
    resold = ", ".join(f"`openrouter/{beginning}…`" for beginning in RESOLD)
    return (
        "## Which price is charged\n\n"
        "1. The prices in the configuration (`input_cost_per_token` and similar keys).\n"
        "2. The price of `model_info.base_model`, if the book has it. You choose the name of an Azure\n"
        "   deployment, a provisioned model or an ARN, so the base model decides even if the book has\n"
        "   that name too. `spanledger config check` warns about a base model that is not in the book.\n"
        "3. The price of the model as it is written, then of `provider/model`, then of the bare model.\n"
        "4. The same with the parts below removed from the name. A model is never matched loosely: the\n"
        "   rest must be a name in the book.\n\n"
        "Without any of these a deployment has no price: its requests are refused under a budget, and\n"
        "booked as unpriced otherwise.\n\n"
        "| provider | removed from the name | for example | source |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nSurcharges of a region or geography are charged as the book lists them. If the book does\n"
        "not list the requested region, the highest of the model's other prices is charged: the one\n"
        "without a region and those of the other regions.\n\n"
        f"OpenRouter charges the maker's price for {resold}, so these have the price of their maker.\n"
        "Models that many hosts sell, and variants such as `:free`, need prices in the configuration.\n"
    )


if __name__ == "__main__":
    main()
