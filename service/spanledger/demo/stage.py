"""The demo's setup: a folder with a config and a ledger, a simulator, a gateway and a sink.

Starts and stops all of it. The config it writes is an ordinary `spanledger.yaml`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spanledger.demo.processes import Process
from spanledger.demo.sink import Sink
from spanledger.errors import SpanledgerError, UsageError
from spanledger.ledger import open_store
from spanledger.ledger.ports import Store

CUSTOMERS = ("acme", "globex", "initech")
SPIKING = "initech"
SPIKE_BUDGET = SPIKING
LIMITS_USD = {"acme": "1.00", "globex": "0.50", "initech": "0.07"}
RAISED_LIMIT_USD = "0.50"
CHAT_ROUTES = ("fast", "smart")
EMBEDDING_ROUTE = "embed"
PRIMARY_MODELS = ("gpt-4o-mini", "gpt-4o")
PRIMARY_DEPLOYMENTS = {"fast": "openai-fast", "smart": "openai-smart"}
STORM = tuple({"model": model, "fault": "429", "retry_after": 2} for model in PRIMARY_MODELS)
"""The faults of the storm, in the simulator's format."""
SIM_SPEED = 3.0
"""Times faster than real, so the whole incident fits into a minute."""

_CONTROL_TIMEOUT_S = 10.0
_NEAR_MONTH_END = timedelta(minutes=15)

CONFIG = """\
# Written by `spanledger demo`: an ordinary configuration, with simulated providers.
model_list:
  - model_name: fast
    litellm_params: {{model: openai/gpt-4o-mini, api_base: {sim}/v1, api_key: sim}}
    model_info: {{id: openai-fast}}
  - model_name: smart
    litellm_params: {{model: openai/gpt-4o, api_base: {sim}/v1, api_key: sim}}
    model_info: {{id: openai-smart}}
  - model_name: fast-backup
    litellm_params: {{model: anthropic/claude-haiku-4-5, api_base: {sim}, api_key: sim}}
    model_info: {{id: anthropic-fast}}
  - model_name: smart-backup
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: {sim}, api_key: sim}}
    model_info: {{id: anthropic-smart}}
  - model_name: embed
    litellm_params: {{model: openai/text-embedding-3-small, api_base: {sim}/v1, api_key: sim}}
    model_info: {{id: openai-embed}}

router_settings:
  num_retries: 1
  cooldown_time: 2
  fallbacks:
    - fast: [fast-backup]
    - smart: [smart-backup]

budgets:
{budgets}
ledger:
  url: {ledger}

telemetry:
  endpoint: {otlp}
  content: full
  export_interval_s: 1
"""


@dataclass(slots=True)
class Stage:
    """The running processes, and how to reach them."""

    folder: Path
    timezone: str
    sink: Sink
    sim: Process
    gateway: Process
    sim_url: str = ""
    gateway_url: str = ""
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def ledger(self) -> Store:
        """The ledger."""
        return open_store(self.ledger_url)

    @property
    def ledger_url(self) -> str:
        """The ledger's URL, for `--ledger`."""
        return ledger_url(self.folder)

    async def control(self, method: str, path: str, data: object = None) -> Any:
        """Call one of the simulator's control endpoints."""
        return await asyncio.to_thread(control, method, f"{self.sim_url}{path}", data)

    async def worker(
        self, name: str, jobs: Path, results: Path, customer: str, concurrency: int
    ) -> tuple[int, dict[str, Any]]:
        """Run the real worker; returns its exit code and its summary, or its last log lines."""
        process = Process(
            name,
            *("worker", "run", str(jobs), "-o", str(results), "--json", "--quiet"),
            *("--concurrency", str(concurrency)),
            folder=self.folder,
            extra={
                "OPENAI_BASE_URL": f"{self.gateway_url}/v1",
                "OPENAI_API_KEY": self.keys[customer],
                "OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.endpoint,
            },
        )
        try:
            code = await process.finish()
        finally:
            process.kill()
        text = process.output.read_text("utf-8")
        summary = json.loads(text) if text.strip() else {"died": process.tail()}
        return code, summary

    async def command(self, name: str, *arguments: str) -> None:
        """Run a `spanledger` command on the demo's ledger. Raises SpanledgerError if it fails."""
        process = Process(name, *arguments, "--ledger", self.ledger_url, folder=self.folder)
        try:
            code = await process.finish()
        finally:
            process.kill()
        if code:
            raise SpanledgerError(f"`spanledger {' '.join(arguments)}` failed with code {code}")


def ledger_url(folder: Path) -> str:
    """The URL of the demo's ledger in a folder."""
    return f"sqlite:///{folder / 'ledger.db'}"


def check_folder(folder: Path) -> None:
    """Create the folder to keep. Raises UsageError if it is not empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"--keep {str(folder)!r} is not empty; name a new folder")
    except OSError as error:
        raise UsageError(f"--keep {str(folder)!r}: {error.strerror}") from error


@contextlib.asynccontextmanager
async def open_stage(folder: Path, seed: int) -> AsyncGenerator[Stage]:
    """Start everything, and stop all of it at the end in any case."""
    with contextlib.closing(Sink()) as sink:
        sim = Process(
            *("sim", "sim", "--port", "0", "--seed", str(seed), "--speed", str(SIM_SPEED)),
            folder=folder,
        )
        gateway: Process | None = None
        try:
            timezone = quiet_timezone(datetime.now(UTC))
            keys = _make_keys(open_store(ledger_url(folder)))
            sim_url = await sim.address()
            config = folder / "spanledger.yaml"
            config.write_text(
                configuration(sim_url, ledger_url(folder), sink.endpoint, timezone), "utf-8"
            )
            gateway = Process(
                *("gateway", "gateway", "--config", str(config), "--port", "0"), folder=folder
            )
            gateway_url = await gateway.address()
            yield Stage(folder, timezone, sink, sim, gateway, sim_url, gateway_url, keys)
        finally:
            if gateway is not None:
                await gateway.stop()
            await sim.stop()


def quiet_timezone(now: datetime) -> str:
    """A time zone whose month does not end during the demo: no budget must renew meanwhile."""
    return "Asia/Tokyo" if (now + _NEAR_MONTH_END).month != now.month else "UTC"


def configuration(sim_url: str, ledger: str, otlp: str, timezone: str) -> str:
    """The gateway's configuration: two simulated providers, a budget for each customer."""
    budgets = "".join(
        f"  - {{name: {name}, customer: {name}, limit: {limit}, period: month,"
        f" timezone: {timezone}}}\n"
        for name, limit in LIMITS_USD.items()
    )
    return CONFIG.format(sim=sim_url, budgets=budgets, ledger=ledger, otlp=otlp)


def raising(timezone: str) -> tuple[str, ...]:
    """The command that raises the limit of the stopped customer."""
    return (
        *("budget", "set", SPIKE_BUDGET, "--customer", SPIKING, "--limit", RAISED_LIMIT_USD),
        *("--period", "month", "--timezone", timezone),
    )


def _make_keys(ledger: Store) -> dict[str, str]:
    with ledger.records("create") as records:
        return {
            customer: records.create_key(customer, "", [], time.time_ns())[0]
            for customer in CUSTOMERS
        }


def control(method: str, url: str, data: object = None) -> Any:
    """Call a control endpoint of the simulator; returns its JSON answer."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - loopback
    # Without the environment's proxies: the simulator is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_CONTROL_TIMEOUT_S) as answer:
        text = answer.read()
    return json.loads(text) if text else None
