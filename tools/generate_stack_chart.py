"""Write what the Helm chart shares with the stack: its rules, its dashboards and the collector's values.

A chart can only read files in its own folder, so it has copies. Runs after the generators of those
files. `--check` writes nothing and fails if a file is out of date or has no original.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.toolchain import pins  # noqa: E402 - as above

from prometheus.src.render import dump  # noqa: E402 - found by the line above
from spanledger import __version__  # noqa: E402 - with the others

COPIES = {
    "helm/spanledger/files/rules": "prometheus/rules/*.yml",
    "helm/spanledger/files/dashboards": "grafana/dashboards/*.json",
}
"""Folders of the chart, to what they have copies of."""
COLLECTOR = "helm/collector-values.yaml"
MEMORY_MIB = 400
QUEUE = "/var/lib/otelcol"
OUR_IMAGE = "ghcr.io/spanledger/spanledger"
CONTAINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def main() -> None:
    """Write the files, or with `--check` compare them."""
    made = {name: text.encode() for name, text in {COLLECTOR: collector_values()}.items()}
    found = {COLLECTOR}
    for folder, pattern in COPIES.items():
        made |= {f"{folder}/{path.name}": path.read_bytes() for path in ROOT.glob(pattern)}
        found |= {f"{folder}/{path.name}" for path in (ROOT / folder).glob("*")}
    stale = sorted(name for name in {*made, *found} if current(name) != made.get(name))
    if "--check" in sys.argv[1:]:
        if stale:
            raise SystemExit(f"{', '.join(stale)}: out of date; run `make generate` and commit it")
        return
    for name in stale:
        path = ROOT / name
        if name in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[name])
        else:
            path.unlink()


def current(name: str) -> bytes | None:
    """A file's content; None without the file."""
    path = ROOT / name
    return path.read_bytes() if path.is_file() else None


def collector_values() -> str:
    """Values for the collector's own chart, with our configuration in them."""
    versions = pins(ROOT)
    config = yaml.safe_load((ROOT / "otel-collector" / "config.yaml").read_text(encoding="utf-8"))
    parts = (
        HEAD,
        dump(image(versions["COLLECTOR_VERSION"]), "As in docker-compose.yml."),
        ADDRESSES,
        dump(pod(), "The rest is the same in every cluster."),
        dump({"alternateConfig": config}, "otel-collector/config.yaml, which has the comments."),
    )
    return "\n".join(parts)


HEAD = """\
# Written by tools/generate_stack_chart.py from otel-collector/config.yaml; change that or the tool.
#
# Values for OpenTelemetry's chart `opentelemetry-collector`, 0.170 or newer:
#
#   helm repo add open-telemetry https://open-telemetry.github.io/opentelemetry-helm-charts
#   helm install spanledger-collector open-telemetry/opentelemetry-collector --values helm/collector-values.yaml
"""

ADDRESSES = """\
# Where things are. To change one, repeat the whole list in a file of yours: Helm replaces lists.
extraEnvs:
  # Both must accept OTLP: Tempo over gRPC, Prometheus with --web.enable-otlp-receiver.
  - {name: TEMPO_OTLP_ENDPOINT, value: "tempo:4317"}
  - {name: PROMETHEUS_URL, value: "http://prometheus-operated:9090"}
  # Your gateways' addresses as applications use them, as a pattern: otel-collector/README.md.
  - {name: OTELCOL_GATEWAY_ADDRESSES, value: "spanledger:4000|spanledger[.].+:4000"}
  - {name: OTELCOL_GRPC_ENDPOINT, value: "0.0.0.0:4317"}
  - {name: OTELCOL_HTTP_ENDPOINT, value: "0.0.0.0:4318"}
  - {name: OTELCOL_HEALTH_ENDPOINT, value: "0.0.0.0:13133"}
  - {name: OTELCOL_METRICS_HOST, value: "0.0.0.0"}
  - {name: OTELCOL_LOG_LEVEL, value: warn}
  - {name: OTELCOL_QUEUE_DIR, value: /var/lib/otelcol/queue}
"""


def image(version: str) -> dict[str, Any]:
    """The name of everything, and the collector that the configuration is tested with."""
    return {
        "fullnameOverride": "spanledger-collector",
        "mode": "statefulset",
        "image": {"repository": "otel/opentelemetry-collector-contrib", "tag": version},
    }


def pod() -> dict[str, Any]:
    """Ports, user, volume and limits, as the Compose stack has them."""
    mounts = [{"name": "queue", "mountPath": QUEUE}]
    unused = ("jaeger-compact", "jaeger-thrift", "jaeger-grpc", "zipkin")
    return {
        "ports": {"metrics": {"enabled": True}, **{name: {"enabled": False} for name in unused}},
        "resources": {
            "requests": {"cpu": "200m", "memory": f"{MEMORY_MIB}Mi"},
            "limits": {"memory": f"{MEMORY_MIB}Mi"},
        },
        "podSecurityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "securityContext": CONTAINED,
        "serviceAccount": {"automountServiceAccountToken": False},
        "extraVolumeMounts": mounts,
        # A truncated queue file would stop the collector at every start, so it is set aside first.
        "initContainers": [
            {
                "name": "queue",
                "image": f"{OUR_IMAGE}:{__version__}",
                "command": ["python", "-m", "spanledger.stack.queues", f"{QUEUE}/queue"],
                "securityContext": CONTAINED,
                "volumeMounts": mounts,
            }
        ],
        "statefulset": {
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "queue"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "4Gi"}},
                    },
                }
            ]
        },
        "serviceMonitor": {"relabelings": [{"targetLabel": "job", "replacement": "collector"}]},
    }


if __name__ == "__main__":
    main()
