"""Digests of the files that each service reads at its start, so that a changed file is noticed.

Docker Compose creates a service anew when its description changes, not when a mounted file does.
The description therefore has a digest of the files, as a label.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

DEMO = "examples/stack.yaml"
REAL = "compose/spanledger.real.yaml"
READS = {
    "collector": ("otel-collector/config.yaml", "otel-collector/overlays"),
    "grafana": ("grafana/provisioning",),
    "prometheus": ("prometheus/prometheus.yml", "prometheus/rules"),
    "tempo": ("tempo/tempo.yaml",),
}
"""Service to what it reads once, beside the gateway. Dashboards and scrape targets are looked at again."""


def digest(root: Path, *names: str) -> str:
    """A digest of files, or of all that is below folders."""
    total = hashlib.sha256()
    for name in names:
        path = root / name
        below = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in below:
            content = file.read_bytes()
            total.update(f"{file.relative_to(path)}\n{len(content)}\n".encode() + content)
    return total.hexdigest()[:12]


def digests(root: Path, gateway: str = DEMO) -> dict[str, str]:
    """Variable of the compose files to digest, of the files as they are.

    Args:
        gateway: the configuration that the gateway reads.
    """
    reads = {**READS, "gateway": (gateway,)}
    return {
        f"SPANLEDGER_FILES_{service.upper()}": digest(root, *names)
        for service, names in reads.items()
    }
