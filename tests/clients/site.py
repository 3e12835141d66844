"""The gateway that clients are tried at, with the simulator behind it, and what its ledger says.

Three ways through it, each a route with the name of a real model, because some clients know no others.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanledger.budgets.model import Budget
from spanledger.config import Config, parse_config
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from tests.clients.install import GO_FLAGS, go_caches, installed, language
from tests.clients.table import CLIENTS, KEY, SCRIPTS, URL, Client
from tests.service.gateway.audio_files import wav
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at
from tests.support.processes import clean_environment, poll

RUN_S = 240.0
"""How long a script may take with all of its tasks on a busy machine."""
WAYS = {
    "chat": {"direct": "gpt-4o-mini", "fallback": "gpt-4o", "unlike": "gpt-4.1"},
    "reasoning": {"direct": "gpt-5-mini", "fallback": "gpt-5", "unlike": "o3"},
    "messages": {
        "direct": "claude-haiku-4-5",
        "fallback": "claude-sonnet-4-5",
        "unlike": "claude-opus-4-5",
    },
}
"""By what the client speaks: the first deployment answers; it is at its rate limit, and one on the same
wire answers; and one on an unlike wire does."""
WAYS["responses"] = WAYS["chat"]
WAYS["generate_content"] = {
    "direct": "gemini-2.5-flash",
    "fallback": "gemini-2.5-flash-lite",
    "unlike": "gemini-2.5-pro",
}
WAYS["media"] = {"direct": "media", "fallback": "media-limited"}
MEDIA_MODELS = {
    "media": ("gpt-4o-mini-tts", "gpt-4o-transcribe", "gpt-image-1"),
    "media-limited": ("tts-1", "gpt-4o-mini-transcribe", "gpt-image-1-mini"),
}
"""Routes with a model for each endpoint: a request goes to one that serves it."""
PROVIDERS = {"claude": "anthropic", "gemini": "gemini"}
"""By the first word of a model; all others are OpenAI's."""
ALIASES = {
    "claude-haiku-4-5-20251001": "claude-haiku-4-5",
    "claude-opus-4-5-20251101": "claude-opus-4-5",
}
"""Names that the `llm` package sends for models it is asked for by a shorter one."""
FOREIGN = ("CLAUDE", "CODEX", "PYTHON")
"""Variables of the caller's that would change a client. Bytecode that is not kept makes each start slow."""
LIMITED = {model for ways in WAYS.values() for way, model in ways.items() if way != "direct"}
LIMITED |= set(MEDIA_MODELS["media-limited"])
AUDIO, IMAGE = wav(4.5), b"\x89PNG\r\n\x1a\n" + bytes(2_000)


@dataclass(frozen=True, slots=True)
class Said:
    """What a script printed about one task on one way."""

    begun_ns: int
    ended_ns: int
    text: str | None = None
    pieces: list[str] | None = None
    calls: list[Any] | None = None
    data: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """One run of a client's script."""

    said: dict[tuple[str, str], Said]
    output: str
    """All that it printed, for the message of a failed test."""


