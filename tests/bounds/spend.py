"""Lets agents spend a budget to its end, and says how much was spent when the first one was refused.

python -m tests.bounds.spend --limit 2 --limit 10 --seeds 3 [--callers 8] [--strict] [--store postgres]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from spanledger.budgets.model import Budget
from spanledger.config import Config, GatewaySettings, parse_config
from spanledger.ledger.ports import Store
from spanledger.money import format_usd
from spanledger.sim.server import sim_in_thread
from tests.bounds.agents import Agent, answer_of
from tests.bounds.site import PATIENCE_S
from tests.service.gateway.test_clients import Running
from tests.service.ledger.stores import KINDS, new_store, remove_store

USD = 10**9
SPEED = 25.0
"""How many times faster than real the providers answer."""
WAIT_S = GatewaySettings().wait_for_holds_s
"""In the time of the providers, which is faster, this is that much shorter."""
CALLERS = 8
MODELS = ("gpt-4o-mini", "gpt-4.1-mini", "gpt-5-mini", "claude-haiku-4-5")
WANTED = 0.97


@dataclass(slots=True)
class Spent:
    """How one budget ended.

    Attributes:
        refusal: what the first refusal said, nano-USD: `spent`, `held`, `needed`.
        bill_nano: what the provider bills for everything.
        largest_nano: the most expensive request.
    """

    limit_nano: int
    seed: int
    requests: int = 0
    refusal: dict[str, int] = field(default_factory=dict)
    bill_nano: int = 0
    largest_nano: int = 0
    overrun_nano: int = 0
    refused: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The part of the limit that was spent when the first request was refused."""
        return self.refusal["spent"] / self.limit_nano

    @property
    def overshoot_nano(self) -> int:
        """What the provider bills beyond the limit."""
        return max(0, self.bill_nano - self.limit_nano)

    def text(self) -> str:
        """One line."""
        usd = {name: format_usd(nano) for name, nano in self.refusal.items()}
        return (
            f"limit ${format_usd(self.limit_nano)}, seed {self.seed}: {self.requests:,} requests,"
            f" the most expensive {self.largest_nano / self.limit_nano:.2%} of the limit;"
            f" {self.share:.2%} spent at the first refusal (held ${usd['held']}, needed"
            f" ${usd['needed']} for {self.refused}); overshoot ${format_usd(self.overshoot_nano)},"
            f" overrun ${format_usd(self.overrun_nano)}"
        )


def spend(store: Store, limit_nano: int, seed: int, *, callers: int = CALLERS,
          models: tuple[str, ...] = MODELS, strict: bool = False) -> Spent:  # fmt: skip
    """Ask until the first refusal, and wait for what is in flight then."""
    with store.records("create") as records:
        key, _ = records.create_key("acme", "", [], 1)
        budget = Budget("acme", "customer", "acme", limit_nano, "month", strict=strict)
        records.set_budgets([budget], 1)
    found = Spent(limit_nano, seed)
    with sim_in_thread(seed, SPEED) as sim:
        for share, tokens in ((0.25, 700), (0.1, 2_500)):
            sim.state.board.add({"fault": f"tokens:{tokens}", "share": share})
        entries: list[Any] = []
        sim.state.bill.on_entry = entries.append
        with Running(_config(sim.url, store.url, models)) as url:
            asyncio.run(_ask_all(url, key, found, callers, models))
    found.bill_nano = sum(entry.nano_usd for entry in entries if entry.billed)
    found.largest_nano = max(entry.nano_usd for entry in entries)
    reports = store.reports()
    try:
        found.problems = [str(problem) for problem in reports.verify().problems]
        states = reports.budget_states(int(time.time()))
        found.overrun_nano = sum(state.overrun_nano for state in states)
    finally:
        reports.close()
    return found


def _config(sim: str, ledger: str, models: tuple[str, ...]) -> Config:
    """Every model at one simulator; all that can be is left at its default."""
    entries = []
    for name in models:
        claude = name.startswith("claude")
        params = {
            "model": f"{'anthropic' if claude else 'openai'}/{name}",
            "api_base": sim + ("" if claude else "/v1"),
            "api_key": "sk-sim",
        }
        entries.append({"model_name": name, "litellm_params": params})
    waits = {"port": 0, "wait_for_holds_s": WAIT_S / SPEED}
    return parse_config(
        {"model_list": entries, "gateway": waits, "ledger": {"url": ledger}}, {}, "test"
    )


async def _ask_all(url: str, key: str, found: Spent, callers: int, models: tuple[str, ...]) -> None:
    over = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=callers)
    headers = {"authorization": f"Bearer {key}"}

    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as web,
        asyncio.TaskGroup() as group,
    ):
        for number in range(callers):
            agent = Agent(random.Random(f"{found.seed} {number}"), models)
            group.create_task(_ask_on(web, url, agent, found, over))


async def _ask_on(
    web: aiohttp.ClientSession, url: str, agent: Agent, found: Spent, over: asyncio.Event
) -> None:
    while not over.is_set():
        body = agent.body()
        _, path, _, stream = agent.shape
        found.requests += 1
        async with web.post(url + path, json=body) as reply:
            data = await reply.read()
        if reply.status == 200:
            agent.answered(answer_of(path, stream, data))
            continue
        error = json.loads(data)["error"]
        assert reply.status == 429, error
        assert error.get("code", error.get("type")) in ("budget_exceeded", "rate_limit_error"), (
            error
        )
        if not over.is_set():
            over.set()
            for name in ("spent", "held", "needed"):
                found.refused = f"{agent.shape}, {len(json.dumps(body)):,} bytes"
                found.refusal[name] = round(float(error[f"{name}_usd"]) * USD)


def main() -> int:
    """The exit code: 1 if too little was spent, or too much."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--limit", type=float, action="append", help="USD; may be repeated")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--first", type=int, default=1)
    asked.add_argument("--callers", type=int, default=CALLERS)
    asked.add_argument("--model", action="append", default=None)
    asked.add_argument("--strict", action="store_true")
    asked.add_argument("--store", choices=KINDS, default="sqlite")
    options = asked.parse_args()
    models = tuple(options.model or MODELS)
    failed = False
    for limit in options.limit or [1.0, 3.0]:
        for seed in range(options.first, options.first + options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                store = new_store(options.store, Path(folder))
                found = spend(
                    store, round(limit * USD), seed,
                    callers=options.callers, models=models, strict=options.strict,
                )  # fmt: skip
                remove_store(store)
            print(found.text(), flush=True)
            for problem in found.problems:
                print(f"  {problem}")
            failed = failed or bool(found.problems) or found.overshoot_nano > 0
            failed = failed or found.share < WANTED
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
