"""Words that the project's texts do not use, and how its prose is found in files of every kind.

Prose is all of a page except code; comments and docstrings; and, outside tests, strings that have
a space in them. The table is data: `tests/test_words.py` holds the texts to it.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Word(NamedTuple):
    """What not to write, what to write instead, and a sentence of each kind.

    A space in the pattern is any white space, the end of a line included. A file without any of
    the keys, which `|` parts, needs no closer look.
    """

    keys: str
    pattern: str
    instead: str
    reason: str
    bad: str
    good: str


WORDS = (
    Word(
        "try|tries",
        r"\b(?:an?|the|each|every|one|first|second|last|next|this|that|another|no|any|failed) try\b(?!:)"
        r"|\b(?:all|the|its|of|further|failed|two|three) tries\b",
        "attempt",
        "*try* is a verb; what a provider gets once is an attempt",
        "The second try failed.",
        "We try the next deployment: a second attempt.",
    ),
    Word(
        "beside",
        r"\bbeside\b",
        "next to, alongside, as well as",
        "a preposition carried over",
        "It runs beside the gateway.",
        "It runs next to the gateway; nothing besides that.",
    ),
    Word(
        "whoever",
        r"\bwhoever\b",
        "the person, caller or program by name",
        "a relative without a head",
        "Whoever waits gets an error.",
        "A caller who waits gets an error.",
    ),
    Word(
        "dear",
        r"(?<![$-])(?<!name: )\bdear(?:er|est|ly)?\b(?![-_:])",
        "expensive, highest-priced",
        "an everyday word for a technical one",
        "The dearest requests",
        "The most expensive requests over $dear USD",
    ),
    Word(
        "mend",
        r"\bmend(?:s|ed|ing)?\b",
        "fix, repair",
        "an everyday word for a technical one",
        "This also mends owners.",
        "Fix what the recommendation names.",
    ),
    Word(
        "reckon",
        r"\breckon(?:s|ed|ing)?\b",
        "compute, calculate, estimate",
        "an everyday word for a technical one",
        "The cost is reckoned again.",
        "The cost is computed again.",
    ),
    Word(
        "without",
        r"\bwithout end\b",
        "unbounded, forever, never completes",
        "a preposition carried over",
        "These would be series without end.",
        "These would be an unbounded number of series, without ending tags.",
    ),
    Word(
        "for",
        r"\bfor ever\b",
        "forever",
        "one spelling",
        "It is kept for ever.",
        "It is kept forever, for every customer.",
    ),
    Word(
        "away",
        r"\b(?:is|are|was|were|be|been|stays?) away\b(?! from)",
        "unreachable, unavailable, down",
        "an everyday word for a technical one",
        "The collector is away.",
        "The collector is unreachable; the next run is away from the peak.",
    ),
    Word(
        "no",
        r"(?<!there)(?<!\s) (?:is|are|was|were) no (?!longer|more|less|fewer|different|better"
        r"|worse|later|earlier|newer|older|larger|smaller|higher|lower|wider|faster|slower|one\b)\w+",
        "is not a, must be",
        "*is no X* is translated; *there is no X* is English",
        "They are no array of objects.",
        "There is no array, and it is no larger; the answer is no. Is there none?",
    ),
    Word(
        "may",
        r"\bmay (?:have|be|contain|name|hold|use) no\b",
        "must not have, must not be",
        "reads as a permission",
        "Names may have no backtick.",
        "Names must not contain a backtick; there may be none.",
    ),
    Word(
        "there",
        r"\b(?:is|are|be|was|were) (?:in )?there (?:once|twice|already|too|again)\b",
        "appears, is present, exists",
        "a verb without a meaning",
        "The header is there twice.",
        "The header appears twice.",
    ),
    Word(
        "get|come",
        r"\bgets? to end\b|\bcomes? to (?:no|an) end\b",
        "may finish, never completes, ends",
        "an everyday word for a technical one",
        "Requests in flight get to end.",
        "Requests in flight may finish.",
    ),
    Word(
        "whole",
        r"\bin whole\b",
        "completely, in full",
        "a preposition carried over",
        "It was not written in whole.",
        "It was not written in full; sizes are whole numbers.",
    ),
    Word(
        "anew",
        r"\banew\b",
        "again",
        "an everyday word for a technical one",
        "The container is made anew.",
        "The container is recreated; a new one starts.",
    ),
    Word(
        "sound",
        r"\bsounds?\b(?! like|:)",
        "audio (or: valid, intact, consistent)",
        "a word of our own for a known thing",
        "Tokens of sound cost more.",
        "Audio tokens cost more, as it sounds like.",
    ),
    Word(
        "film",
        r"\bfilms?\b",
        "video",
        "a word of our own for a known thing",
        "A film has another price.",
        "A video has another price.",
    ),
    Word(
        "ill",
        r"\bill\b(?!-)",
        "unhealthy",
        "a word of our own for a known thing",
        "A deployment that is ill is skipped.",
        "An unhealthy deployment will be skipped, not ill-treated.",
    ),
    Word(
        "told|tell",
        r"\b(?:is|are|was|were|be) told (?:from|apart|of)\b|\btell(?:s|ing)? (?:apart|from)\b",
        "distinguish, report",
        "an everyday word for a technical one",
        "Both kinds are told apart by the code.",
        "The code distinguishes both kinds.",
    ),
    Word(
        "told",
        r"\b(?:usage|tokens?|counts?|costs?|prices?|reasons?) (?:is |are |was |were )?told\b",
        "reported",
        "an everyday word for a technical one",
        "Where no usage is told, we estimate.",
        "Where no usage is reported, we estimate.",
    ),
    Word(
        "wants",
        r"\b(?:it|stack|collector|gateway|docker|provider|server|compose|grafana|prometheus) wants\b",
        "requires, needs, expects",
        "a program has no wishes",
        "It wants Docker Engine 25.",
        "It requires Docker Engine 25; a team that wants more asks.",
    ),
    Word(
        "play",
        r"\bplay(?:s|ed|ing)?\b(?! (?:a|no|any) (?:role|part))",
        "run, simulate",
        "a word of our own for a known thing",
        "The demo plays an incident.",
        "The demo simulates an incident; the playbook plays no role.",
    ),
    Word(
        "hand",
        r"\bhand(?:s|ed|ing) (?:it |them )?(?:over|on|in)\b|\bhand (?:it|them) (?:over|on|in)\b",
        "pass, forward, give",
        "an everyday word for a technical one",
        "The error is handed on.",
        "The error is passed on, as if set by hand in the file.",
    ),
    Word(
        "keep",
        r"\bkeep(?:s|ing)? to\b(?! (?:itself|yourself))",
        "respect, stay within",
        "an everyday word for a technical one",
        "A gateway keeps to its limit.",
        "A gateway respects its limit, to keep others alive.",
    ),
    Word(
        "stand",
        r"\bstand(?:s|ing)? (?:in|at|on|under)\b(?! for)",
        "is in, is listed in",
        "a verb without a meaning",
        "The setting stands in the file.",
        "The setting is in the file; a stand-in stands in for Tempo.",
    ),
    Word(
        "asked",
        r"\b(?:providers?|deployments?|models?) (?:is|are|was|were) (?:not |never )?asked\b(?! for)",
        "called, receives a request",
        "an everyday word for a technical one",
        "The next provider is asked.",
        "The next provider is called; a model is asked for by name.",
    ),
    Word(
        "cut",
        r"\bcut (?:by|at)\b|\blonger(?: than \S+)? (?:is|are) cut\b",
        "truncated",
        "a word of our own for a known thing",
        "An answer longer than this is cut by a limit.",
        "The answer was truncated; the connection is cut.",
    ),
    Word(
        "thereof|whereof|therein|wherein|naught|aught|lest|hither",
        r"\b(?:thereof|whereof|therein|wherein|naught|aught|lest|hither|thither|whither)\b",
        "a plain sentence",
        "out of use",
        "Take care lest it break.",
        "Take care that it does not break.",
    ),
    Word(
        "cool",
        r"\bcool-downs?\b|\bcool downs?\b",
        "cooldown",
        "one spelling",
        "After a cool-down it is used again.",
        "After the cooldown it is used again, cooled down.",
    ),
    Word(
        "price",
        r"(?<!litellm\'s )(?<!own )\bprice lists?\b|\bprice tables?\b",
        "price book",
        "one word for one thing",
        "Take the dated price list.",
        "Take the dated price book; LiteLLM's price list differs.",
    ),
    Word(
        "vendor",
        r"\b(?:llm|model) vendors?\b",
        "provider",
        "one word for one thing: a vendor is an observability product",
        "Each model vendor has a key.",
        "Each provider has a key; a vendor has an overlay.",
    ),
)
"""The first is the rule of the glossary, the others are the seven habits of translated prose."""

CODE_SPAN = re.compile(r"``.+?``|`[^`\n]+`")
_FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
_PREFIX = re.compile(r"^[A-Za-z]*('''|\"\"\"|'|\")")
_STATEMENT = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
"""A literal right after one of these is a docstring."""

Piece = tuple[int, str]
"""A line's number and its prose."""


