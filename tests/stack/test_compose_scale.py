"""The layer with two tiers of collectors and long-term stores: what it repeats is as it was, and nothing else is lost."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import ensure_objects

from tests.stack.composition import ROOT, Variables, pins_and_secrets, read, stack, target_of
from tests.stack.test_compose import POSTGRES, SCALE
from tests.support.collector import validate

COLLECTOR = ROOT / "otel-collector"
SECOND = COLLECTOR / "tiers" / "second.yaml"
PROMETHEUS = ROOT / "prometheus"


def parsed(path: Path) -> dict[str, Any]:
    """A file of YAML."""
    made: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return made


@pytest.mark.parametrize("part", ["exporters", "extensions", "processors", "connectors"])
def test_the_second_tier_repeats_the_base(part: str) -> None:
    """What has a name of the base's in the second tier is the same there."""
    base, second = parsed(COLLECTOR / "config.yaml")[part], parsed(SECOND)[part]

    assert second
    assert {name: base[name] for name in second} == second
    assert (
        parsed(SECOND)["service"]["telemetry"]
        == parsed(COLLECTOR / "config.yaml")["service"]["telemetry"]
    )


def test_the_first_tier_only_changes_where_spans_go() -> None:
    """It replaces one pipeline's exporter by one that chooses by the trace's id and keeps its queue on disk."""
    added = parsed(COLLECTOR / "tiers" / "first.yaml")
    assert added["service"] == {
        "pipelines": {"traces/tempo": {"exporters": ["load_balancing/second_tier"]}}
    }
    exporter = added["exporters"]["load_balancing/second_tier"]

    assert exporter["routing_key"] == "traceID"
    assert exporter["sending_queue"]["storage"] == "file_storage/queue"
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert exporter["protocol"]["otlp"]["sending_queue"] == {"enabled": False}
    before = parsed(COLLECTOR / "config.yaml")["exporters"]["otlp_grpc/tempo"]["sending_queue"]
    assert exporter["sending_queue"] == {"enabled": True, **before}


def test_the_collector_reads_everything_it_did_before() -> None:
    """Vendors' layers work as without this one, which repeats the list of files and adds one."""
    before, after = (stack(*layers)["services"]["collector"] for layers in ((), (SCALE,)))

    assert after["command"] == [*before["command"], "--config=/etc/otelcol/tiers/first.yaml"]
    assert set(before["volumes"]) < set(after["volumes"])


def test_samplers_are_alike() -> None:
    """A trace is kept or dropped for the same reasons by each: they differ in their queue's volume alone."""
    services = stack(SCALE)["services"]
    first, second = dict(services["sampler"]), dict(services["sampler-2"])
    for one, name in ((first, "sampler"), (second, "sampler-2")):
        one["volumes"] = [mount for mount in one["volumes"] if mount[0] == "."]
        assert f"{name}-queue:/var/lib/otelcol" in services[name]["volumes"]

    assert first == second
    assert first["networks"]["default"]["aliases"] == ["samplers"]


@pytest.mark.parametrize("overlay", [True, False])
def test_the_collector_takes_the_files_of_both_tiers(overlay: bool, tmp_path: Path) -> None:
    """The real collector accepts the second tier with and without sampling, and the first with sampling."""
    sampling = [COLLECTOR / "overlays" / "tail-sampling.yaml"] if overlay else []
    first = [COLLECTOR / "config.yaml", *sampling, COLLECTOR / "tiers" / "first.yaml"]
    for files in ([SECOND, *sampling], first):
        done = validate(files, {"OTELCOL_QUEUE_DIR": str(tmp_path)})
        assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_keeps_its_configuration() -> None:
    """The layer's file is the stack's, with a second job, and all series are written to the long-term store."""
    before, after = parsed(PROMETHEUS / "prometheus.yml"), parsed(PROMETHEUS / "scale.yml")
    (remote,) = after.pop("remote_write")
    *jobs, more = after.pop("scrape_configs")

    assert jobs == before.pop("scrape_configs")
    assert after == before
    assert all(config["action"] == "labeldrop" for config in remote["write_relabel_configs"])
    services = stack(SCALE)["services"]
    for group in more["static_configs"]:
        for target in group["targets"]:
            assert target.partition(":")[0] in services
    made = (sys.executable, str(ROOT / "tools" / "generate_scale.py"), "--check")
    assert subprocess.run(made, check=False).returncode == 0


def test_proxies_are_not_asked_for_services() -> None:
    """Each service that a container names is in its NO_PROXY, also together with the layer of Postgres."""
    services = stack(POSTGRES, SCALE)["services"]
    for name in ("collector", "sampler", "objects", "tempo", "prometheus", "grafana"):
        exempt = services[name]["environment"]["NO_PROXY"].split(",")
        long_running = {n for n, s in services.items() if s["restart"] != "no"}
        assert long_running - {"worker", "shipper"} <= set(exempt), name


def test_the_object_store_is_closed() -> None:
    """Only its S3 can be reached from other containers; it reports nothing to its makers."""
    flags = dict(
        flag.lstrip("-").partition("=")[::2]
        for flag in stack(SCALE)["services"]["objects"]["command"]
    )

    assert flags["ip.bind"] == "127.0.0.1"
    assert flags["master.telemetry"] == "false"
    assert flags["s3.config"] == f"/run/objects/{ensure_objects.STORE}"
    mounts = stack(SCALE)["services"]["tempo"]["volumes"]
    assert "/run/objects" in map(target_of, mounts)


def test_layers_in_either_order_have_the_same_services() -> None:
    """Postgres and scale go together, and neither takes anything from the other."""
    one, other = stack(POSTGRES, SCALE)["services"], stack(SCALE, POSTGRES)["services"]
    assert set(one) == set(other)
    for name, service in one.items():
        environment = dict(service.get("environment", {}))
        for proxy in ("NO_PROXY", "no_proxy"):
            environment.pop(proxy, None)
        assert environment.items() <= other[name].get("environment", {}).items(), name


def test_keys_are_made_once_and_kept_to_their_owner(tmp_path: Path) -> None:
    """The store and its clients get the same keys, in files for their owner only; a second start keeps them."""
    assert ensure_objects.ensure_keys(tmp_path) == "keys generated"
    files = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert ensure_objects.ensure_keys(tmp_path) == "the keys exist"

    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == files
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o400}
    (identity,) = json.loads(files[ensure_objects.STORE])["identities"]
    found = configparser.ConfigParser()
    found.read_string(files[ensure_objects.CREDENTIALS])
    assert identity["credentials"] == [
        {
            "accessKey": found["default"]["aws_access_key_id"],
            "secretKey": found["default"]["aws_secret_access_key"],
        }
    ]


def test_variables_of_the_layer_are_read_by_something() -> None:
    """Each variable for samplers and Tempo is one that its files read."""
    services = stack(SCALE)["services"]
    texts = {
        "sampler": SECOND.read_text("utf-8")
        + (COLLECTOR / "overlays" / "tail-sampling.yaml").read_text("utf-8"),
        "tempo": (ROOT / "tempo" / "tempo.yaml").read_text("utf-8"),
    }
    general = {"NO_PROXY", "no_proxy", "GOMEMLIMIT", "AWS_SHARED_CREDENTIALS_FILE"}
    for name, text in texts.items():
        for variable in services[name]["environment"].keys() - general:
            assert variable in text, (name, variable)
    variables = Variables(pins_and_secrets())
    read(SCALE, variables)
    assert "METRICS_RETENTION" in variables.asked
