"""The servers compared, each as its users would run it, on one core."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ends import Upstream, sink
from bench.processes import SUBJECT_CORE, Server, fetch, free_port, server

ROOT = Path(__file__).resolve().parent.parent
AGAINST = "the Python of another checkout's environment; measure that in place of LiteLLM's proxy"
SPANS_PER_REQUEST = 2
"""One span for the request and one for its only attempt."""
CONFIG = """\
model_list:
  - model_name: bench
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{port}/v1", api_key: x}}
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under measurement.

    Attributes:
        settled: whether all work caused by a number of requests is done.
        verify: called at the end; raises SystemExit if the work was not done correctly.
    """

    name: str
    server: Server
    port: int
    key: str
    ready_s: float
    settled: Callable[[int], bool]
    verify: Callable[[], None]


def subjects_of(
    work: Path, upstream: Upstream, against: str, *, with_litellm: bool
) -> list[AbstractContextManager[Subject]]:
    """The servers to compare, this checkout's gateway first."""
    if against:
        ours = spanledger(work / "ours", upstream, sys.executable)
        return [ours, spanledger(work / "other", upstream, against)]
    ours = spanledger(work / "ours", upstream)
    return [ours, litellm(work, upstream)] if with_litellm else [ours]


@contextmanager
def spanledger(work: Path, upstream: Upstream, python: str = "") -> Iterator[Subject]:
    """The gateway with a key, two budgets, a durable ledger, and its shipper sending to a sink of its
    own. With a `python`, of a checkout's environment, the name has the commit."""
    interpreter = python or sys.executable
    work.mkdir(exist_ok=True)
    ledger = f"sqlite:///{work / 'ledger.db'}"
    config = work / "bench.yaml"
    config.write_text(CONFIG.format(port=upstream.port), encoding="utf-8")

    def run(*words: str) -> str:
        return _printed([interpreter, "-m", "spanledger", *words, "--ledger", ledger])

    key = json.loads(run("keys", "create", "--customer", "bench", "--json"))["key"]
    money = ("--limit", "1000000", "--period", "month")
    run("budget", "set", "customer", "--customer", "bench", *money)
    run("budget", "set", "everything", *money)
    port = free_port()
    command = [interpreter, "-m", "spanledger", "gateway", "--config", str(config)]
    command += ["--port", str(port)]
    name = f"spanledger {_version(interpreter, with_commit=bool(python))}"
    with sink() as (sink_port, spans):
        environment = {
            "SPANLEDGER_LEDGER_URL": ledger,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink_port}",
        }
        with server(command, SUBJECT_CORE, environment) as started:
            yield Subject(
                name,
                started,
                port,
                key,
                _ready(started, f"http://127.0.0.1:{port}/readyz"),
                lambda requests: spans() >= SPANS_PER_REQUEST * requests,
                lambda: print(run("ledger", "verify").strip(), file=sys.stderr),
            )


def _version(python: str, *, with_commit: bool) -> str:
    """The version that an environment has installed, and the commit if it is that of a checkout."""
    code = "import spanledger; print(spanledger.__version__, spanledger.__file__)"
    version, _, file = _printed([python, "-c", code]).strip().partition(" ")
    if not with_commit:
        return version
    describe = ["git", "-C", str(Path(file).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    return f"{version} at {found or file}"


def _printed(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}{ended.stdout}")
    return ended.stdout


@contextmanager
def litellm(work: Path, upstream: Upstream) -> Iterator[Subject]:
    """LiteLLM's proxy in the locked version: one worker, a master key, no database, no callback."""
    program, version = litellm_program()
    config = work / "litellm.yaml"
    config.write_text(CONFIG.format(port=upstream.port), encoding="utf-8")
    key = f"sk-{secrets.token_hex(32)}"
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
    }
    port = free_port()
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with server([*command, "--num_workers", "1"], SUBJECT_CORE, environment) as started:
        ready_s = _ready(started, f"http://127.0.0.1:{port}/health/liveliness")
        name = f"LiteLLM proxy {version}"
        yield Subject(name, started, port, key, ready_s, lambda _: True, lambda: None)


def litellm_program() -> tuple[Path, str]:
    """LiteLLM's proxy in the locked version, in its own environment that is kept for the next run.

    Its modules are compiled at installation, as `pip` does by default. It imports some of them while
    serving: with `PYTHONDONTWRITEBYTECODE` set, it would compile those again for each request and
    appear half as slow again as it is.
    """
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    version = next(item["version"] for item in lock["package"] if item["name"] == "litellm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "spanledger" / "bench" / f"litellm-{version}-compiled"
    program = home / "bin" / "litellm"
    if not (home / "complete").exists():
        sys.stderr.write(f"installing litellm[proxy]=={version} into {home}\n")
        uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
        package = f"litellm[proxy]=={version}"
        python = ["--python", str(home / "bin" / "python")]
        for words in (
            ["venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            ["pip", "install", "--quiet", "--compile-bytecode", *python, package],
        ):
            subprocess.run([uv, *words], check=True)
        (home / "complete").touch()
    return program, version


def _ready(started: Server, url: str) -> float:
    """Wait until a server accepts requests; returns the seconds it took."""
    began = time.monotonic()
    started.wait_for(lambda: fetch(url) is not None, url)
    return time.monotonic() - began