def hits(path: Path, *, strings: bool) -> Iterator[tuple[int, str, Word]]:
    """Every word of the table in a file's prose: line, what is written there, the table's row.

    `strings` says whether a Python file's literals are prose, or its docstrings and comments only.
    """
    text = path.read_text(encoding="utf-8")
    raw = text.lower()
    rows = [
        row
        for row in _compiled()
        if any(key in raw for key in row.word.keys.split("|")) and row.loose.search(raw)
    ]
    for passage in _passages(path, text, strings=strings) if rows else ():
        yield from _in_passage(passage, rows)


def found_in(sentence: str) -> list[str]:
    """The patterns that a sentence meets."""
    return [word.pattern for _, _, word in _in_passage([(1, sentence)], _compiled())]


def _in_passage(passage: list[Piece], rows: Iterable[_Row]) -> Iterator[tuple[int, str, Word]]:
    joined, starts = "", []
    for line, text in passage:
        clean = " ".join(CODE_SPAN.sub("`", text).split())
        starts.append((len(joined), line))
        joined += clean + " "
    for row in rows:
        for match in row.exact.finditer(joined):
            first = match.start() + len(match[0]) - len(match[0].lstrip())
            line = next(line for start, line in reversed(starts) if start <= first)
            yield line, match[0].strip(), row.word


