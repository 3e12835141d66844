"""The release: what is published can be built again, and the workflow that publishes has few rights."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml
from tools import package
from tools.check_wheel import different_files

from tests.support.manifests import needed

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
MAY_WRITE = {
    "publish-platform": {"packages"},
    "publish-image": {"packages", "id-token", "attestations"},
    "publish-chart": {"packages", "id-token", "attestations"},
    "publish-package": {"id-token"},
    "publish-release": {"contents", "id-token", "attestations"},
}
"""Every right to write, by job."""


def jobs() -> dict[str, Any]:
    """The jobs of the release workflow."""
    loaded = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    found: dict[str, Any] = loaded["jobs"]
    return found


def test_actionlint_accepts_every_workflow() -> None:
    """No workflow has a key, an expression or a permission that GitHub would refuse."""
    done = subprocess.run(
        [needed("actionlint"), "-no-color", *WORKFLOWS], capture_output=True, text=True, check=False
    )

    assert WORKFLOWS
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_actions_are_pinned_to_commits() -> None:
    """An action is named by its full commit, with the version in a comment, and always the same."""
    uses = [
        line.strip().removeprefix("- ")
        for path in WORKFLOWS
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"^\s*(?:- )?uses:", line)
    ]

    assert [line for line in uses if not PINNED.match(line)] == []
    assert len({line.partition("@")[0] for line in uses}) == len(set(uses))


def test_a_job_writes_only_what_it_publishes() -> None:
    """Nothing has a right by default; jobs that check and build read, and no secret is stored."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    writes = {
        name: {right for right, value in job.get("permissions", {}).items() if value == "write"}
        for name, job in jobs().items()
    }

    assert yaml.safe_load(text)["permissions"] == {}
    assert {name: rights for name, rights in writes.items() if rights} == MAY_WRITE
    assert set(re.findall(r"secrets\.(\w+)", text)) == {"GITHUB_TOKEN"}
    assert [name for name, job in jobs().items() if "timeout-minutes" not in job] == []


def test_nothing_is_published_before_checks_and_approval() -> None:
    """Each job that writes comes after the approval, which comes after every check, of a tag."""
    needs = {name: set(job.get("needs", [])) for name, job in jobs().items()}

    def before(name: str) -> set[str]:
        return needs[name].union(*(before(one) for one in needs[name]))

    assert before("approve") == {"check", "build", "image"}
    assert jobs()["approve"]["environment"] == "release"
    assert "refs/tags/v" in jobs()["approve"]["if"]
    assert [name for name in MAY_WRITE if "approve" not in before(name)] == []


def test_the_sbom_is_the_lock(tmp_path: Path) -> None:
    """The list of dependencies has every locked package with its hashes, and is always the same."""
    source = tmp_path / "source"
    package.copy_sources(ROOT, source)
    one = package.write_sbom(source, tmp_path, 1_700_000_000).read_bytes()
    other = package.write_sbom(source, tmp_path, 1_700_000_000).read_bytes()
    bom = yaml.safe_load(one)
    locked = {
        (item["name"], item["version"]): {
            file["hash"].removeprefix("sha256:")
            for file in [*item.get("wheels", []), *filter(None, [item.get("sdist")])]
        }
        for item in tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]
        if "registry" in item["source"]
    }
    listed = {
        (item["name"], item["version"]): {
            each["content"]
            for reference in item["externalReferences"]
            for each in reference["hashes"]
        }
        for item in bom["components"]
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed_names = {re.split(r"[\[><=]", line)[0] for line in project["dependencies"]}

    assert one == other
    assert bom["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert {name for name, _ in listed} >= {*needed_names, "litellm"}
    assert {name for name, _ in listed}.isdisjoint({"pytest", "ruff", "mypy"})
    assert {key: hashes for key, hashes in listed.items() if hashes != locked[key]} == {}


def test_a_build_that_differs_is_seen() -> None:
    """Two builds are the same only if they have the same files with the same bytes."""
    one = {"a": b"1", "b": b"2"}

    assert sorted(different_files(one, one)) == []
    assert sorted(different_files(one, {"a": b"1", "b": b"3", "c": b""})) == ["b", "c"]


def test_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    """`SHA256SUMS` has a line for each file that `sha256sum` reads."""
    (tmp_path / "one.whl").write_bytes(b"one")

    package.write_checksums(tmp_path)
    package.write_checksums(tmp_path)

    digest = hashlib.sha256(b"one").hexdigest()
    assert (tmp_path / package.CHECKSUMS).read_text() == f"{digest}  one.whl\n"
