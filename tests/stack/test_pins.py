"""Each pinned version of the stack is in one place: the version block of `docker-compose.yml`.

What is built natively, what compose runs and what is installed here all take it from there.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from tools import postgres

from spanledger.ledger.postgres.connection import OLDEST_SERVER

ROOT = Path(__file__).resolve().parents[2]
PLACE = "docker-compose.yml"
PLACEHOLDER = re.compile(r"\$\{(\w+_VERSION)\}")

HOLDS_OTHER_VERSIONS = {
    "uv.lock": "the lock of the Python packages",
    "service/build-requirements.txt": "the lock of what builds the wheel",
    "CHANGELOG.md": "says what a release had",
    "helm/collector-values.yaml": "generated from the block",
    "compose/postgres.yml": "generated from the block",
    "compose/scale.yml": "generated from the block",
    "tests/": "examples of versions, which stay as they are when a pin moves",
}
"""Files and folders in which the same number can mean something else."""

BUILT = {
    "otelcol": "COLLECTOR_VERSION",
    "prometheus": "PROMETHEUS_VERSION",
    "promtool": "PROMETHEUS_VERSION",
    "alertmanager": "ALERTMANAGER_VERSION",
    "amtool": "ALERTMANAGER_VERSION",
    "helm": "HELM_VERSION",
    "kubeconform": "KUBECONFORM_VERSION",
    "actionlint": "ACTIONLINT_VERSION",
    "caddy": "CADDY_VERSION",
    "victoria-metrics": "VICTORIA_METRICS_VERSION",
    "weed": "SEAWEEDFS_VERSION",
}
"""What `make toolchain` builds, and the pin each must report."""
ASKED_WITH = {"helm": ("version", "--short"), "kubeconform": ("-v",), "weed": ("version",)}
"""How a program is asked for its version, unless with `--version`."""


@cache
def toolchain() -> ModuleType:
    """tools/toolchain.py as a module."""
    spec = importlib.util.spec_from_file_location("toolchain", ROOT / "tools" / "toolchain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def pins() -> dict[str, str]:
    """The version block."""
    found: dict[str, str] = toolchain().pins(ROOT)
    return found


def tracked_texts() -> dict[str, str]:
    """Every text file of the repository by path; without git, all files."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    texts = {}
    for name in filter(None, done.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and not name.startswith(tuple(HOLDS_OTHER_VERSIONS)):
            texts[name] = path.read_text(encoding="utf-8", errors="replace")
    return texts


def test_the_version_block_is_whole() -> None:
    """Every pin is a plain number of all its parts (Postgres and SeaweedFS have two), so no tag moves below it."""
    assert set(pins()) == {
        *("COLLECTOR_VERSION", "COLLECTOR_STABLE_VERSION", "PROMETHEUS_VERSION"),
        *("ALERTMANAGER_VERSION", "TEMPO_VERSION", "GRAFANA_VERSION", "PYTHON_VERSION"),
        *("HELM_VERSION", "KUBECONFORM_VERSION", "ACTIONLINT_VERSION"),
        *("KUBERNETES_VERSION", "PROMETHEUS_OPERATOR_VERSION"),
        *("CADDY_VERSION", "POSTGRES_VERSION", "VICTORIA_METRICS_VERSION"),
        *("SEAWEEDFS_VERSION", "SEAWEEDFS_MODULE_VERSION"),
    }
    other = {n: v for n, v in pins().items() if not re.fullmatch(r"\d+\.\d+\.\d+", v)}
    assert re.fullmatch(r"0\.0\.0-\d{14}-[0-9a-f]{12}", other.pop("SEAWEEDFS_MODULE_VERSION"))
    assert other.keys() == {"POSTGRES_VERSION", "SEAWEEDFS_VERSION"}
    assert all(re.fullmatch(r"\d+\.\d+", version) for version in other.values())


def test_each_pin_stands_once() -> None:
    """A pin's number is in `docker-compose.yml` once and in no other file."""
    texts = tracked_texts()
    found = {
        (name, file, len(hits))
        for name, version in pins().items()
        for file, text in texts.items()
        if (hits := re.findall(rf"(?<![\d.]){re.escape(version)}(?![\d]|\.\d)", text))
    }

    assert found == {(name, PLACE, 1) for name in pins()}


def test_the_native_build_takes_every_number_from_the_block() -> None:
    """The manifest of the collector has placeholders only, each of them a pin."""
    manifest = (ROOT / "otel-collector" / "builder.yaml").read_text(encoding="utf-8")
    modules = re.findall(r"gomod: \S+ (\S+)", manifest)

    assert modules
    assert {PLACEHOLDER.sub("PIN", module) for module in modules} == {"vPIN"}
    assert set(PLACEHOLDER.findall(manifest)) <= set(pins())


def test_prometheus_is_built_from_the_module_of_its_release() -> None:
    """The module's number is made of the release's."""
    major, minor, patch = pins()["PROMETHEUS_VERSION"].split(".")

    assert toolchain().prometheus_module(pins()["PROMETHEUS_VERSION"]) == (
        f"v0.{major}{int(minor):02}.{patch}"
    )


@pytest.mark.parametrize("program", BUILT)
def test_what_is_built_natively_is_what_compose_pulls(program: str) -> None:
    """A program of the toolchain reports the pinned version."""
    tools = toolchain()
    built = tools.Toolchain(tools.cache_folder(), pins())
    if not built.is_current(program):
        pytest.skip(f"no {program} of the present pins: `make toolchain` builds it")

    done = subprocess.run(
        [built.bin / program, *ASKED_WITH.get(program, ("--version",))],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )

    said = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout + done.stderr)
    assert said is not None
    assert said[0] == pins()[BUILT[program]]


def test_every_version_of_postgres_that_the_page_lists_can_be_tested() -> None:
    """`make test-postgres` knows each of them but Debian's own, and the oldest is the oldest accepted."""
    page = (ROOT / "docs" / "postgres.md").read_text(encoding="utf-8")
    table = page.split("## Versions")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d., ]+) \|", table, flags=re.MULTILINE)
    listed = {version.split(".")[0] for row in rows for version in row.split(", ")}

    assert listed - {"15"} == set(postgres.VERSIONS)
    assert min(map(int, listed)) == OLDEST_SERVER // 10_000
