"""The small programs around compose: layers, secrets and keys on the first start, checks, health."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from spanledger.ledger.keys import key_digest
from tests.support.ledgers import store_at
from tests.support.processes import running

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
NOW_NS = 1_700_000_000_000_000_000


def module(name: str) -> ModuleType:
    """A program in tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def ensure_secrets(folder: Path, **given: str) -> str:
    """Run tools/ensure_secrets.py; returns its output."""
    return subprocess.run(
        [sys.executable, "-IS", str(TOOLS / "ensure_secrets.py"), str(folder)],
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_secrets_are_made_up_once(tmp_path: Path) -> None:
    """Each new stack generates its own secrets, readable by their owner only, and keeps them."""
    seen = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        said = ensure_secrets(folder)
        made = {file.name: file.read_text("utf-8") for file in folder.iterdir()}

        assert said == "admin-password generated\nsecret-key generated\n"
        assert [secret for secret in made.values() if len(secret) < 20 or secret in said] == []
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o400}
        assert ensure_secrets(folder) == "every secret exists\n"
        assert {file.name: file.read_text("utf-8") for file in folder.iterdir()} == made
        seen |= set(made.values())
    assert len(seen) == 4


def test_secrets_of_env_are_taken(tmp_path: Path) -> None:
    """Secrets set in .env are kept, even after they are removed from it."""
    given = {"GRAFANA_ADMIN_PASSWORD": "chosen", "GRAFANA_SECRET_KEY": "old key"}
    ensure_secrets(tmp_path)

    said = ensure_secrets(tmp_path, **given)

    assert "chosen" not in said
    assert ensure_secrets(tmp_path, GRAFANA_ADMIN_PASSWORD="") == "every secret exists\n"
    assert (tmp_path / "admin-password").read_text("utf-8") == "chosen"
    assert (tmp_path / "secret-key").read_text("utf-8") == "old key"


def test_the_database_s_password_is_made_up_once(tmp_path: Path) -> None:
    """Server and services get the same one, which others cannot read, and a lost passfile is remade."""
    tool = module("ensure_database")

    assert tool.ensure(tmp_path) == "password generated"
    password = (tmp_path / "password").read_text("utf-8")
    (tmp_path / "pgpass").unlink()
    assert tool.ensure(tmp_path) == "the password exists"

    assert len(password) > 20
    assert (tmp_path / "password").read_text("utf-8") == password
    assert (tmp_path / "pgpass").read_text("utf-8") == f"*:*:*:*:{password}\n"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"password": 0o440, "pgpass": 0o400}


OLD_ENV = """# Versions: this block is the one place where they stand. The native build takes them from here.
COLLECTOR_VERSION=0.1.0
# The collector's modules that are past 1.0 (its configuration providers) have this number.
COLLECTOR_STABLE_VERSION=1.0.0
GRAFANA_VERSION=1.2.3

# Of Grafana's user `admin`; taken when its volume is new, and changed in Grafana after that.
GRAFANA_ADMIN_PASSWORD=chosen
TEMPO_VERSION=9.9.9
"""


def test_versions_of_an_earlier_release_hold_back_no_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The block that 0.1 wrote into .env is removed once; a user's own setting stays, with a note."""
    tool = module("compose")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    (tmp_path / ".env").write_text(f"# mine\n{OLD_ENV}", "utf-8")
    (tmp_path / ".env").chmod(0o600)

    tool.forget_old_versions()
    once = capsys.readouterr().out
    tool.forget_old_versions()

    kept = OLD_ENV[OLD_ENV.index("# Of Grafana's user") :]
    assert (tmp_path / ".env").read_text("utf-8") == f"# mine\n{kept}"
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert "removed versions from .env" in once
    assert capsys.readouterr().out == (
        "note: .env sets TEMPO_VERSION=9.9.9, which overrides docker-compose.yml\n"
    )


