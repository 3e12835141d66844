"""The compose files: they merge, name only what exists, and keep every service contained.

There is no Docker engine in these tests: the files are read as Compose reads them.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tools import toolchain
from tools.stack_files import DEMO, READS, digests

from spanledger.config import load_config
from spanledger.stack.parts import PROMETHEUS_FLAGS, TEMPO_FLAGS
from spanledger.stack.ports import DEFAULTS
from tests.stack import composition
from tests.stack.composition import (
    BASE,
    EXAMPLE,
    LAYERS,
    ROOT,
    STACKS,
    is_read_only,
    named,
    pins_and_secrets,
    source_of,
    stack,
    target_of,
)
from tests.support.collector import otelcol
from tests.test_docs import Everything, Shown, problem_with

OVERLAYS = ROOT / "otel-collector" / "overlays"
NOT_ALONE = ("otel-collector/overlays", "otel-collector/tiers", "prometheus/scale.yml")
"""Files that only layers mount."""
NO_OVERLAY = ("real-providers", "company-ca", "postgres", "scale")
"""Layers that do not change where the collector sends."""
TOOLS = "/opt/spanledger/tools/"
IMAGES = {
    "collector": "otel/opentelemetry-collector-contrib:{COLLECTOR_VERSION}",
    "tempo": "grafana/tempo:{TEMPO_VERSION}",
    "prometheus": "prom/prometheus:v{PROMETHEUS_VERSION}",
    "grafana": "grafana/grafana:{GRAFANA_VERSION}",
    "postgres": "postgres:{POSTGRES_VERSION}-trixie",
    "proxy": "caddy:{CADDY_VERSION}",
    **dict.fromkeys(
        ("sampler", "sampler-2"), "otel/opentelemetry-collector-contrib:{COLLECTOR_VERSION}"
    ),
    "objects": "chrislusf/seaweedfs:{SEAWEEDFS_VERSION}",
    "victoria-metrics": "victoriametrics/victoria-metrics:v{VICTORIA_METRICS_VERSION}",
}
POSTGRES = ROOT / "compose" / "postgres.yml"
SCALE = ROOT / "compose" / "scale.yml"
OURS = "spanledger:local"
LISTENS = {
    "gateway": {4000: "gateway"},
    "sim": {4010: "simulator"},
    "collector": {4317: "otlp-grpc", 4318: "otlp-http"},
    "tempo": {3200: "tempo"},
    "prometheus": {9090: "prometheus"},
    "grafana": {3000: "grafana"},
    "proxy": {4080: "proxy"},
}
"""Published ports, with their names in the native stack, which uses the same ports."""
NUMBERS = {**DEFAULTS, "proxy": 4080}
INSIDE = {
    "collector": {8888, 13133},
    "gateway-2": {4000},
    "objects": {8333},
    "postgres": {5432},
    "sampler": {4317, 8888},
    "sampler-2": {4317, 8888},
    "tempo": {4317},
    "victoria-metrics": {8428},
}
"""Further ports that are reached within the stack's network."""


