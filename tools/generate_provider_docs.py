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
# What providers answer, and how we treat it

Providers agree on OpenAI's API until something goes wrong. These tables list errors seen in practice,
with their sources; the adapters use these tables, and every row is tested. If you see something else,
please open an issue with the raw bytes.

## Errors in successful answers

An error can come with status 200, in a body or within a stream. In each of these forms it is a failed
attempt: the next deployment or fallback is tried, unless text was already sent to the caller. Nothing
is charged unless the provider reported usage or sent text with it; then that is charged.

A choice with `finish_reason: "error"` is a failed attempt too, and so is a stream without text, finish
reason or usage. An answer without choices and usage costs nothing, and neither does a web page.
"""

CONTEXT_HEAD = """\
## Prompts that are too long

These send a request to the route's `context_window_fallbacks`. If there are none, the caller gets the
code `context_length_exceeded`.
"""

NOT_CONTEXT_HEAD = "These look similar but are ordinary refusals or rate limits:\n"

CONTENT_HEAD = """\
## Refused content

The caller gets the provider's message with the code `content_filter`.
"""

ODDITIES_HEAD = """\
## OpenAI requests on an Anthropic route

Anthropic refuses these requests. The nearest request that it accepts is sent instead, and the answer's
`x-spanledger-changed` header names the fields that were changed. Fields without an equivalent, such as
`seed`, are left out and named too, unless their value is what happens without them anyway.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    page = "\n".join(
        [
            HEAD,
            table(("provider", "example", "source"), forms()),
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
    for form in FORMS:
        yield form.provider, code(form.example.strip().replace("\n", "⏎")), form.source


def wordings(rows: tuple[Wording, ...]) -> Iterable[tuple[str, ...]]:
    """One table of texts."""
    for row in rows:
        yield row.provider, row.example, code(row.code) if row.code else "", row.source


def oddities() -> Iterable[tuple[str, ...]]:
    """What Anthropic refuses."""
    for row in ODDITIES:
        header = code(row.changed) if row.changed else ""
        yield row.request, row.says, row.sent, header, row.source


def code(text: str) -> str:
    """Text as inline code."""
    return f"`{text}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table, with `|` in cells escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)


if __name__ == "__main__":
    main()
