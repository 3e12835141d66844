"""`spanledger stack` as a command, with only our own parts, so no other program is needed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanledger.errors import ConfigError, UsageError
from spanledger.stack.parts import ALERT_ADDRESSES, PROMETHEUS_FLAGS, TEMPO_FLAGS, parts_of, prepare
from spanledger.stack.ports import DEFAULTS, check_free, choose
from spanledger.stack.processes import Running, is_alive, start, stop
from spanledger.stack.programs import Programs, find_programs
from spanledger.stack.queues import BROKEN
from spanledger.stack.site import Settings, find_site
from tests.stack.composition import stack
from tests.support.collector import otelcol
from tests.support.processes import clean_environment, poll, run

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = {
    "SPANLEDGER_HOME": str(ROOT),
    "SPANLEDGER_OTELCOL": "",
    "SPANLEDGER_PROMETHEUS": "",
    "SPANLEDGER_TEMPO": "",
    "SPANLEDGER_GRAFANA": "",
}
"""Disables every program that is not ours."""


class Native:
    """A stack in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `spanledger stack …` on it."""
        return run("stack", *words, "--folder", str(self.folder), folder=ROOT, env=WITHOUT)

    def up(self, *words: str) -> dict[str, Any]:
        """Start it; returns its JSON status."""
        done = self.command("up", "--json", *words)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def pids(self) -> dict[str, int]:
        """The processes in its state file."""
        state = json.loads((self.folder / "state.json").read_text())
        return {name: process["pid"] for name, process in state["running"].items()}


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Native]:
    """A stack that is stopped at the end."""
    stack = Native(tmp_path / "stack")
    yield stack
    assert stack.command("down").returncode == 0


def runs(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def test_a_stack_outlives_its_command_and_ends_whole(native: Native) -> None:
    """`up` leaves ready parts running, a second `up` starts only what is missing, `status` reports
    memory, `down` leaves no process."""
    first = native.up("--port-base", "0")
    pids = native.pids()
    states = {part["name"]: part["state"] for part in first["parts"]}

    assert first["up"]
    assert {name for name, state in states.items() if state == "ready"} == set(pids)
    assert set(pids) == {"simulator", "gateway", "worker"}
    assert {name for name, state in states.items() if state == "missing"} == {
        "collector",
        "prometheus",
        "tempo",
        "grafana",
    }
    assert native.up("--port-base", "0")["ports"] == first["ports"]
    unknown = native.command("up", "--vendor", "honycomb")
    assert (unknown.returncode, "honeycomb" in unknown.stderr) == (2, True)
    assert native.pids() == pids

    os.kill(pids["simulator"], signal.SIGKILL)
    assert poll(lambda: not runs(pids["simulator"]))
    assert native.command("status").returncode == 1
    native.up()
    again = native.pids()
    assert again.pop("simulator") != pids["simulator"]
    assert again == {"gateway": pids["gateway"], "worker": pids["worker"]}

    status = native.command("status", "--json")
    told = json.loads(status.stdout)
    assert status.returncode == 0
    assert told["memory_bytes"] == sum(part["memory_bytes"] for part in told["parts"]) > 2**25

    assert len(working_in(native.folder)) == 3
    assert native.command("down").returncode == 0
    assert working_in(native.folder) == []
    assert "not running" in native.command("status").stdout
    assert "nothing was running" in native.command("down").stdout


def test_a_spoiled_queue_does_not_stop_the_collector(native: Native) -> None:
    """`up` sets aside a corrupt queue file and reports it, and the collector starts."""
    queue = native.folder / "collector" / "queue"
    queue.mkdir(parents=True)
    (queue / "exporter_otlp_http_prometheus_metrics").write_bytes(b"no queue" * 4096)

    done = run(
        *("stack", "up", "--json", "--port-base", "0", "--folder", str(native.folder)),
        folder=ROOT,
        env={**WITHOUT, "SPANLEDGER_OTELCOL": otelcol()},
    )

    assert done.returncode == 0, done.stderr
    (moved,) = queue.glob(f"*{BROKEN}*")
    assert moved.name in done.stderr
    assert (queue / "exporter_otlp_http_prometheus_metrics").exists()


def test_keys_are_private_and_kept(native: Native) -> None:
    """The demo's customers have keys that only the owner can read and that a restart keeps; the
    gateway refuses callers without one."""
    told = native.up("--port-base", "0", "--no-traffic")
    file = native.folder / "keys.json"
    keys = json.loads(file.read_text())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(keys) == {"acme", "globex", "initech", "you"}
    assert chat(told["ports"]["gateway"], keys["you"]) == 200
    assert chat(told["ports"]["gateway"], "sk-made-up") == 401

    native.command("down")
    native.up("--port-base", "0", "--no-traffic")
    assert json.loads(file.read_text()) == keys


def chat(port: int, key: str) -> int:
    """The status of a small request."""
    body = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    done = subprocess.run(
        [
            *("curl", "--silent", "--noproxy", "*", "--output", os.devnull, "--write-out"),
            *("%{http_code}", "-H", f"authorization: Bearer {key}"),
            *("-H", "content-type: application/json", "--data", json.dumps(body)),
            f"http://127.0.0.1:{port}/v1/chat/completions",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_a_start_that_fails_leaves_nothing(native: Native, tmp_path: Path) -> None:
    """If one part cannot start, the error says why and the others are stopped."""
    config = yaml.safe_load((ROOT / "examples" / "stack.yaml").read_text())
    config["router_settings"]["retries"] = 1
    config["routr_settings"] = {}
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(config))

    done = native.command("up", "--port-base", "0", "--config", str(broken), "--traffic")

    assert done.returncode == 1
    assert "gateway exited while starting" in done.stderr
    assert "routr_settings" in done.stderr
    assert "Traceback" not in done.stderr
    assert working_in(native.folder) == []
    assert not (native.folder / "state.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_interrupting_a_start_cleans_up(native: Native, parts: int, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM at any time during a start stops the parts that are running already."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "spanledger", "stack", "up", "--port-base", "0"),
            *("--folder", str(native.folder)),
        ],
        cwd=ROOT,
        env={**clean_environment(), **WITHOUT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lock, logs = native.folder / "lock", native.folder / "logs"
    # The log is made just before its process: the moment when a process is not remembered yet.
    assert poll(lambda: lock.exists() and len(list(logs.glob("*.log"))) >= parts, every_s=0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "have been stopped" in errors
    assert working_in(native.folder) == []
    assert not (native.folder / "state.json").exists()


def working_in(folder: Path) -> list[str]:
    """Processes whose working directory is this folder: all parts of a stack."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder.resolve():
                found.append((process / "cmdline").read_text())
    return found


