"""Digests of the files that each service reads at startup, so a changed file is noticed.

Docker Compose recreates a service when its definition changes, but not when a mounted file does. So
the definition includes a digest of the files, as a label.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

DEMO = "examples/stack.yaml"
REAL = "compose/spanledger.real.yaml"
READS = {
    "collector": ("otel-collector/config.yaml", "otel-collector/overlays", "otel-collector/tiers"),
    "grafana": ("grafana/provisioning",),
    "prometheus": ("prometheus/prometheus.yml", "prometheus/scale.yml", "prometheus/rules"),
    "proxy": ("compose/Caddyfile",),
    "tempo": ("tempo/tempo.yaml",),
}
"""Files read only at startup, by service, without the gateway's. Dashboards and targets are reloaded."""


def digest(root: Path, *names: str) -> str:
    """A digest of files and of all files below folders."""
    total = hashlib.sha256()
    for name in names:
        path = root / name
        below = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in below:
            content = file.read_bytes()
            total.update(f"{file.relative_to(path)}\n{len(content)}\n".encode() + content)
    return total.hexdigest()[:12]


def digests(root: Path, gateway: str = DEMO) -> dict[str, str]:
    """The current digests, by variable of the compose files.

    Args:
        gateway: the configuration that the gateway reads.
    """
    reads = {**READS, "gateway": (gateway,)}
    return {
        f"SPANLEDGER_FILES_{service.upper()}": digest(root, *names)
        for service, names in reads.items()
    }
