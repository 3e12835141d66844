"""The Helm chart: what it makes of values, as Helm renders it and Kubernetes' schemas see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import spanledger
from tests.rules.harness import promtool
from tests.support.manifests import (
    CHART,
    EXAMPLE,
    ROOT,
    Manifest,
    Rendered,
    complaints,
    helm,
    needed,
    render,
)
from tests.support.processes import poll

POSTGRES: dict[str, Any] = {"store": "postgres", "postgres": {"existingSecret": "ledger-database"}}
EVERYTHING: dict[str, Any] = {
    "ledger": POSTGRES,
    "providerSecrets": ["openai", "anthropic"],
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": f"sha256:{'a' * 64}"},
    "gateway": {
        "autoscaling": {"enabled": True},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "podAnnotations": {"example.com/team": "llm"},
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
        ],
    },
    "shipper": {"priorityClassName": "high", "env": [{"name": "OTEL_LOG_LEVEL", "value": "info"}]},
    "ingress": {
        "enabled": True,
        "host": "llm.example.com",
        "className": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
        "tls": [{"hosts": ["llm.example.com"], "secretName": "llm-tls"}],
    },
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 443}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True},
    "serviceAccount": {"annotations": {"example.com/role": "llm"}},
    "service": {"annotations": {"example.com/zone": "a"}},
}
CASES: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "sqlite on a claim": {"ledger": {"sqlite": {"existingClaim": "old", "storageClass": "fast"}}},
    "sqlite with monitoring": {k: EVERYTHING[k] for k in ("serviceMonitor", "dashboards")},
    "postgres": {"ledger": POSTGRES, "gateway": {"replicas": 3}},
    "postgres without a shipper": {"ledger": POSTGRES, "shipper": {"enabled": False}},
    "networkPolicy": {"networkPolicy": {"enabled": True}},
    "another account": {"ledger": POSTGRES, "serviceAccount": {"create": False, "name": "llm"}},
    "everything": EVERYTHING,
}


@pytest.fixture(params=CASES)
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> Rendered:
    """The chart with the values of each case."""
    return render(CASES[request.param], tmp_path)


def pods(rendered: Rendered) -> Iterator[tuple[str, Manifest]]:
    """The name and specification of every pod that the chart starts."""
    for item in rendered.manifests:
        name = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield name, item["spec"]
        elif "template" in item.get("spec", {}):
            yield name, item["spec"]["template"]["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def gateway_of(rendered: Rendered) -> Manifest:
    """The gateway's deployment."""
    return rendered.named("Deployment", "spanledger-gateway")


