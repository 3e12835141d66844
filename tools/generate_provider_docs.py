"""Write docs/provider-errors.md from the tables that the adapters use.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from spanledger.providers.anthropic_oddities import ODDITIES
from spanledger.providers.error_forms import ERROR_FORMS
from spanledger.providers.wordings import CONTENT, CONTEXT, NOT_CONTEXT, Wording

TARGET = Path(__file__).resolve().parent.parent / "docs" / "provider-errors.md"

HEAD = """\
<!-- Written by tools/generate_provider_docs.py; change the tables in spanledger/providers. -->
# Provider errors

Providers that speak OpenAI's API differ in how they report errors. This page lists which responses
count as errors, which errors lead to a fallback of their own, and which requests are changed because
Anthropic would refuse them.

Each row names its source. The gateway works from these tables, and every row is tested. If your
provider sends something else, please open an issue with the exact bytes.

## Errors with status 200

A provider can report an error with status 200, in the body or within a stream. Each of these forms
is a failed attempt: the next deployment or fallback is called, unless text has already been sent to
the caller. The attempt costs nothing, unless the provider reported usage or sent text with it.

Two more responses are failed attempts: a choice with `finish_reason: "error"`, and a stream without
text, finish reason or usage. A response with neither choices nor usage costs nothing, and neither
does a web page.
"""

CONTEXT_HEAD = """\
## Prompts that are too long

These messages or codes send a request to the route's `context_window_fallbacks`. If there are none,
the caller gets the code `context_length_exceeded`.
"""

NOT_CONTEXT_HEAD = "These are similar, but are ordinary refusals or rate limits:\n"

CONTENT_HEAD = """\
## Refused content

These messages or codes send a request to the route's `content_policy_fallbacks`. If there are none,
the caller gets the provider's message with the code `content_filter`.
"""

ODDITIES_HEAD = """\
## OpenAI requests to Anthropic

Anthropic would refuse these requests. The closest request that it accepts is sent instead, and the
`x-spanledger-changed` header names the fields that were changed. Fields that Anthropic does not have,
such as `seed`, are left out and also named, unless their value is what happens without them anyway.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    page = "\n".join(
        [
            HEAD,
            table(("provider", "response", "source"), forms()),
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
    """The forms of errors."""
    for form in ERROR_FORMS:
        yield form.provider, code(form.example.strip().replace("\n", "⏎")), form.source


def wordings(rows: tuple[Wording, ...]) -> Iterable[tuple[str, ...]]:
    """One table of messages."""
    for row in rows:
        yield row.provider, row.example, code(row.code) if row.code else "", row.source


def oddities() -> Iterable[tuple[str, ...]]:
    """Requests that Anthropic refuses."""
    for row in ODDITIES:
        header = code(row.changed) if row.changed else ""
        yield row.request, row.says, row.sent, header, row.source


def code(text: str) -> str:
    """Literal text in a cell."""
    return f"`{text}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; a `|` within a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)


if __name__ == "__main__":
    main()