@pytest.fixture(params=STACKS, ids=named)
def merged(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each stack in turn."""
    return stack(*request.param)


def test_everything_named_exists(merged: dict[str, Any]) -> None:
    """Mounted files, volumes, services, conditions and hosts in addresses exist."""
    services = merged["services"]
    problems = []
    for name, service in services.items():
        for mount in service.get("volumes", ()):
            source = source_of(mount)
            known = (ROOT / source).exists() if "/" in source else source in merged["volumes"]
            problems += [] if known else [f"{name} mounts {source}"]
        problems += [
            f"{name} reads {file}"
            for file in service.get("env_file", ())
            if not (ROOT / file).is_file()
        ]
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                problems.append(f"{name} waits for the health of {other}, which has none")
            ends = services[other]["restart"] == "no"
            if (how["condition"] == "service_completed_successfully") != ends:
                problems.append(f"{name} waits for {other} by {how['condition']}")
        for variable, value in service.get("environment", {}).items():
            problems += [
                f"{name}: {variable}={value}: nothing listens there"
                for host, port in re.findall(r"([a-z][\w.-]*):(\d+)", str(value))
                if not listens(services, host, int(port))
            ]

    assert problems == []


def listens(services: dict[str, Any], host: str, port: int) -> bool:
    """Whether a service accepts connections on a port, or the address is outside the stack."""
    if host in ("localhost", "host.docker.internal"):
        return True
    if host == "sim" and "sim" not in services:
        return True  # named, and not used: its deployments are not in the configuration
    return host in services and port in {*LISTENS.get(host, {}), *INSIDE.get(host, set())}


def test_each_volume_is_used_and_mounted_files_are_read_only(merged: dict[str, Any]) -> None:
    """No volume is unused, and no service can change the repository."""
    mounts = [m for service in merged["services"].values() for m in service.get("volumes", ())]
    files = [mount for mount in mounts if "/" in source_of(mount)]

    assert {source_of(m) for m in mounts if m not in files} == set(merged["volumes"])
    assert [mount for mount in files if not is_read_only(mount)] == []


def test_commands_name_files_that_are_mounted(merged: dict[str, Any]) -> None:
    """Every configuration file on a command line is mounted at that path."""
    for name, service in merged["services"].items():
        places = [target_of(mount) for mount in service.get("volumes", ())]
        line = [*service.get("entrypoint", ()), *service.get("command", ())]
        for path in re.findall(r"(?<!:)(/(?:etc|run|var)/[\w./-]+)", " ".join(line)):
            assert any(path == place or path.startswith(f"{place}/") for place in places), (
                name,
                path,
            )


def test_our_services_are_started_as_the_command_line_takes_it() -> None:
    """Subcommands and options of our own services exist, and scripts are in the image."""
    services = stack(POSTGRES, SCALE)["services"]
    dockerfile = (ROOT / "service" / "Dockerfile").read_text(encoding="utf-8")
    for service in services.values():
        if service["image"] != OURS:
            continue
        words = [*service.get("entrypoint", ["spanledger"]), *service.get("command", ())]
        tests = service.get("healthcheck", {}).get("test", [])
        for script in (word for word in (*words, *tests) if word.startswith(TOOLS)):
            assert f"tools/{script.removeprefix(TOOLS)}" in dockerfile
        if words[0] == "spanledger":
            assert problem_with(Shown("", " ".join(words), True)) is None
        if words[0] == "sh" and "exec " in words[-1]:
            line = words[-1].partition("exec ")[2].replace("$RATE", "2")
            assert problem_with(Shown("", line, True)) is None


def test_every_variable_is_in_the_example_and_used() -> None:
    """.env.example names exactly what the compose files read, except for versions and digests."""
    variables = composition.Variables(pins_and_secrets())
    for path in (BASE, *LAYERS):
        composition.read(path, variables)
    text = EXAMPLE.read_text(encoding="utf-8")
    named = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, flags=re.MULTILINE)
    assert len(named) == len(set(named))
    own = {n for n in variables.asked if n.endswith("_VERSION") or n.startswith("SPANLEDGER_FILES")}
    assert set(named) == variables.asked - own | {"COMPOSE_FILE"}


def test_the_first_start_needs_no_settings() -> None:
    """The base works without .env, and the example has no secret."""
    assert set(composition.load([BASE], {})["services"]) == set(stack()["services"])

    text = EXAMPLE.read_text(encoding="utf-8")
    secret = r"^(?:# )?(\w*(?:PASSWORD|KEY|AUTH|TOKEN|SECRET))=(.+)$"
    assert re.findall(secret, text, flags=re.MULTILINE) == []
    assert re.findall(r"^\w+=", text, flags=re.MULTILINE) == []


@pytest.mark.parametrize("layers", [(), (POSTGRES,), (SCALE,)], ids=named)
def test_nothing_that_cannot_be_written_to_is_told_to_change_its_owner(
    layers: tuple[Path, ...],
) -> None:
    """init-volumes names its volumes, each of them one that is mounted."""
    services = stack(*layers)["services"]
    for name in {"init-volumes", "init-scale-volumes"} & services.keys():
        service = services[name]
        named = re.findall(r"/\S+?(?=[;\s]|$)", " ".join(service["command"]))

        assert sorted(named) == sorted(map(target_of, service["volumes"]))


@pytest.mark.parametrize("layers", [(), (POSTGRES,), (SCALE,)], ids=named)
def test_services_with_files_have_their_digest(layers: tuple[Path, ...]) -> None:
    """Files mounted into a service are in its digest, or are reloaded while it runs."""
    again = {"./grafana/dashboards", "./prometheus/targets/compose", "./compose/overlay-off.yaml"}
    again.add("./prometheus/targets/postgres")
    again.add("./compose/postgres-init")  # only a new database reads it
    reads = {**READS, **dict.fromkeys(("gateway", "gateway-2", "shipper"), (DEMO,))}
    services = stack(*layers)["services"]
    for name, service in services.items():
        files = {source_of(m) for m in service.get("volumes", ()) if "/" in source_of(m)}
        if name == "check-files" or not files - again:
            continue
        paths = reads.get(name, READS["collector"])
        if SCALE not in layers:
            assert files - again == {f"./{path}" for path in paths if path not in NOT_ALONE}, name
        for file in files - again:
            assert any(f"{file}/".startswith(f"./{path}/") for path in paths), (name, file)
        of = "gateway" if paths == (DEMO,) else name if name in reads else "collector"
        key = f"SPANLEDGER_FILES_{of.upper()}"
        assert stack(*layers, **{key: "changed"})["services"][name]["labels"] == {
            "spanledger.files": "changed"
        }
        assert service["labels"] == {"spanledger.files": digests(ROOT)[key]}


def test_files_are_checked_before_anything_reads_them(merged: dict[str, Any]) -> None:
    """Whatever a service mounts of the repository, check-files mounts too, and the service waits."""
    services = merged["services"]
    checked = {source_of(mount) for mount in services["check-files"]["volumes"]}

    def waits(name: str) -> bool:
        before = services[name].get("depends_on", {})
        return "check-files" in before or any(map(waits, before))

    for name, service in services.items():
        for source in map(source_of, service.get("volumes", ())):
            if "/" in source and source != composition.A_FILE:
                assert any(source == c or source.startswith(f"{c}/") for c in checked), source
                assert name == "check-files" or waits(name), name


@pytest.mark.parametrize("layer", LAYERS, ids=lambda path: path.stem)
def test_a_layer_only_adds(layer: Path) -> None:
    """A vendor's layer adds variables and one file to the collector and touches nothing else."""
    base, on_top = stack()["services"], stack(layer)["services"]
    if layer.stem == "real-providers":
        assert set(base) - set(on_top) == {"sim", "worker", "collector-ready"}
        changed = {"check-files", "gateway", "init-keys"}
        assert {n for n in on_top if on_top[n] != base[n]} == changed
        return
    if layer == POSTGRES:
        assert set(on_top) - set(base) == {
            *("init-database", "postgres", "init-ledger", "gateway-2", "shipper", "proxy"),
        }
        changed = {"collector", "gateway", "init-keys", "init-volumes", "prometheus", "worker"}
        assert {n for n in base if on_top[n] != base[n]} == changed
        return
    if layer == SCALE:
        assert set(on_top) - set(base) == {
            *("init-scale-volumes", "init-sampler-queues", "init-objects", "init-bucket"),
            *("sampler", "sampler-2", "objects", "victoria-metrics"),
        }
        changed = {"collector", "grafana", "prometheus", "tempo"}
        assert {n for n in base if on_top[n] != base[n]} == changed
        return
    if layer.stem == "company-ca":
        changed = {"collector", "gateway", "init-volumes"}
        assert {n for n in on_top if on_top[n] != base[n]} == changed
        return
    name = layer.stem.removeprefix("vendor-")
    overlay = f"./otel-collector/overlays/{name}.yaml:/etc/otelcol/overlays/{name}.yaml:ro"
    off = overlay.replace(f"./otel-collector/overlays/{name}.yaml", "./compose/overlay-off.yaml", 1)

    assert {n for n in on_top if on_top[n] != base[n]} == {"collector"}
    before, after = base["collector"], on_top["collector"]
    assert {key for key in after if after[key] != before.get(key)} <= {
        "environment",
        "extra_hosts",
        "volumes",
    }
    assert before["environment"].items() <= after["environment"].items()
    assert set(before["volumes"]) - set(after["volumes"]) == {off}
    assert set(after["volumes"]) - set(before["volumes"]) == {overlay}


def test_every_overlay_has_its_layer_and_gets_its_variables() -> None:
    """A layer passes exactly the variables that its overlay reads."""
    layers = {p.stem.removeprefix("vendor-"): p for p in LAYERS if p.stem not in NO_OVERLAY}
    overlays = {path.stem: path for path in OVERLAYS.glob("*.yaml")}
    base = stack()["services"]["collector"]["environment"]
    own = read_variables(ROOT / "otel-collector" / "config.yaml")

    assert set(layers) == set(overlays)
    assert {name for name, default in own.items() if not default} <= set(base)
    for name, overlay in overlays.items():
        wanted = read_variables(overlay)
        added = stack(layers[name])["services"]["collector"]["environment"].keys() - base.keys()
        assert added == wanted.keys() - base.keys(), name
        given = composition.Variables(pins_and_secrets())
        composition.read(layers[name], given)
        assert given.required == {n for n, default in wanted.items() if not default}, name


def read_variables(path: Path) -> dict[str, bool]:
    """The variables that a file of the collector reads, and whether each has a default."""
    text = re.sub(r"^\s*#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = re.findall(r"\$\{env:(\w+)(:-)?", text)
    return {name: default == ":-" for name, default in found}


def test_variables_of_the_collector_and_tempo_are_theirs() -> None:
    """A variable set for a program is one that its files read: a typing error sets nothing."""
    services = stack()["services"]
    collector = read_variables(ROOT / "otel-collector" / "config.yaml")
    tempo = (ROOT / "tempo" / "tempo.yaml").read_text(encoding="utf-8")
    grafana = "".join(p.read_text("utf-8") for p in (ROOT / "grafana/provisioning").rglob("*.yaml"))
    general = {"NO_PROXY", "no_proxy", "GOMEMLIMIT"}

    assert services["collector"]["environment"].keys() - general <= collector.keys()
    assert services["tempo"]["environment"].keys() - general <= set(re.findall(r"\$\{(\w+)", tempo))
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", grafana)) == {
        name for name in services["grafana"]["environment"].keys() - general if name[:3] != "GF_"
    }


@pytest.mark.parametrize("layers", STACKS[: len(LAYERS) + 3], ids=named)
def test_the_collector_takes_its_files(layers: tuple[Path, ...], tmp_path: Path) -> None:
    """The collector accepts exactly the files and variables that a stack gives it."""
    collector = stack(*layers)["services"]["collector"]
    places = {target_of(mount): source_of(mount) for mount in collector["volumes"]}
    flags = [flag.partition("=") for flag in collector["command"]]
    files = [f"--config={ROOT / places[path]}" for _, _, path in flags]
    given = {k: str(v) for k, v in collector["environment"].items() if v is not None}
    # The sample's texts stand for secrets; addresses must be ones.
    given |= {k: "http://127.0.0.1:9" for k, v in given.items() if v == "given" and "ENDPOINT" in k}
    given["OTELCOL_QUEUE_DIR"] = str(tmp_path)

    done = subprocess.run(
        [otelcol(), "validate", *files], env=given, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_ports_are_published_on_loopback_only(merged: dict[str, Any]) -> None:
    """Nothing in the stack is reachable from another machine; ports are those of a native run."""
    published = {
        name: [re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port) for port in service.get("ports", ())]
        for name, service in merged["services"].items()
    }
    matches = [(name, match) for name, found in published.items() for match in found]

    assert [name for name, match in matches if match is None] == []
    seen = {name: {int(m[2]) for n, m in matches if n == name and m} for name, _ in matches}
    assert seen == {name: set(ports) for name, ports in LISTENS.items() if name in published}
    for name, match in matches:
        assert match is not None
        assert int(match[1]) == NUMBERS[LISTENS[name][int(match[2])]]


def test_ports_can_be_changed_in_one_place() -> None:
    """Every published port has its variable."""
    names = {*re.findall(r"\{(\w+_PORT):-", BASE.read_text(encoding="utf-8"))}
    moved = stack(**{name: str(20_000 + n) for n, name in enumerate(sorted(names))})
    ports = [p for service in moved["services"].values() for p in service.get("ports", ())]

    assert sorted(port.split(":")[1] for port in ports) == [str(20_000 + n) for n in range(7)]


def test_health_is_asked_often_at_the_start() -> None:
    """Each check has its limits, and `up --wait` does not sleep through a start."""
    for name, service in stack(POSTGRES, SCALE)["services"].items():
        if "healthcheck" in service:
            health = service["healthcheck"]
            assert health["test"][0] == "CMD", name
            assert health["start_interval"] == "1s"
            assert {"interval", "timeout", "retries", "start_period"} <= health.keys()


def test_images_are_pinned_by_the_version_block() -> None:
    """An image is ours or has the version of .env.example; nothing is `latest` or ours to pull."""
    pins = toolchain.pins()
    for name, service in stack(POSTGRES, SCALE)["services"].items():
        if name in IMAGES:
            assert service["image"] == IMAGES[name].format(**pins)
        else:
            policy = "build" if "build" in service else "never"
            assert (service["image"], service["pull_policy"]) == (OURS, policy)
    builds = [s["build"] for s in stack()["services"].values() if "build" in s]

    assert [build["args"]["PYTHON_VERSION"] for build in builds] == [pins["PYTHON_VERSION"]]


def test_programs_run_as_natively() -> None:
    """The flags are those of `spanledger stack`, and so what is tested there runs here."""
    services = stack()["services"]

    assert set(PROMETHEUS_FLAGS) < set(services["prometheus"]["command"])
    assert set(TEMPO_FLAGS) < set(services["tempo"]["command"])


@pytest.mark.parametrize("layers", [(), (POSTGRES,)], ids=named)
def test_scrape_targets_are_services(layers: tuple[Path, ...]) -> None:
    """Prometheus' targets are services that listen there."""
    folder = POSTGRES.stem if layers else "compose"
    text = (ROOT / "prometheus" / "targets" / folder / "stack.json").read_text("utf-8")
    services = stack(*layers)["services"]
    targets = [target for group in json.loads(text) for target in group["targets"]]

    for target in targets:
        host, _, port = target.rpartition(":")
        assert listens(services, "prometheus" if host == "127.0.0.1" else host, int(port)), target


@pytest.mark.parametrize("path", ["examples/stack.yaml", "compose/spanledger.real.yaml"])
def test_the_configurations_of_the_gateway_load(path: str) -> None:
    """Both files that compose mounts are accepted, without a warning, and limit what is spent."""
    loaded = load_config(ROOT / path, Everything())

    assert loaded.model_list
    assert loaded.warnings == ()
    assert any(budget.model_dump(exclude_none=True).get("limit") for budget in loaded.budgets)