@pytest.mark.parametrize("case", CASES)
def test_the_chart_passes_helms_lint(case: str, tmp_path: Path) -> None:
    """`helm lint --strict` finds nothing, whatever the values."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(CASES[case]), encoding="utf-8")

    done = helm(
        "lint", "--strict", str(CHART), "-f", str(values), "--set-file", f"config={EXAMPLE}"
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_accepts_every_manifest(rendered: Rendered, tmp_path: Path) -> None:
    """Each object has the fields of its kind and no others."""
    assert complaints(rendered.text, tmp_path) == ""


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("readOnlyRootFilesystem: true", "readonlyRootFilesystem: true", "readonlyRootFilesystem"),
        ("periodSeconds: 10", "periodSeconds: often", "periodSeconds"),
        ("groups:\n", "group:\n", "group"),
        ("sleep: {seconds: 10}", "sleep: {}", "seconds"),
    ],
)
def test_a_wrong_manifest_is_seen(tmp_path: Path, old: str, new: str, found: str) -> None:
    """The check above finds a misspelt field, a wrong type and a field that is missing."""
    text = render(EVERYTHING, tmp_path).text

    assert old in text
    assert found in complaints(text.replace(old, new), tmp_path)


REFUSED: dict[str, tuple[Mapping[str, Any], Path | None, tuple[str, ...]]] = {
    "two gateways on a file": (
        {"gateway": {"replicas": 2}},
        EXAMPLE,
        ("gateway.replicas is 2, but a SQLite ledger is one file", "set ledger.store=postgres"),
    ),
    "autoscaling on a file": (
        {"gateway": {"autoscaling": {"enabled": True}}},
        EXAMPLE,
        ("gateway.autoscaling.enabled is true, but a SQLite ledger carries one gateway pod",),
    ),
    "no database": (
        {"ledger": {"store": "postgres"}},
        EXAMPLE,
        ("ledger.postgres.existingSecret is empty",),
    ),
    "no configuration": ({}, None, ("pass your configuration with --set-file config=",)),
    "a configuration that is not YAML": (
        {"config": "model_list: ["},
        None,
        ("config is not YAML",),
    ),
    "a grace period in words": (
        {"config": "gateway: {shutdown_grace_s: long}"},
        None,
        ("gateway.shutdown_grace_s in config must be a number of seconds",),
    ),
    "bounds the wrong way around": (
        {"ledger": POSTGRES, "gateway": {"autoscaling": {"enabled": True, "minReplicas": 20}}},
        EXAMPLE,
        ("minReplicas is 20, which is more than maxReplicas, 10",),
    ),
    "an ingress for any host": (
        {"ingress": {"enabled": True}},
        EXAMPLE,
        ("ingress.host is empty",),
    ),
    "all at once": (
        {"gateway": {"replicas": 3}, "ingress": {"enabled": True}},
        None,
        ("config is empty", "gateway.replicas is 3", "ingress.host is empty"),
    ),
    "a key that does not exist and values of wrong types": (
        {"gateway": {"replica": 2, "port": 80}, "ledger": {"store": "mysql"}, "image": {"tag": 1}},
        EXAMPLE,
        ("'replica' not allowed", "/gateway/port", "'sqlite', 'postgres'", "/image/tag"),
    ),
    "a secret instead of its name": (
        {"ledger": {"postgres": {"url": "postgresql://u:p@db/l"}}},
        EXAMPLE,
        ("'url' not allowed",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_cannot_work_are_refused(case: str, tmp_path: Path) -> None:
    """Helm refuses wrong values and names all of them, each with what to change."""
    values, file, sentences = REFUSED[case]

    refused = render(values, tmp_path, file).error

    assert [sentence for sentence in sentences if sentence not in refused] == []


def test_every_value_is_in_the_schema_and_the_schema_has_no_other() -> None:
    """`values.yaml` lists exactly the settings that the schema allows."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert set(allowed(schema)) - {"global"} == set(given(values))


