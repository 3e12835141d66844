"""Write docs/provider-errors.md from the tables that the adapters use.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from spanledger.providers.anthropic_oddities import ODDITIES
from spanledger.providers.error_forms import FORMS
from spanledger.providers.wordings import CONTENT, CONTEXT, NOT_CONTEXT, Wording

TARGET = Path(__file__).resolve().parent.parent / "docs" / "provider-errors.md"

HEAD = """\
<!-- Written by tools/generate_provider_docs.py; change the tables in spanledger/providers. -->
# Provider errors and how we handle them

Providers agree on OpenAI's wire format until something goes wrong. These tables list the errors that
have been seen, each with its source. The adapters use these tables, and every row has a test. If you
see something else, please open an issue with the raw response.

## Errors with status 200

An error may arrive with status 200, in a JSON body or inside a stream. In any of these shapes it is
a failed attempt: the next deployment or fallback is tried, unless text was already sent to the
caller. Only usage that the provider reported, or text that it sent before the error, is charged.

A choice with `finish_reason: "error"` is a failed attempt too, and so is a stream that has neither
text nor a finish reason nor usage. An answer without choices and usage costs nothing, and neither does
a web page.
"""

CONTEXT_HEAD = """\
## Prompts that are too long

After these errors, a request continues with the route's `context_window_fallbacks`. Without such
fallbacks the caller gets the code `context_length_exceeded`.
"""

NOT_CONTEXT_HEAD = "These look similar, but are ordinary refusals or rate limits:\n"

CONTENT_HEAD = """\
## Refused content

The caller gets the provider's message with the code `content_filter`.
"""

ODDITIES_HEAD = """\
## OpenAI requests to Anthropic

Anthropic refuses these requests. We send the closest request that it accepts, and the response's
`x-spanledger-changed` header lists the changed fields. Fields that Anthropic does not have, such as
`seed`, are omitted and listed as well, unless their value asks for what Anthropic does anyway.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    page = "\n".join(
        [
            HEAD,
            table(("provider", "error", "source"), forms()),
            CONTEXT_HEAD,
            table(("provider", "message", "or code", "source"), wordings(CONTEXT)),
            NOT_CONTEXT_HEAD,
            table(("provider", "message", "or code", "source"), wordings(NOT_CONTEXT)),
            CONTENT_HEAD,
            table(("provider", "message", "or code", "source"), wordings(CONTENT)),
            ODDITIES_HEAD,
            table(("request", "Anthropic's error", "sent instead", "header", "source"), oddities()),
        ]
    )
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{TARGET.name} is out of date: run `make generate` and commit it")


def forms() -> Iterable[tuple[str, ...]]:
    """Rows for the shapes of errors."""
    for form in FORMS:
        yield form.provider, code(form.example.strip().replace("\n", "⏎")), form.source


def wordings(rows: tuple[Wording, ...]) -> Iterable[tuple[str, ...]]:
    """Rows for a table of messages."""
    for row in rows:
        yield row.provider, row.example, code(row.code) if row.code else "", row.source


def oddities() -> Iterable[tuple[str, ...]]:
    """Rows for the requests that Anthropic refuses."""
    for row in ODDITIES:
        header = code(row.changed) if row.changed else ""
        yield row.request, row.says, row.sent, header, row.source


def code(text: str) -> str:
    """Text as code, in a cell."""
    return f"`{text}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table, with `|` escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)


if __name__ == "__main__":
    main()