def test_a_taken_port_is_named_with_its_owner(native: Native) -> None:
    """A port in use aborts the start before anything runs, and the error says what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = native.command("up", "--port-base", "0", "--port", f"gateway={port}")

    assert done.returncode == 1
    assert f"port {port} for gateway is taken" in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert "--port gateway=NUMBER" in done.stderr
    assert not (native.folder / "logs").exists()


def test_a_stranger_with_the_pid_is_left_alone(tmp_path: Path) -> None:
    """A process whose start time differs from the recorded one is never signalled."""
    ours = start([sys.executable, "-c", "input()"], os.environ, tmp_path, tmp_path / "one.log")
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        remembered = Running(stranger.pid, "another time")
        assert not is_alive(remembered)
        assert stop(remembered, 0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        stop(ours, 5)


def test_a_part_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    """After its grace period a part and its children are killed, and this is reported."""
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "deaf.log"
    process = start([sys.executable, "-c", script], os.environ, tmp_path, log)
    assert poll(lambda: log.read_text().strip())
    child = int(log.read_text())

    assert stop(process, 0.2) is False
    assert not is_alive(process)
    assert poll(lambda: not runs(child))


def test_ports_are_chosen_or_refused() -> None:
    """Ports are the defaults, consecutive, free, or given; invalid ones are an error."""
    assert choose(None, []) == dict(DEFAULTS)
    assert choose(None, ["grafana=3001"])["grafana"] == 3001
    assert list(choose(14000, []).values()) == list(range(14000, 14000 + len(DEFAULTS)))
    check_free(choose(0, []))
    for base, given in ((65530, []), (None, ["grafna=1"]), (None, ["grafana=x"])):
        with pytest.raises(UsageError):
            choose(base, given)
    with pytest.raises(UsageError, match="gateway and grafana"):
        choose(None, ["grafana=4000"])


def test_programs_are_found_where_the_pages_say(tmp_path: Path) -> None:
    """The variable wins over the toolchain, and that over PATH; an old release counts as missing."""

    def program(path: Path, version: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {path.name}, version {version}\n")
        path.chmod(0o755)
        return path

    built = program(tmp_path / "tools" / "bin" / "prometheus", "3.15.0")
    program(tmp_path / "path" / "prometheus", "3.15.0")
    program(tmp_path / "path" / "tempo", "2.9.1")
    grafana = program(tmp_path / "elsewhere" / "grafana", "13.2.0")
    found = find_programs(
        {
            "PATH": str(tmp_path / "path"),
            "SPANLEDGER_TOOLCHAIN": str(tmp_path / "tools"),
            "SPANLEDGER_GRAFANA": str(grafana),
        }
    )

    assert found.found == {"prometheus": built, "grafana": grafana}
    assert "make toolchain" in found.missing["collector"]
    assert "2.9" in found.missing["tempo"]
    assert "SPANLEDGER_TEMPO" in found.missing["tempo"]


@pytest.mark.parametrize("own", [(), ("rules/a.yml",), ("rules/a.yml", "prometheus.yml")])
def test_other_rules_take_the_place_of_the_repositorys(
    tmp_path: Path, own: tuple[str, ...]
) -> None:
    """Each start uses the files in a folder of rules, and the repository's for the rest."""
    given = tmp_path / "given"
    for name in own:
        (given / "prometheus" / name).parent.mkdir(parents=True, exist_ok=True)
        (given / "prometheus" / name).write_text("groups: []\n")
    site = find_site(tmp_path / "data", {"SPANLEDGER_HOME": str(ROOT)})
    programs = Programs({}, {})
    links = site.data / "prometheus" / "config"

    prepare(site, Settings(choose(None, [])), programs)
    prepare(site, Settings(choose(None, []), rules=str(given) if own else ""), programs)

    for name in ("rules", "prometheus.yml"):
        home = ROOT if not any(file.startswith(name) for file in own) else given
        assert (links / name).resolve() == home / "prometheus" / name
    alerting = site.data / "grafana" / "provisioning" / "alerting"
    assert alerting.resolve() == ROOT / "grafana" / "provisioning" / "alerting"


