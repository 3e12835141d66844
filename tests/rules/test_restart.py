"""A restarted Prometheus continues alerts where it left off."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from tools.replay_alerts import ask, prometheus, store

from prometheus.src.model import Alert, duration
from prometheus.src.thresholds import MINUTE
from spanledger.stack.parts import PROMETHEUS_FLAGS
from tests.rules.harness import ALERTS, program
from tests.support.processes import poll

pytestmark = pytest.mark.skipif(
    program("prometheus") is None, reason="no prometheus: `make toolchain` builds it"
)

WAITS = sorted({a.for_s for a in ALERTS if isinstance(a, Alert) and a.for_s >= MINUTE})


def states(url: str) -> dict[str, str]:
    """Each alert by name, and whether it is pending or firing."""
    told = ask(url, "/api/v1/alerts")["alerts"]
    return {alert["labels"]["alertname"]: alert["state"] for alert in told}


def test_what_fired_fires_and_what_is_new_waits(tmp_path: Path) -> None:
    """With the stack's flags, a firing alert fires again at the first evaluation, whatever its `for`."""
    now = time.time()
    names = {f"W{duration(wait)}": wait for wait in WAITS}
    rules = [
        {"alert": name, "expr": "vector(1)", "for": duration(wait)}
        for name, wait in {**names, "New": MINUTE}.items()
    ]
    group = {"name": "g", "interval": "1s", "rules": rules}
    (tmp_path / "rule.yml").write_text(yaml.safe_dump({"groups": [group]}), "utf-8")
    times = range(int(now) - 300, int(now) - 20, 10)
    store(
        (
            (f'ALERTS_FOR_STATE{{alertname="{name}"}}', [(float(at), now - 7_200) for at in times])
            for name in names
        ),
        tmp_path,
    )
    config = yaml.safe_dump({"rule_files": ["rule.yml"]})
    expected = {**dict.fromkeys(names, "firing"), "New": "pending"}

    with prometheus(tmp_path, *PROMETHEUS_FLAGS, settings=config) as url:
        assert poll(lambda: states(url) == expected), states(url)
