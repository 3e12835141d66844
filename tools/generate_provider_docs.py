"""Write docs/provider-errors.md from the tables the adapters work by.

`--check` writes nothing and fails when the file is not what would be written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from spanledger.wires.anthropic.oddities import ODDITIES
from spanledger.wires.error_forms import FORMS
from spanledger.wires.wordings import CONTENT, CONTEXT, NOT_CONTEXT, Wording

TARGET = Path(__file__).resolve().parent.parent / "docs" / "provider-errors.md"

HEAD = """\
<!-- Written by tools/generate_provider_docs.py; change the tables in spanledger/wires. -->
# What providers say, and what we make of it

Providers agree on OpenAI's wire until something goes wrong. These tables list what was seen, with
where it was seen; the adapters work by them, and every row is tested. Did you meet something else?
Open an issue with the bytes.

## Errors in good answers

An error may come under status 200, in a body or within a stream. In any of these shapes it is a
failed attempt: the next deployment or fallback is tried, unless text was already sent to the caller.
Nothing is charged, unless the provider reported usage or sent text with it; then that is charged.

A choice with `finish_reason: "error"` is a failed attempt too, and so is a stream without text, finish
reason or usage. An answer without choices and without usage costs nothing, nor does a web page.
"""

CONTEXT_HEAD = """\
## Prompts that are too long

These turn a request to the route's `context_window_fallbacks`. The caller sees the code
`context_length_exceeded` where there are none.
"""

NOT_CONTEXT_HEAD = "These sound like it, and are ordinary refusals or limits of a rate:\n"

CONTENT_HEAD = """\
## Refused content

The caller gets the provider's message with the code `content_filter`.
"""

ODDITIES_HEAD = """\
## OpenAI's requests on a route of Anthropic's

Anthropic refuses these. The nearest request that it takes is sent in their place, and the answer's
`x-spanledger-changed` header names the fields that were changed. Fields without a counterpart there,
such as `seed`, are left out and named as well, unless their value says what is done without them.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    page = "\n".join(
        [
            HEAD,
            table(("from", "as it comes", "seen"), forms()),
            CONTEXT_HEAD,
            table(("from", "it says", "or the code", "seen"), wordings(CONTEXT)),
            NOT_CONTEXT_HEAD,
            table(("from", "it says", "or the code", "seen"), wordings(NOT_CONTEXT)),
            CONTENT_HEAD,
            table(("from", "it says", "or the code", "seen"), wordings(CONTENT)),
            ODDITIES_HEAD,
            table(("request", "Anthropic says", "sent", "header", "seen"), oddities()),
        ]
    )
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{TARGET.name} is out of date: run `make generate` and commit it")


def forms() -> Iterable[tuple[str, ...]]:
    """The shapes of errors."""
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
    """Text as it is, in a cell."""
    return f"`{text}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table, with what would end a cell escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)


if __name__ == "__main__":
    main()
