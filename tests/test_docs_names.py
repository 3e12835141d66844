"""What the pages name exists: files, settings, metrics, attributes and error codes.

Commands, targets and examples are `test_docs`'s. Only inline code is read, and only of pages that
describe what is: the changelog also names what was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from spanledger import config
from spanledger.errors import SpanledgerError
from spanledger.providers.hosts import HOSTS
from spanledger.stack.ports import DEFAULTS
from spanledger.telemetry.signals import (
    ATTRIBUTES,
    METRICS,
    SCRAPED,
    label_name,
    prometheus_name,
    prometheus_series,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "service" / "spanledger"
PAGES = [
    *(page for page in sorted(ROOT.glob("*.md")) if page.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "bench").glob("*.md")),
]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def test_every_file_named_exists() -> None:
    """A path in a page is a file or a folder here, or in the package."""
    roots = "bench|compose|docs|examples|grafana|otel-collector|prometheus|service|tests|tools"
    parts = "|".join(path.name for path in PACKAGE.iterdir() if path.is_dir())
    named = {
        (page.name, path)
        for page, code in inline_code()
        for path in re.findall(rf"^(?:{roots}|{parts})/[\w./-]+$", code)
    }
    made = {"prometheus/config/targets/"}  # by a reader

    missing = {
        (page, path)
        for page, path in named
        if path not in made and not (ROOT / path).exists() and not (PACKAGE / path).exists()
    }
    assert len(named) >= 20
    assert missing == set()


def test_every_signal_named_exists() -> None:
    """A metric or an attribute of ours that a page names is in the registry."""
    known = {metric.name for metric in METRICS} | set(ATTRIBUTES)
    known |= {label_name(name) for name in ATTRIBUTES}
    known |= {prometheus_name(metric) for metric in METRICS}
    known |= {name for row in SCRAPED for name in (row.name, *prometheus_series(row))}
    known.add("spanledger.source")  # the collector sets it
    known |= {name for metric in METRICS for name in prometheus_series(metric)}
    named = {
        (page.name, name)
        for page, code in inline_code()
        for name in re.findall(r"^spanledger[._][a-z0-9_.]+$", code)
        if not name.endswith(".yaml")
    }

    assert len(named) >= 50
    assert {(page, name) for page, name in named if name not in known} == set()


def test_every_setting_named_exists() -> None:
    """`gateway.something` in a page is a setting."""
    known = {
        f"{section}.{key}"
        for section in ("gateway", "ledger", "telemetry")
        for key in getattr(config.Config.model_fields[section].annotation, "model_fields", ())
    }
    not_settings = {"ledger.db", "ledger.reserve", "ledger.finish"}  # a file and two operations
    named = {
        (page.name, name)
        for page, code in inline_code()
        for name in re.findall(r"^(?:gateway|ledger|telemetry)\.\w+$", code)
        if name not in not_settings
    }

    assert len(named) >= 10
    assert {(page, name) for page, name in named if name not in known} == set()


def test_every_error_code_is_documented() -> None:
    """Each code that the gateway itself gives an error is in the table, and the table has no other."""
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    table = page.partition("## Errors")[2].partition("## Limits")[0]
    rows = re.findall(r"^\| \d[^|]*\|([^|]*)\|", table, flags=re.MULTILINE)
    listed = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("gateway", "routing", "providers", "wires")
        for path in (PACKAGE / folder).rglob("*.py")
    ]
    given = {
        code
        for path in (PACKAGE / "gateway").glob("*.py")
        for code in re.findall(r"code=\"(\w+)\"", path.read_text(encoding="utf-8"))
    }
    texts = "\n".join(sources)
    kinds = {kind.error_type for kind in with_subclasses(SpanledgerError)}

    assert given - listed == set()
    assert {code for code in listed - kinds if f'"{code}"' not in texts} == set()


def test_every_port_named_is_used() -> None:
    """A port of this machine in a page is one of the stack's, or of another program by default."""
    address = re.compile(r"(?:127\.0\.0\.1|localhost):(\d+)")
    others = {"8000": "a server of the reader's", "6006": "Phoenix", "9093": "Alertmanager"}
    others["4080"] = "the proxy of compose/postgres.yml"
    known = {str(port) for port in DEFAULTS.values()} | set(others)
    known |= {port for host in HOSTS.values() for port in address.findall(host.base or "")}
    named = {
        (page.name, port)
        for page in PAGES
        for port in address.findall(page.read_text(encoding="utf-8"))
    }

    assert len(named) >= 10
    assert {(page, port) for page, port in named if port not in known} == set()


def test_every_alert_has_its_runbook() -> None:
    """The rules, the runbooks and the index of docs/ have the same alerts."""
    rules = (ROOT / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    fired = set(re.findall(r"^ *- alert: (\w+)", rules, flags=re.MULTILINE))
    runbooks = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")

    assert fired == runbooks
    assert set(re.findall(r"\]\(runbooks/(\w+)\.md\)", index)) == fired


def with_subclasses(kind: type[SpanledgerError]) -> Iterator[type[SpanledgerError]]:
    """An error's class and all that inherit from it."""
    yield kind
    for inherited in kind.__subclasses__():
        yield from with_subclasses(inherited)


def inline_code() -> Iterator[tuple[Path, str]]:
    """Each piece of inline code of the current pages."""
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"`([^`\n]+)`", text):
            yield page, code
