"""The metrics and matchers in a PromQL expression, found in its tokens; promtool parses it."""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)"""
    r"""|(?P<range>\[[^\]]*\])"""
    r"""|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"""
    r"""|(?P<number>\d[\w.]*)"""
    r"""|(?P<other>\S)"""
)
GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", *GROUPING})


def metrics_of(expr: str) -> set[str]:
    """Names that are neither a function, an operator, a label nor inside a matcher."""
    tokens = [match for match in TOKEN.finditer(expr) if match.lastgroup not in ("string", "range")]
    found = set()
    depth = 0
    skip_to = -1
    for index, token in enumerate(tokens):
        text = token.group()
        after = tokens[index + 1].group() if index + 1 < len(tokens) else ""
        depth += (text == "{") - (text == "}")
        if text in GROUPING and after == "(":
            skip_to = next(i for i in range(index, len(tokens)) if tokens[i].group() == ")")
        is_name = token.lastgroup == "name" and text.lower() not in WORDS
        if is_name and not depth and index > skip_to and not calls(text, after):
            found.add(text)
    return found


def selectors_of(expr: str) -> list[tuple[str, set[str]]]:
    """Every use of a metric, with its label matchers."""
    wanted = metrics_of(expr)
    tokens = list(TOKEN.finditer(expr))
    found = []
    for index, token in enumerate(tokens):
        if token.lastgroup == "name" and token.group() in wanted:
            labels: set[str] = set()
            if index + 1 < len(tokens) and tokens[index + 1].group() == "{":
                inside = tokens[index + 2 :]
                end = next(n for n, token in enumerate(inside) if token.group() == "}")
                labels = {token.group() for token in inside[:end] if token.lastgroup == "name"}
            found.append((token.group(), labels))
    return found


def of_everybody(expr: str) -> list[str]:
    """Metrics that applications also send, used without saying whose are meant."""
    if re.search(r"\bby \([^)]*\bspanledger_source\b", expr):
        return []
    return [
        name
        for name, labels in selectors_of(expr)
        if name.rpartition(":")[2].startswith("gen_ai_") and "spanledger_source" not in labels
    ]


def calls(name: str, after: str) -> bool:
    """Whether a name is a function or an aggregation rather than a metric."""
    return after in ("(", "by", "without") and ":" not in name
