"""The registry is complete, and its page matches it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from spanledger.telemetry.signals import ATTRIBUTES, METRICS, OVERFLOW, SCRAPED, SPANS

ROOT = Path(__file__).resolve().parents[3]


def test_every_attribute_is_described_and_used() -> None:
    """Every attribute of a signal has a meaning, and every defined attribute is used."""
    used = {name for span in SPANS for name in span.attributes}
    used |= {name for metric in METRICS for name in metric.attributes}

    assert used | {OVERFLOW} == set(ATTRIBUTES)


def test_names_are_unique_and_ours_are_marked() -> None:
    """No two signals share a name; names outside the conventions begin with `spanledger`."""
    names = [metric.name for metric in METRICS] + [scraped.name for scraped in SCRAPED]

    assert len(names) == len(set(names))
    assert all(name.startswith(("gen_ai.client.", "spanledger")) for name in names)


def test_buckets_rise() -> None:
    """Bounds of histograms are in order; those of durations and tokens are the conventions'."""
    for metric in METRICS:
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert len(metric.buckets) <= 16
    by_unit = {metric.unit: metric.buckets for metric in METRICS if metric.buckets}
    assert (by_unit["s"][0], by_unit["s"][-1]) == (0.01, 81.92)
    assert (by_unit["{token}"][0], by_unit["{token}"][-1]) == (1, 67_108_864)


def test_the_page_is_what_the_registry_says() -> None:
    """docs/telemetry.md is up to date with its generator."""
    script = ROOT / "tools" / "generate_telemetry_docs.py"

    subprocess.run([sys.executable, script, "--check"], check=True)


def test_reading_the_registry_loads_no_sdk() -> None:
    """The gateway imports registry, attributes and exposition, and loads no exporter."""
    program = (
        "import sys, spanledger.telemetry.attributes, spanledger.telemetry.signals,"
        " spanledger.telemetry.exposition, spanledger.telemetry.shipper, spanledger.commands.ship;"
        " print([m for m in sys.modules if m.startswith(('opentelemetry', 'requests', 'google'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert done.stdout.strip() == "[]"