def allowed(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The settings of a schema, down to those with values of any kind."""
    for name, inner in schema["properties"].items():
        if "properties" in inner and name != "resources":
            yield from allowed(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def given(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The settings of values; a map of free keys, such as labels, is one setting."""
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in ("resources", "labels", "annotations"):
            yield from given(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_a_ledger_in_a_file_has_one_gateway_that_ships_itself(tmp_path: Path) -> None:
    """With SQLite, one pod has the volume, and the old one is gone before the new one starts."""
    rendered = render({}, tmp_path)
    (deployment,) = rendered.of_kind("Deployment")
    (gateway,) = deployment["spec"]["template"]["spec"]["containers"]

    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert "--no-ship" not in gateway["args"]
    assert {"name": "ledger", "mountPath": "/var/lib/spanledger"} in gateway["volumeMounts"]
    assert {item["kind"] for item in rendered.manifests}.isdisjoint(
        {"Job", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Secret"}
    )
    (claim,) = rendered.of_kind("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_ledger_in_postgres_has_one_shipper_and_a_migration(tmp_path: Path) -> None:
    """With Postgres, gateways do not ship, one shipper does, and the schema comes first."""
    rendered = render(EVERYTHING, tmp_path)
    gateway = gateway_of(rendered)
    shipper = rendered.named("Deployment", "spanledger-shipper")
    (job,) = rendered.of_kind("Job")
    (scaler,) = rendered.of_kind("HorizontalPodAutoscaler")
    (budget,) = rendered.of_kind("PodDisruptionBudget")

    assert "--no-ship" in gateway["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "replicas" not in gateway["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == gateway["metadata"]["name"]
    assert budget["spec"]["selector"] == gateway["spec"]["selector"]
    assert (shipper["spec"]["replicas"], shipper["spec"]["strategy"]["type"]) == (1, "Recreate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["ledger", "migrate"]
    assert rendered.of_kind("PersistentVolumeClaim") == []


def test_gateways_on_postgres_can_share_a_folder_for_journals(tmp_path: Path) -> None:
    """Only they mount the claim; the server's own address, behind a pooler, reaches the shipper too."""
    own = {**POSTGRES["postgres"], "journalClaim": "journals", "directKey": "direct"}
    rendered = render({**EVERYTHING, "ledger": {**POSTGRES, "postgres": own}}, tmp_path)
    pods = [
        deployment["spec"]["template"]["spec"]
        for deployment in (
            gateway_of(rendered),
            rendered.named("Deployment", "spanledger-shipper"),
            *rendered.of_kind("Job"),
        )
    ]
    volume = {"name": "journal", "persistentVolumeClaim": {"claimName": "journals"}}
    mount = {"name": "journal", "mountPath": "/var/lib/spanledger-journal"}
    assert [volume in pod["volumes"] for pod in pods] == [True, False, False]
    assert [mount in pod["containers"][0]["volumeMounts"] for pod in pods] == [True, False, False]
    secret = {"secretKeyRef": {"name": "ledger-database", "key": "direct"}}
    direct = {"name": "SPANLEDGER_LEDGER_DIRECT_URL", "valueFrom": secret}
    assert all(direct in pod["containers"][0]["env"] for pod in pods)


def test_the_migration_needs_nothing_of_the_release(tmp_path: Path) -> None:
    """The job runs before the release's objects exist, so it refers to none of them."""
    job = render(EVERYTHING, tmp_path).of_kind("Job")[0]["spec"]["template"]["spec"]

    assert job["serviceAccountName"] == "default"
    assert [volume["name"] for volume in job["volumes"]] == ["tmp"]


def test_provider_keys_reach_the_gateway_alone(tmp_path: Path) -> None:
    """Secrets are existing ones, by name; neither the shipper nor the migration has a provider's."""
    rendered = render(EVERYTHING, tmp_path)
    having = [name for name, pod in pods(rendered) if "envFrom" in json.dumps(pod)]
    (gateway,) = gateway_of(rendered)["spec"]["template"]["spec"]["containers"]
    url = {"secretKeyRef": {"name": "ledger-database", "key": "url"}}

    assert rendered.of_kind("Secret") == []
    assert having == ["Deployment spanledger-gateway"]
    assert [each["secretRef"]["name"] for each in gateway["envFrom"]] == ["openai", "anthropic"]
    for name, pod in pods(rendered):
        for container in containers(pod):
            env = {item["name"]: item.get("valueFrom") for item in container.get("env", [])}
            assert env.get("SPANLEDGER_LEDGER_URL", url) == url, name


def test_no_pod_has_more_rights_than_it_needs(rendered: Rendered) -> None:
    """Every container runs as a user without capabilities, on a file system it cannot write to."""
    for name, pod in pods(rendered):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


@pytest.mark.parametrize(
    ("grace", "until_killed"), [("", 65), ("120", 155), ("0.5", 36), ("0", 35)]
)
def test_a_pod_is_not_killed_while_it_drains(tmp_path: Path, grace: str, until_killed: int) -> None:
    """A pod's end takes its sleep, the configuration's grace, 15 s for the rest, and a margin."""
    file = tmp_path / "spanledger.yaml"
    setting = f"\ngateway: {{shutdown_grace_s: {grace}}}\n" if grace else ""
    file.write_text(EXAMPLE.read_text(encoding="utf-8") + setting, encoding="utf-8")

    pod = gateway_of(render({}, tmp_path, file))["spec"]["template"]["spec"]

    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 10}}}
    assert pod["terminationGracePeriodSeconds"] == until_killed


@pytest.mark.parametrize(
    ("setting", "most_mib"),
    [
        ("", 1_024),
        ("max_upload_bytes_in_flight: 2147483648", 2_048),
        ("max_upload_bytes: 3221225472, max_upload_bytes_in_flight: null", 3_072),
    ],
)
def test_uploads_have_the_room_that_they_may_take(
    tmp_path: Path, setting: str, most_mib: int
) -> None:
    """The volume of large uploads is larger than the gateway's limit on them: Kubernetes removes a pod
    that exceeds a volume's size."""
    file = tmp_path / "spanledger.yaml"
    section = f"\ngateway: {{{setting}}}\n" if setting else ""
    file.write_text(EXAMPLE.read_text(encoding="utf-8") + section, encoding="utf-8")

    pod = gateway_of(render({}, tmp_path, file))["spec"]["template"]["spec"]

    (volume,) = [v for v in pod["volumes"] if v["name"] == "uploads"]
    assert volume["emptyDir"]["sizeLimit"] == str((most_mib + 64) * 2**20)
    (container,) = pod["containers"]
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"name": "TMPDIR", "value": places["uploads"]} in container["env"]


def test_the_configuration_is_passed_on_as_it_is(tmp_path: Path) -> None:
    """The gateway reads the file byte for byte, and its pods are replaced when it changes."""
    changed = tmp_path / "changed.yaml"
    changed.write_text(EXAMPLE.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    one, other = (
        render({"ledger": POSTGRES}, tmp_path),
        render({"ledger": POSTGRES}, tmp_path, changed),
    )
    text = one.named("ConfigMap", "spanledger")["data"]["spanledger.yaml"]

    assert text == EXAMPLE.read_text(encoding="utf-8")
    for name in ("spanledger-gateway", "spanledger-shipper"):
        sums = [r.named("Deployment", name)["spec"]["template"]["metadata"] for r in (one, other)]
        assert sums[0]["annotations"] != sums[1]["annotations"]


def test_prometheus_accepts_the_rules_of_the_chart(tmp_path: Path) -> None:
    """The PrometheusRules are the stack's rules, unchanged by Helm, and promtool accepts them."""
    rules = render(EVERYTHING, tmp_path).of_kind("PrometheusRule")
    originals = sorted((ROOT / "prometheus" / "rules").glob("*.yml"))

    assert [item["spec"] for item in rules] == [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in originals
    ]
    for item in rules:
        file = tmp_path / "rules.yml"
        file.write_text(yaml.safe_dump(item["spec"]), encoding="utf-8")
        assert promtool("check", "rules", str(file)) == ""


def test_dashboards_of_the_chart_are_the_stacks(tmp_path: Path) -> None:
    """Each dashboard is in a ConfigMap of its own that Grafana's sidecar finds."""
    maps = [
        item
        for item in render(EVERYTHING, tmp_path).of_kind("ConfigMap")
        if item["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    texts = {name: text for item in maps for name, text in item["data"].items()}

    assert texts == {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / "grafana" / "dashboards").glob("*.json")
    }
    assert len(maps) == len(texts)


def test_the_charts_version_is_the_packages() -> None:
    """A release has one number."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert (chart["version"], chart["appVersion"]) == (spanledger.__version__,) * 2


def test_the_gateway_waits_for_the_first_key(tmp_path: Path) -> None:
    """The first container says how to create a key, and ends once there is one."""
    pod = gateway_of(render({}, tmp_path))["spec"]["template"]["spec"]
    (first,) = pod["initContainers"]
    # In the container, /tmp is the pod's own; here it is everybody's.
    script = first["args"][0].replace("/tmp/", f"{tmp_path}/")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    env = {**os.environ, "PATH": path, "SPANLEDGER_LEDGER_URL": ledger}
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["sh", "-c", script], env=env, stdout=output, stderr=subprocess.STDOUT
        ) as waiting,
    ):
        assert poll(lambda: "no key yet" in log.read_text())
        assert waiting.poll() is None
        create = ["spanledger", "keys", "create", "--customer", "acme"]
        made = subprocess.run(create, env=env, capture_output=True, text=True, check=True)
        assert waiting.wait(timeout=60) == 0

    assert "spanledger keys create --customer" in log.read_text()
    assert made.stdout.strip() not in log.read_text()


def test_the_collectors_values_hold_its_configuration(tmp_path: Path) -> None:
    """The collector's chart gets our configuration, which the collector accepts."""
    values = yaml.safe_load((ROOT / "helm" / "collector-values.yaml").read_text(encoding="utf-8"))
    ours = yaml.safe_load((ROOT / "otel-collector" / "config.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values["alternateConfig"]), encoding="utf-8")
    set_there = {item["name"]: item["value"] for item in values["extraEnvs"]}

    assert values["alternateConfig"] == ours
    done = subprocess.run(
        [needed("otelcol"), "validate", "--config", str(file)],
        env={**os.environ, **set_there},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_chart_talks_to_the_collector_it_installs(tmp_path: Path) -> None:
    """Gateway and shipper send to the service that the collector's values create."""
    collector = yaml.safe_load(
        (ROOT / "helm" / "collector-values.yaml").read_text(encoding="utf-8")
    )
    expected = f"http://{collector['fullnameOverride']}:4318"

    for _, pod in pods(render({"ledger": POSTGRES}, tmp_path)):
        for container in pod["containers"]:
            env = {item["name"]: item.get("value") for item in container.get("env", [])}
            assert env.get("OTEL_EXPORTER_OTLP_ENDPOINT", expected) == expected
