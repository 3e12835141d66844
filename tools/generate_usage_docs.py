"""Write docs/usage.md from the tables that decide how usage is read and priced.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from spanledger.pricing.forms import AMBIGUITIES, PLACES, STREAMS, USAGE_FORMS
from spanledger.pricing.names import RESOLD, ROUTES
from spanledger.pricing.searches import SEARCHES

TARGET = Path(__file__).resolve().parent.parent / "docs" / "usage.md"

HEAD = """\
<!-- Written by tools/generate_usage_docs.py; change service/spanledger/pricing/forms.py and names.py. -->
# How usage is read and priced

What an attempt costs depends on the usage that its provider reports, and on the price of its model.
To see the price of a model:

```sh
spanledger prices show gpt-4o-mini
```

Providers report usage in different forms. Some include cached tokens in the prompt, others add them
to it. Some include reasoning in the answer, others only in the total. Reading a form wrongly means
charging the wrong amount, so the tables on this page list every known form with its source: a
provider's documentation or a public report (`repository#number`).

The gateway works from these tables, and a test checks the cost of every row to the nano-dollar
(`tests/service/pricing/test_forms.py`). If your provider reports usage in another form, please open
an issue with the `usage` object as it was sent.

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
    """All sections of the page."""
    return HEAD + "\n".join(
        (places(), forms(), streams(), searches(), ambiguities(), anthropic(), prices())
    )


def places() -> str:
    """Where counts are looked for."""
    rows = [
        f"| {NAMES[count]} | `{place.path}` | {place.source} |"
        for count, found in PLACES.items()
        for place in found
    ]
    return (
        "## Where counts are looked for\n\n"
        "In responses of OpenAI's API, the first field with a number above zero is used for each\n"
        "count. `null`, text and negative numbers are ignored.\n\n"
        "| count | in `usage` | source |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def forms() -> str:
    """How the counts add up."""
    rows = [
        f"| {form.name} | {_total(form.total)}{', or missing' if form.without_total else ''} |"
        f" {_sum(form.input)} | {_sum(form.output)} | {'; '.join(form.sources)} |"
        for form in USAGE_FORMS
    ]
    return (
        "## How counts add up\n\n"
        "The total shows what the counts include. The first row that fits is used: the total must be\n"
        "the given sum, cached tokens must fit into the input, and reasoning into the output. *Read*\n"
        "and *write* are tokens read from and written to the cache.\n\n"
        "| form | the total is | input | output | sources |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nFresh input is the input minus *read* and *write*. Each part has its own price.\n"
    )


def _sum(terms: str) -> str:
    return re.sub(r"\w+", lambda word: TERMS.get(word[0], word[0]), terms)


def _total(terms: str) -> str:
    if terms:
        return _sum(terms)
    return "more than prompt + answer; no reasoning is reported, and no cached count explains it"


def streams() -> str:
    """In which events usage arrives."""
    rows = [f"| {row.told} | {row.read} | {'; '.join(row.sources)} |" for row in STREAMS]
    return (
        "## In streams\n\n"
        "| usage comes | used | sources |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "If a stream breaks before its usage arrives, the gateway counts what it has received and\n"
        "marks the attempt as `estimated`. An estimate never exceeds the output limit that was sent to\n"
        "the provider, nor the hold. What a provider reports can exceed both, and is charged in full.\n"
    )


def searches() -> str:
    """How many web searches are billed where `usage` does not count them."""
    rows = "".join(f"| {row.told} | {row.read} | {'; '.join(row.sources)} |\n" for row in SEARCHES)
    return (
        "## Web searches\n\n"
        "Web searches have a fee each, in addition to tokens. A count in `usage` is used if there is\n"
        "one; otherwise they are counted in the answer:\n\n"
        "| the answer has | searches | sources |\n|---|---|---|\n" + rows
    )


def ambiguities() -> str:
    """What is charged if no row fits."""
    rows = [f"| `{why}` | {meaning} |" for why, meaning in AMBIGUITIES.items()]
    return (
        "## Ambiguous usage\n\n"
        "Usage that fits none of these forms is charged at the higher price. The attempt is marked\n"
        "as `estimated`, its span has the reason in `spanledger.usage.ambiguity`, and the metric\n"
        "`spanledger.usage.ambiguous` counts it by provider and model.\n\n"
        "| `spanledger.usage.ambiguity` | what it means and what is charged |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def anthropic() -> str:
    """Anthropic's own API has one form."""
    return (
        "## Anthropic's API\n\n"
        "`input_tokens` is the fresh input only. `cache_read_input_tokens` and\n"
        "`cache_creation_input_tokens` are added to it; `cache_creation` splits the writes by how long\n"
        "they are kept. `output_tokens` includes thinking. When a context is compacted, no total\n"
        "includes the passes, so they are added from `iterations`.\n"
    )


def prices() -> str:
    """Which price of the book is charged."""
    rows = [f"| `{row.owner}` | {row.what} | `{row.example}` | {row.source} |" for row in ROUTES]
    resold = ", ".join(f"`openrouter/{beginning}…`" for beginning in RESOLD)
    return (
        "## Which price is charged\n\n"
        "The first of these that exists:\n\n"
        "1. The prices in the configuration (`input_cost_per_token` and related keys).\n"
        "2. The price of `model_info.base_model` in the price book. You choose the name of an Azure\n"
        "   deployment, a provisioned model or an ARN yourself, so the base model is used even if the\n"
        "   book has a model of that name. `spanledger config check` warns if the book does not have\n"
        "   the base model.\n"
        "3. The price of the model as written, then of `provider/model`, then of the model alone.\n"
        "4. The same after removing the prefixes and suffixes below. A model is never matched loosely:\n"
        "   the rest must be a name in the book.\n\n"
        "A deployment without any of these has no price. Requests to it are refused under a blocking\n"
        "budget, and marked `unpriced` otherwise.\n\n"
        "| provider | removed | for example | source |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nSurcharges for a region or geography are charged as the book lists them. If the book lists\n"
        "a model only in other regions, the highest of their prices is charged.\n\n"
        "OpenRouter charges the original provider's price for these models, so they have that price:\n"
        f"{resold}. Models that many hosts sell, and variants such as `:free`, need prices in the\n"
        "configuration.\n"
    )


if __name__ == "__main__":
    main()
