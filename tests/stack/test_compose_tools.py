"""The small programs around compose: .env and layers, keys on the first start, the health question."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from spanledger.ledger.records import Records, key_digest
from tests.support.processes import running

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
NOW_NS = 1_700_000_000_000_000_000


def module(name: str) -> ModuleType:
    """A program of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def prepare_env() -> ModuleType:
    """tools/prepare_env.py as a module."""
    return module("prepare_env")


SECRETS = ("GRAFANA_ADMIN_PASSWORD", "GRAFANA_SECRET_KEY")


def test_a_first_start_gets_an_env_of_its_own(prepare_env: ModuleType, tmp_path: Path) -> None:
    """.env is the example with random secrets, for its owner alone, and stays as it is."""
    example = (ROOT / ".env.example").read_text("utf-8")
    seen = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / ".env.example").write_text(example, "utf-8")
        said = "".join(prepare_env.prepare(folder))
        made = (folder / ".env").read_text("utf-8")
        given = [prepare_env.values(made)[secret] for secret in SECRETS]

        assert [secret for secret in given if len(secret) < 20 or secret in said] == []
        assert made.replace(given[0], "").replace(given[1], "") == example
        assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
        assert prepare_env.prepare(folder) == []
        assert (folder / ".env").read_text("utf-8") == made
        seen |= set(given)
    assert len(seen) == 4


def test_an_upgrade_changes_versions_and_nothing_else(
    prepare_env: ModuleType, tmp_path: Path
) -> None:
    """Versions follow the example; what a user set, commented out or added stays."""
    (tmp_path / ".env.example").write_text("TEMPO_VERSION=3\nNEW_VERSION=1\nPORT=1\n", "utf-8")
    mine = "# mine\nTEMPO_VERSION=2\nGRAFANA_ADMIN_PASSWORD='chosen'\nGRAFANA_SECRET_KEY=k\nOWN=a=b\n# PORT=7\n"
    (tmp_path / ".env").write_text(mine, "utf-8")
    (tmp_path / ".env").chmod(0o640)

    said = prepare_env.prepare(tmp_path)

    after = mine.replace("TEMPO_VERSION=2", "TEMPO_VERSION=3") + "NEW_VERSION=1\n"
    assert (tmp_path / ".env").read_text("utf-8") == after
    assert said == ["TEMPO_VERSION 2 → 3", "NEW_VERSION was missing → 1"]
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o640


def test_an_empty_secret_is_filled_in(prepare_env: ModuleType, tmp_path: Path) -> None:
    """Compose would refuse an empty one."""
    (tmp_path / ".env.example").write_text("", "utf-8")
    (tmp_path / ".env").write_text("GRAFANA_ADMIN_PASSWORD=\n", "utf-8")

    assert prepare_env.prepare(tmp_path) == [f"{secret} made up" for secret in SECRETS]
    assert all(prepare_env.values((tmp_path / ".env").read_text("utf-8"))[s] for s in SECRETS)


@pytest.mark.parametrize(
    ("names", "stored", "exported", "expected"),
    [
        ([], "", "", "docker-compose.yml"),
        (["vendor-otlp"], "", "", "docker-compose.yml compose/vendor-otlp.yml"),
        (["tail-sampling"], "a.yml:b.yml", "", "a.yml b.yml compose/tail-sampling.yml"),
        (["vendor-otlp"], "b.yml:compose/vendor-otlp.yml", "", "b.yml compose/vendor-otlp.yml"),
        ([], "a.yml", "b.yml", "b.yml"),
    ],
)
def test_layers_are_added_to_those_of_env(
    names: list[str],
    stored: str,
    exported: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`make up VENDOR=x` keeps the layers that .env names for `docker compose`, and adds each once."""
    tool = module("compose")
    (tmp_path / "compose").mkdir()
    for name in ("docker-compose", "a", "b", "compose/vendor-otlp", "compose/tail-sampling"):
        (tmp_path / f"{name}.yml").touch()
    (tmp_path / ".env").write_text(f"COMPOSE_FILE={stored}\n", "utf-8")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setenv("COMPOSE_FILE", exported)

    assert tool.files(names) == expected.split()
    with pytest.raises(
        SystemExit, match=r"no compose/vendor-x.yml; the layers are tail-sampling, "
    ):
        tool.files(["vendor-x"])


def ensure_keys(folder: Path, customers: str) -> str:
    """Run tools/ensure_keys.py; what it says."""
    options = ("--customers", customers, "--file", str(folder / "customers"))
    return subprocess.run(
        [sys.executable, str(TOOLS / "ensure_keys.py"), *options],
        env={**os.environ, "SPANLEDGER_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_keys_are_made_once_and_again_when_they_stop_working(tmp_path: Path) -> None:
    """A start keeps working keys, replaces a revoked one, and survives a new ledger."""
    file = tmp_path / "customers"

    assert ensure_keys(tmp_path, "acme,globex") == "keys made for: acme, globex\n"
    first = dict(entry.split("=") for entry in file.read_text("utf-8").strip().split(","))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ensure_keys(tmp_path, "acme,globex") == "every customer has a working key\n"

    records = Records.open(tmp_path / "ledger.db")
    assert {records.find_key(key_digest(key)) is not None for key in first.values()} == {True}
    records.revoke_key(first["acme"], NOW_NS)
    records.close()
    assert ensure_keys(tmp_path, "acme,globex") == "keys made for: acme\n"
    second = dict(entry.split("=") for entry in file.read_text("utf-8").strip().split(","))
    assert second["globex"] == first["globex"]
    assert second["acme"] != first["acme"]

    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    said = ensure_keys(tmp_path, "acme,globex")
    assert said == "keys made for: acme, globex\n"
    assert "slk_" not in said


def test_health_is_asked_without_proxies(tmp_path: Path) -> None:
    """The question gets its answer from the service itself, and a wrong one is a failure."""
    check = [sys.executable, "-IS", str(TOOLS / "check_ready.py")]
    environ = {**os.environ, "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}

    def ask(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*check, *arguments], env=environ, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    with running("sim", "--port", "0", folder=tmp_path) as sim:
        url = sim.url()
        assert ask(f"{url}/healthz") == (0, "")
        assert ask("--within", "5", f"{url}/healthz") == (0, "")
        assert ask(f"{url}/nothing") == (1, f"{url}/nothing: status 404\n")

    code, said = ask("--within", "0.1", f"{url}/healthz")
    assert (code, "refused" in said) == (1, True)
    assert ask("127.0.0.1:4000")[0] == 1


@pytest.mark.parametrize("program", [None, "#!/bin/sh\necho no plugin >&2\nexit 1\n"])
def test_without_an_engine_the_native_stack_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    """Neither no `docker` nor one that cannot compose is the end of the way."""
    if program is not None:
        (tmp_path / "docker").write_text(program)
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = module("compose").engine_problem()

    assert "`make stack` runs the stack without containers" in problem