class _Row(NamedTuple):
    word: Word
    exact: re.Pattern[str]
    """For a passage in one line."""
    loose: re.Pattern[str]
    """For raw text in lower case, where comments and literals go on in the next line."""


@cache
def _compiled() -> tuple[_Row, ...]:
    rows = []
    for word in WORDS:
        loose = re.sub(r"\(\?<!.*?\)", "", word.pattern).replace(" ", r"[\s#\"'f]+")
        rows.append(_Row(word, re.compile(word.pattern, re.IGNORECASE), re.compile(loose)))
    return tuple(rows)


def _passages(path: Path, text: str, *, strings: bool) -> Iterator[list[Piece]]:
    if path.suffix == ".py":
        yield from _python(text, strings=strings)
        return
    if path.suffix == ".md":
        text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    lines = ((n, line.strip("#-/*>| \t")) for n, line in enumerate(text.splitlines(), 1))
    yield from _joined(lines)


def _joined(lines: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Lines in paragraphs, which an empty line ends."""
    passage: list[Piece] = []
    for number, line in lines:
        if line:
            passage.append((number, line))
        elif passage:
            yield passage
            passage = []
    if passage:
        yield passage


def _python(text: str, *, strings: bool) -> Iterator[list[Piece]]:
    """Comments on lines that follow each other are one passage, and so are adjacent literals."""
    passage: list[Piece] = []
    kind, at_start = 0, True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        found: list[Piece] = []
        if token.type == tokenize.COMMENT:
            found = [(token.start[0], token.string.lstrip("#: "))]
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            found = _string(token) if strings or at_start else []
        elif token.type == tokenize.NL and token.line.strip():
            continue
        if passage and (not found or token.type != kind):
            yield from _joined(passage)
            passage = []
        passage += found
        kind = token.type
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            at_start = token.type in _STATEMENT
    yield from _joined(passage)


def _string(token: tokenize.TokenInfo) -> list[Piece]:
    """A literal's lines; one word alone is a name and no prose."""
    prefix = _PREFIX.match(token.string)
    inner = token.string[prefix.end() : -len(prefix[1])] if prefix else token.string
    if " " not in inner:
        return []
    return [(token.start[0] + n, line.strip()) for n, line in enumerate(inner.split("\n"))]