def check_files(folder: Path) -> tuple[int, str]:
    """Run tools/check_files.py on a folder, as a user who is not its owner."""
    done = subprocess.run(
        [python(), "-IS", "-", str(folder)],
        input=(TOOLS / "check_files.py").read_text(encoding="utf-8"),
        user=65534 if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can access."""
    if not python():
        pytest.skip("other users of this machine may run no Python")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@cache
def python() -> str:
    """A Python that any user can run, or None."""
    return next(filter(runs_for_all, (sys.executable, "/usr/bin/python3")), "")


def runs_for_all(program: str) -> bool:
    """Whether it does."""
    user = 65534 if os.geteuid() == 0 else None
    try:
        return subprocess.run([program, "-IS", "-c", ""], user=user, check=False).returncode == 0
    except OSError:
        return False


def test_files_for_their_owner_alone_are_named(open_folder: Path) -> None:
    """A folder and a file that other users cannot read are named, with the command that fixes it."""
    for name in ("tempo/tempo.yaml", "grafana/provisioning/a.yaml", "prometheus/rules.yml"):
        (open_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (open_folder / name).touch(0o644)
    assert check_files(open_folder) == (0, "")

    (open_folder / "tempo" / "tempo.yaml").chmod(0)
    (open_folder / "grafana" / "provisioning").chmod(0)

    code, said = check_files(open_folder)
    assert code == 1
    assert "  grafana/provisioning\n  tempo/tempo.yaml\n" in said
    assert "chmod -R a+rX grafana tempo\n" in said
    (open_folder / "grafana" / "provisioning").chmod(0o755)


def test_a_folder_in_the_place_of_the_configuration_is_said(open_folder: Path) -> None:
    """SPANLEDGER_CONFIG can name a folder that Docker created because the file was missing."""
    (open_folder / "SPANLEDGER_CONFIG").mkdir(0o755)

    assert check_files(open_folder) == (
        1,
        "error: SPANLEDGER_CONFIG names a folder; set it to a configuration file in .env\n",
    )


def test_a_changed_file_changes_its_services_digest_alone(tmp_path: Path) -> None:
    """A service is recreated if one of its files is changed, added, renamed or removed."""
    tool = module("stack_files")
    for name in ("otel-collector", "prometheus", "tempo", "grafana", "examples", "compose"):
        shutil.copytree(ROOT / name, tmp_path / name)

    def changed(change: Callable[[], object]) -> set[str]:
        before = tool.digests(tmp_path)
        change()
        return {key for key, value in tool.digests(tmp_path).items() if before[key] != value}

    rules = tmp_path / "prometheus" / "rules"
    overlay = tmp_path / "otel-collector" / "overlays" / "otlp.yaml"
    board = tmp_path / "grafana" / "dashboards" / "overview.json"
    assert changed(lambda: (rules / "mine.yml").write_text("a")) == {"SPANLEDGER_FILES_PROMETHEUS"}
    assert changed(lambda: (rules / "mine.yml").rename(rules / "b.yml")) == {
        "SPANLEDGER_FILES_PROMETHEUS"
    }
    assert changed(overlay.unlink) == {"SPANLEDGER_FILES_COLLECTOR"}
    assert changed(lambda: board.write_text("{}")) == set()
    assert tool.digests(tmp_path, "compose/spanledger.real.yaml").keys() == {
        *(f"SPANLEDGER_FILES_{name.upper()}" for name in tool.READS),
        "SPANLEDGER_FILES_GATEWAY",
    }


def test_a_port_in_use_names_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything starts, each port used by another program is reported with the variable to set."""
    tool = module("compose")
    (tmp_path / "docker").write_text("#!/bin/sh\necho '127.0.0.1:4317-4318->4317-4318/tcp'\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        services = {
            "grafana": {"ports": [{"target": 3000, "published": str(port)}]},
            "collector": {"ports": [{"target": 4318, "published": "4318"}]},
        }
        problem = tool.port_problem({"name": "x", "services": services})
    assert problem == f"port {port} is in use; set GRAFANA_PORT to another port in .env"


def test_a_configuration_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing starts unless SPANLEDGER_CONFIG names a file."""
    tool = module("compose")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "files", lambda _layers: [tool.REAL_LAYER])
    (tmp_path / ".env").write_text("SPANLEDGER_CONFIG='./mine.yaml'\n", "utf-8")

    with pytest.raises(SystemExit, match=r"SPANLEDGER_CONFIG=./mine.yaml is not a file"):
        tool.configuration([])
    (tmp_path / "mine.yaml").touch()
    assert tool.configuration([]) == "./mine.yaml"


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
        SystemExit, match=r"compose/vendor-x.yml does not exist; the layers are tail-sampling, "
    ):
        tool.files(["vendor-x"])


def ensure_keys(folder: Path, customers: str) -> str:
    """Run tools/ensure_keys.py; returns its output."""
    options = ("--customers", customers, "--file", str(folder / "customers"))
    return subprocess.run(
        [sys.executable, str(TOOLS / "ensure_keys.py"), *options],
        env={**os.environ, "SPANLEDGER_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_keys_are_made_once_and_again_when_they_stop_working(tmp_path: Path) -> None:
    """A start keeps valid keys, replaces revoked ones, and handles a new ledger."""
    file = tmp_path / "customers"

    assert ensure_keys(tmp_path, "acme,globex") == "created keys for: acme, globex\n"
    first = dict(entry.split("=") for entry in file.read_text("utf-8").strip().split(","))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ensure_keys(tmp_path, "acme,globex") == "every customer has a valid key\n"

    records = store_at(tmp_path / "ledger.db").records("create")
    assert {records.find_key(key_digest(key)) is not None for key in first.values()} == {True}
    records.revoke_key(first["acme"], NOW_NS)
    records.close()
    assert ensure_keys(tmp_path, "acme,globex") == "created keys for: acme\n"
    second = dict(entry.split("=") for entry in file.read_text("utf-8").strip().split(","))
    assert second["globex"] == first["globex"]
    assert second["acme"] != first["acme"]

    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    said = ensure_keys(tmp_path, "acme,globex")
    assert said == "created keys for: acme, globex\n"
    assert "slk_" not in said


def test_health_is_asked_without_proxies(tmp_path: Path) -> None:
    """The service itself is asked, and any answer but 200 is a failure."""
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
    """Without `docker`, or without Compose, the error names the alternative."""
    if program is not None:
        (tmp_path / "docker").write_text(program)
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = module("compose").engine_problem()

    assert "`make stack` runs the stack without containers" in problem