def test_a_folder_without_rules_is_refused(native: Native, tmp_path: Path) -> None:
    """Nothing is started, and the error says how to write such a folder."""
    done = native.command("up", "--port-base", "0", "--rules", str(tmp_path))

    assert done.returncode == 2
    assert "tools/generate_rules.py --out" in done.stderr
    assert not (native.folder / "logs").exists()


def test_the_repository_is_found_from_below_or_named(tmp_path: Path) -> None:
    """The working directory's parents are searched; elsewhere the error says what to set."""
    assert find_site(None, {}, ROOT / "docs").home == ROOT
    assert find_site(None, {"SPANLEDGER_HOME": str(ROOT)}, tmp_path).home == ROOT
    with pytest.raises(UsageError, match="SPANLEDGER_HOME"):
        find_site(None, {}, tmp_path)


def test_a_second_command_waits_its_turn(tmp_path: Path) -> None:
    """Two commands cannot use one folder at the same time."""
    site = find_site(tmp_path, {"SPANLEDGER_HOME": str(ROOT)})
    with site.locked(), pytest.raises(ConfigError, match="another"), site.locked():
        pass


def test_compose_gives_the_same_flags() -> None:
    """Settings without a key in the configuration files are the same natively and in compose."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    assert set(PROMETHEUS_FLAGS) <= set(services["prometheus"]["command"])
    assert set(TEMPO_FLAGS) <= set(services["tempo"]["command"])
    assert services["grafana"]["env_file"] == ["./grafana/grafana.env"]


def test_prometheus_knows_where_grafana_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Natively and in compose it has the variable of its file: what is given, or else Grafana's port."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]
    named = re.findall(r"\$\{(\w+)\}", (ROOT / "prometheus" / "prometheus.yml").read_text())
    site = find_site(None, {"SPANLEDGER_HOME": str(ROOT)})
    programs = Programs({"prometheus": Path(sys.executable)}, {})
    settings = Settings(choose(4000, []))

    def given() -> str:
        return parts_of(site, settings, programs, {})["prometheus"].environ["GRAFANA_PUBLIC_URL"]

    monkeypatch.delenv("GRAFANA_PUBLIC_URL", raising=False)
    assert named == ["GRAFANA_PUBLIC_URL"]
    assert named[0] in compose["environment"]
    assert given() == settings.url("grafana")
    monkeypatch.setenv("GRAFANA_PUBLIC_URL", "https://grafana.example")
    assert given() == "https://grafana.example"


@pytest.mark.parametrize("public", ["", "https://grafana.example.com/of/us"])
def test_grafana_knows_where_its_links_lead(monkeypatch: pytest.MonkeyPatch, public: str) -> None:
    """To the public address, or to the port that was chosen, natively and in compose."""
    monkeypatch.setenv("GRAFANA_PUBLIC_URL", public)
    site = find_site(None, {"SPANLEDGER_HOME": str(ROOT)})
    settings = Settings(choose(None, ["grafana=3100"]))
    programs = Programs({"grafana": Path(sys.executable)}, {})
    native = parts_of(site, settings, programs, {})["grafana"].environ
    composed = stack(GRAFANA_PUBLIC_URL=public, GRAFANA_PORT="3100")["services"]["grafana"]

    assert native["GF_SERVER_ROOT_URL"] == (public or "http://127.0.0.1:3100")
    assert composed["environment"]["GF_SERVER_ROOT_URL"] == (public or "http://localhost:3100")


def test_grafana_is_given_the_same_in_compose() -> None:
    """The page it opens with is one of the generated files, and its files find every variable they
    name, natively and in compose."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    name = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    site = find_site(None, {"SPANLEDGER_HOME": str(ROOT)})
    programs = Programs({"grafana": Path(sys.executable)}, {})
    native = parts_of(site, Settings(choose(None, [])), programs, {})["grafana"]

    named = {
        variable
        for file in (ROOT / "grafana" / "provisioning").rglob("*.yaml")
        for variable in re.findall(r"(?<!\$)\$\{(\w+)\}", file.read_text())
    }

    assert named <= native.environ.keys() & compose["environment"].keys()
    assert Path(native.environ[name]).is_file()
    assert Path(native.environ[name]).name == Path(compose["environment"][name]).name
    for name, usual in ALERT_ADDRESSES.items():
        assert compose["environment"][name] == f"${{{name}:-{usual}}}"
        assert native.environ[name] == usual
    assert native.environ["GF_ANALYTICS_REPORTING_ENABLED"] == "false"
    assert native.environ["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