@dataclass
class Site:
    """A running gateway, and each client's run."""

    url: str
    sim: RunningSim
    ledger: Path
    keys: dict[str, str]
    folder: Path
    runs: dict[str, Tried] = field(default_factory=dict)

    def tried(self, client: Client) -> Tried:
        """The client's run; the first question starts it."""
        if client.name not in self.runs:
            self.runs[client.name] = self._run(client)
        return self.runs[client.name]

    def requests(self, client: Client, said: Said) -> list[dict[str, Any]]:
        """The rows of the requests that the client made for a task, each with its attempts."""
        where = "customer = ? AND started_ns BETWEEN ? AND ?"
        values = (client.name, said.begun_ns, said.ended_ns)

        def rows() -> list[dict[str, Any]]:
            query = f"SELECT * FROM requests WHERE {where} ORDER BY started_ns"
            return self._query(query, values)

        poll(lambda: all(row["ended_ns"] for row in rows()))
        found = rows()
        for row in found:
            query = "SELECT * FROM attempts WHERE request_id = ? ORDER BY number"
            row["tries"] = self._query(query, (row["request_id"],))
        return found

    def billed(self, said: Said) -> list[dict[str, Any]]:
        """What the simulator charged in the time of a task."""
        entries = self.sim.state.bill.entries
        return [
            entry.view()
            for entry in list(entries)
            if entry.billed and said.begun_ns <= entry.time_ns <= said.ended_ns
        ]

    def _query(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def _run(self, client: Client) -> Tried:
        work = self.folder / client.name
        work.mkdir()
        environment = installed(client.environment)
        key = self.keys[client.name]
        put = {**client.env, **client.quiet}
        env = {
            **{k: v for k, v in clean_environment().items() if not k.startswith(FOREIGN)},
            "HOME": str(work),
            "CODEX_HOME": str(work / "codex"),
            "XDG_CONFIG_HOME": str(work / "config"),
            "XDG_CACHE_HOME": str(work / "cache"),
            "NO_PROXY": "127.0.0.1",
            "TRY_URL": self.url,
            "TRY_KEY": key,
            "TRY_ROUTES": json.dumps(WAYS[client.ways]),
            "TRY_SETTINGS": client.settings,
            "TRY_AUDIO": base64.b64encode(AUDIO).decode(),
            "TRY_IMAGE": base64.b64encode(IMAGE).decode(),
            "TRY_ENVIRONMENT": str(environment),
            **{name: text.replace(URL, self.url).replace(KEY, key) for name, text in put.items()},
        }
        runner, more = _runner(client, work, environment)
        done = subprocess.run(
            runner,
            cwd=work,
            env={**env, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        said = {}
        for line in done.stdout.splitlines():
            if line.startswith("said: "):
                told = json.loads(line.removeprefix("said: "))
                case = told.pop("task"), told.pop("way")
                said[case] = Said(**told)
        return Tried(said, done.stdout)


def _runner(client: Client, work: Path, environment: Path) -> tuple[list[str], dict[str, str]]:
    """The command that runs a client's script, which is put in place, and variables that it needs."""
    script = client.script
    shared = f"said{script.suffix}"
    for tool in (shared, script.name):
        (work / tool).write_text((SCRIPTS / tool).read_text("utf-8"), "utf-8")
    if script.suffix == ".mjs":
        (work / "node_modules").symlink_to(environment / "node_modules")
        return ["node", script.name], {}
    if script.suffix == ".go":
        for name in ("go.mod", "go.sum"):
            (work / name).write_text((environment / name).read_text("utf-8"), "utf-8")
        return ["go", "run", *GO_FLAGS, shared, script.name], go_caches()
    if script.suffix == ".java":
        jars = f"{environment}/*"
        compiler = ["javac", "-cp", jars, "-d", "classes", shared, script.name]
        subprocess.run(compiler, cwd=work, check=True)
        return ["java", "-cp", f"classes:{jars}", script.stem.title().replace("_", "")], {}
    python = environment / "bin" / "python"
    return [
        str(python) if language(client.environment) == "python" else sys.executable,
        script.name,
    ], {}


def configuration(sim_url: str, ledger: Path) -> Config:
    """Routes at the simulator, on both wires."""

    def entry(model: str, route: str = "") -> dict[str, Any]:
        provider = PROVIDERS.get(model.partition("-")[0], "openai")
        base = sim_url + {"anthropic": "", "gemini": "/v1beta/openai"}.get(provider, "/v1")
        params = {"model": f"{provider}/{model}", "api_base": base, "api_key": "sk-sim"}
        return {"model_name": route or model, "litellm_params": params}

    models = sorted({model for ways in WAYS.values() for model in ways.values()})
    entries = [entry(model) for model in models if model not in MEDIA_MODELS]
    entries += [entry(model, route) for route, ms in MEDIA_MODELS.items() for model in ms]
    unlike = {
        "chat": "messages",
        "messages": "chat",
        "reasoning": "messages",
        "generate_content": "messages",
    }
    fallbacks = [
        {WAYS[kind][way]: [WAYS[wire]["direct"]]}
        for kind, other in unlike.items()
        for way, wire in (("fallback", kind), ("unlike", other))
    ]
    fallbacks.append({"media-limited": ["media"]})
    return parse_config(
        {
            "model_list": entries,
            "router_settings": {
                "num_retries": 0,
                "cooldown_time": 0,
                "fallbacks": fallbacks,
                "model_group_alias": ALIASES,
            },
            "gateway": {"port": 0, "total_timeout_s": 60},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )


@contextlib.contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """A gateway with a key and a blocking budget for each client."""
    ledger = folder / "ledger.db"
    records = store_at(ledger).records("create")
    names = [client.name for client in CLIENTS]
    keys = {name: records.create_key(name, "", [], 1)[0] for name in names}
    bounded = [client.name for client in CLIENTS if client.blocking]
    budgets = [Budget(f"{n}-daily", "customer", n, 50_000_000_000, "day") for n in bounded]
    records.set_budgets(budgets, time.time_ns())
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        for model in LIMITED:
            sim.state.board.add({"model": model, "fault": "429;retry_after=0"})
        yield Site(url, sim, ledger, keys, folder)
