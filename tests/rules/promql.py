"""The metric names of a PromQL expression, by its tokens; promtool judges whether it parses."""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
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


def calls(name: str, after: str) -> bool:
    """Whether a name is a function or an aggregation rather than a metric."""
    return after in ("(", "by", "without") and ":" not in name
