"""Links in Prometheus's own alerts use the Grafana address from its environment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tools.replay_alerts import prometheus

from prometheus.src.model import ADDRESS, GRAFANA, GRAFANA_URL
from tests.rules.harness import ROOT, program
from tests.support.processes import poll
from tests.support.webhook_sink import WebhookSink

pytestmark = pytest.mark.skipif(
    program("prometheus") is None, reason="no prometheus: `make toolchain` builds it"
)


def settings(folder: Path, alertmanager: str) -> str:
    """The stack's Prometheus configuration, with one firing rule and an Alertmanager."""
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))
    rule = {"alert": "A", "expr": "vector(1)", "annotations": {"dashboard_url": f"{ADDRESS}/d/x"}}
    group = {"name": "g", "interval": "1s", "rules": [rule]}
    (folder / "rule.yml").write_text(yaml.safe_dump({"groups": [group]}), "utf-8")
    config["rule_files"] = ["rule.yml"]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    return yaml.safe_dump(config)


@pytest.mark.parametrize("public", ["https://grafana.example.com/sub", "", None])
def test_an_alert_goes_out_with_links_to_it(
    public: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links use the variable, and it is not a label of the alerts sent to Alertmanager."""
    if public is None:
        monkeypatch.delenv("GRAFANA_PUBLIC_URL", raising=False)
    else:
        monkeypatch.setenv("GRAFANA_PUBLIC_URL", public)
    with WebhookSink() as sink:
        config = settings(tmp_path, urlsplit(sink.url).netloc)
        with prometheus(tmp_path, settings=config):
            assert poll(sink.bodies, 120.0), (tmp_path / "prometheus.log").read_text("utf-8")
        told = sink.bodies()[0][0]

    assert told["annotations"]["dashboard_url"] == f"{public or GRAFANA}/d/x"
    assert GRAFANA_URL not in told["labels"]
