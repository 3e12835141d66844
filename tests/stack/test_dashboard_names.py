"""Names with slashes, quotes and regular-expression characters, as dashboards put them into queries."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.rules.harness import promtool
from tests.stack.boards import choices, dashboards, grafana_regex, marks, queries, variables

NAMES = (
    "openrouter/anthropic/claude-3.5-sonnet:free",
    "openai/gpt-4o",
    "openai/gpt-4o-mini",
    "azure/eu (blue) | green",
    'a "quoted" \\ name',
    "Café Ünlü & 東京 50% +1?",
    "{{ $value }} ^[x]*.$",
)
MATCHER = re.compile(r"(\w+)(=~|=)`\$\{(\w+):(regex|raw)\}`")


def matchers() -> set[tuple[str, str, str]]:
    """Label, operator and form of each matcher with a variable."""
    asked = (*queries(), *marks(), *choices())
    texts = [query.text for query in asked if query.language == "promql"]
    return {
        (label, operator, form)
        for text in texts
        for label, operator, _, form in MATCHER.findall(text)
    }


def test_a_name_that_is_chosen_finds_itself_and_nothing_else(tmp_path: Path) -> None:
    """Prometheus accepts a name in Grafana's form and finds exactly it; of several names, each."""
    labels = sorted({label for label, _, _ in matchers()})
    tests = []
    for label, operator, form in sorted(matchers()):
        put = grafana_regex if form == "regex" else str
        asked = [(put(name), [name]) for name in NAMES]
        if form == "regex":
            asked.append((f"({'|'.join(map(grafana_regex, NAMES[:3]))})", list(NAMES[:3])))
        tests += [
            {
                "expr": f"probe{{{label}{operator}`{text}`}}",
                "eval_time": "0s",
                "exp_samples": [
                    {"labels": f"probe{{{label}={quoted(name)}}}", "value": 1} for name in found
                ],
            }
            for text, found in asked
        ]
    series = [
        {"series": f"probe{{{label}={quoted(name)}}}", "values": "1"}
        for label in labels
        for name in NAMES
    ]
    file = tmp_path / "test.yml"
    document = {"rule_files": [], "tests": [{"input_series": series, "promql_expr_test": tests}]}
    file.write_text(yaml.safe_dump(document, allow_unicode=True, width=10_000), "utf-8")

    assert len(matchers()) >= 8
    assert promtool("test", "rules", str(file)) == ""


def quoted(name: str) -> str:
    """A string of PromQL."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def test_a_name_is_read_whole_from_what_a_variable_asked() -> None:
    """Grafana turns each series into a line and extracts the name with the variable's expression."""
    found = {
        variable["regex"].strip("/")
        for board in dashboards().values()
        for variable in variables(board).values()
        if variable["type"] == "query" and re.match(r'/\w+="\(\.\+\)"', variable["regex"])
    }

    assert found
    for pattern in found:
        label = pattern.partition("=")[0]
        for name in NAMES:
            match = re.search(pattern, f'{{{label}="{name}"}} 1 1795816800000')
            assert match
            assert match[1] == name
