"""How many series, and how much memory, Prometheus needs for ten thousand customers at fifty models of
three providers: a real ledger shipped by the real shipper, and the rules that copy counters."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from bench.report import ROOT, machine, write_section
from tests.support.crowd import CUSTOMERS, MODELS, PROVIDERS, Crowd
from tools.replay_alerts import ReplayError, ask, prometheus

from prometheus.src import long
from spanledger.stack.parts import PROMETHEUS_FLAGS

SPEED = 60
"""How much faster the rules run, so the copies made every 15 minutes exist within 15 seconds."""
TIMEOUT_S = 120.0
SENT = '{__name__!~"up|scrape_.*|ALERTS.*|.*:.*",__name__!=""}'


def settings(folder: Path) -> str:
    """The stack's settings, with faster rules and nothing to scrape."""
    tool = (sys.executable, str(ROOT / "tools" / "generate_rules.py"))
    subprocess.run([*tool, "--speed", str(SPEED), "--out", str(folder / "rules")], check=True)
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    config["rule_files"] = [str(folder / "rules" / "prometheus" / "rules" / "*.yml")]
    config["scrape_configs"], config["alerting"] = [], {}
    return yaml.safe_dump(config)


def number(url: str, expr: str) -> int:
    """The value of an expression, 0 if it has none."""
    result = ask(url, "/api/v1/query", query=expr)["result"]
    return int(result[0]["value"][1]) if result else 0


def resident_mb(url: str) -> int:
    """Prometheus's own metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:  # noqa: S310 - our own loopback
        lines = answer.read().decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("process_resident_memory"))
    return round(float(value) / 1e6)


def weighed() -> dict[str, Any]:
    """Run the measurement. Raises ReplayError if Prometheus is missing or rejects the metrics."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crowd = Crowd(folder / "ledger.db")
        with prometheus(folder, *PROMETHEUS_FLAGS, settings=settings(folder)) as url:
            empty_mb = resident_mb(url)
            if not crowd.ship(url):
                raise ReplayError("Prometheus did not accept the metrics")
            copies = f'count({{__name__=~"{long.PREFIX}.+"}})'
            originals = f'count({{__name__=~"{"|".join(long.COPIED)}"}})'
            deadline = time.monotonic() + TIMEOUT_S
            while number(url, copies) < number(url, originals):
                if time.monotonic() > deadline:
                    raise ReplayError(f"not all copies appeared within {TIMEOUT_S:.0f} s")
                time.sleep(0.5)
            return {
                "series": number(url, f"count({SENT})"),
                "copies": number(url, copies),
                "empty_mb": empty_mb,
                "resident_mb": resident_mb(url),
            }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--write", action="store_true", help="also update docs/performance.md")
    options = parser.parse_args()
    try:
        found = weighed()
    except ReplayError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    text = (
        f"{CUSTOMERS:,} customers at {MODELS} models of {len(PROVIDERS)} providers make"
        f" {found['series']:,} series and {found['copies']:,} copies; Prometheus then uses"
        f" {found['resident_mb']} MB (empty: {found['empty_mb']})."
    )
    if options.write:
        write_section("series", f"{text} Processor {machine()['processor']}.")
    print(json.dumps(found, indent=2) if options.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
