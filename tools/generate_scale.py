"""Write prometheus/scale.yml: the stack's configuration of Prometheus, with the long-term store and the second tier.

Prometheus reads one file and fills in no variables, so the layer compose/scale.yml mounts another one.
`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "prometheus"
SCRAPE = """
  # From tools/generate_scale.py: the second tier of collectors, and what stores for long.
  - job_name: scale
    scrape_native_histograms: false
    static_configs:
      - labels: {job: collector}
        targets: [sampler:8888, sampler-2:8888]
      - labels: {job: victoria-metrics}
        targets: [victoria-metrics:8428]
"""
NOTICE = "# Written by tools/generate_scale.py; change prometheus.yml or src/scale.yml.\n"


def made() -> str:
    """The file's text."""
    base = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    more = (FOLDER / "src" / "scale.yml").read_text(encoding="utf-8")
    return f"{NOTICE}{base.rstrip()}\n{SCRAPE}{more}"


def main() -> None:
    """Write the file, or with `--check` compare it."""
    path = FOLDER / "scale.yml"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before == made():
        return
    if "--check" in sys.argv[1:]:
        raise SystemExit("prometheus/scale.yml: out of date; run `make generate` and commit it")
    path.write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
