"""The incident, phase by phase: what is sent, what breaks, what is waited for.

Owns the order of events and records what happened when. `promises` then judges the outcome from
the ledger, the bill and the spans.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from spanledger.demo.crowd import Applications, long_body
from spanledger.demo.stage import (
    CUSTOMERS,
    LIMITS_USD,
    PRIMARY_DEPLOYMENTS,
    RAISED_LIMIT_USD,
    SPIKING,
    STORM,
    Stage,
    raising,
)
from spanledger.worker.traffic import Ask, Tally

OTHERS = tuple(name for name in CUSTOMERS if name != SPIKING)
WORKER_JOBS = 16
SPIKE_JOBS = 14
SPIKE_CONCURRENCY = 4
REFUSALS = 6
RETURN_TIMEOUT_S = 20.0
SHIP_TIMEOUT_S = 30.0
_POLL_S = 0.1


class Stageboard(Protocol):
    """Where phases are announced."""

    def phase(self, title: str, detail: str) -> None:
        """A new phase begins."""
        ...


@dataclass(slots=True)
class Story:
    """The events that the ledger does not record."""

    started_ns: int = 0
    storm_ns: tuple[int, int] = (0, 0)
    raised_ns: int = 0
    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)
    """Counts by phase and customer."""
    worker: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """Exit code and summary by worker run."""
    returned: dict[str, bool] = field(default_factory=dict)
    """By route: whether its primary deployment served again after the storm."""
    bill_usd: str = "0.00"
    bill_calls: int = 0

    def tally(self, phase: str, customer: str) -> Tally:
        """Counts of a customer in a phase."""
        return self.tallies.get(phase, {}).get(customer, Tally())


class Scenario:
    """Runs the incident on a stage."""

    def __init__(self, stage: Stage, crowd: Applications, board: Stageboard) -> None:
        self._stage = stage
        self._crowd = crowd
        self._board = board
        self.story = Story()

    async def play(self) -> Story:
        """All phases, in order."""
        self.story.started_ns = time.time_ns()
        await self._ordinary()
        await self._storm()
        await self._calm()
        await self._spike()
        await self._recovery()
        await self._settle()
        return self.story

    async def _ordinary(self) -> None:
        self._board.phase(
            "ordinary traffic", "three customers: chat, streams, tools, embeddings, a batch"
        )
        counts = {"acme": 30, "globex": 18, "initech": 12}
        jobs = [_job(f"globex-{n}", ask) for n, ask in enumerate(self._batch())]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_worker("worker-globex", "globex", jobs, 4))
            group.create_task(self._play("ordinary", counts))

    async def _storm(self) -> None:
        self._board.phase(
            "429 storm", "the first provider refuses every chat; requests fall back to the second"
        )
        started = time.time_ns()
        for fault in STORM:
            await self._stage.control("POST", "/sim/faults", fault)
        await self._play("storm", {"acme": 20, "globex": 14, "initech": 8}, embeddings=False)
        await self._stage.control("DELETE", "/sim/faults")
        self.story.storm_ns = (started, time.time_ns())

    async def _calm(self) -> None:
        self._board.phase("storm over", "the first provider is used again after its cooldown")
        for route, deployment in PRIMARY_DEPLOYMENTS.items():
            self.story.returned[route] = await self._returns(route, deployment)
        await self._play("calm", {"acme": 8, "globex": 6, "initech": 4})

    async def _spike(self) -> None:
        self._board.phase(
            "cost spike",
            f"{SPIKING} requests long answers from an expensive model; its budget is"
            f" ${LIMITS_USD[SPIKING]}",
        )
        jobs = [_job(f"report-{n}", Ask("chat", long_body(n))) for n in range(SPIKE_JOBS)]
        async with asyncio.TaskGroup() as group:
            others = group.create_task(self._play("spike", {"acme": 20, "globex": 14}))
            await self._run_worker("worker-initech", SPIKING, jobs, SPIKE_CONCURRENCY)
            self._board.phase("budget stop", f"{SPIKING} is refused, the others are served")
            tally = await self._crowd.until_refused(SPIKING, REFUSALS, most=30)
            await self._play("stopped", {"acme": 6, "globex": 4})
            await others
        self.story.tallies["stopped"][SPIKING] = tally

    async def _recovery(self) -> None:
        self._board.phase(
            "recovery", f"limit raised to ${RAISED_LIMIT_USD}; the batch resumes where it stopped"
        )
        await self._stage.command("budget-set", *raising(self._stage.timezone))
        self.story.raised_ns = time.time_ns()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._run_worker("worker-initech-again", SPIKING, None, SPIKE_CONCURRENCY)
            )
            group.create_task(self._play("recovery", {"acme": 8, "globex": 6, "initech": 6}))

    async def _settle(self) -> None:
        """Wait until everything is shipped, then fetch the bill."""
        self._board.phase("checks", "all spans are sent; then bill, ledger and spans are compared")
        deadline = time.monotonic() + SHIP_TIMEOUT_S
        with self._stage.ledger.reports() as reports:
            while reports.health()["outbox_rows"] and time.monotonic() < deadline:
                self._stage.gateway.check()
                await asyncio.sleep(_POLL_S)
        bill = await self._stage.control("GET", "/sim/bill")
        self.story.bill_usd = bill["total_usd"]
        self.story.bill_calls = bill["calls"]

    async def _play(
        self, phase: str, counts: Mapping[str, int], *, embeddings: bool = True
    ) -> None:
        self._stage.gateway.check()
        asks = {
            name: self._crowd.ordinary(name, count, embeddings=embeddings)
            for name, count in counts.items()
        }
        self.story.tallies.setdefault(phase, {}).update(await self._crowd.play(asks))

    def _batch(self) -> list[Ask]:
        asks: list[Ask] = []
        while len(asks) < WORKER_JOBS:
            # A batch job cannot stream.
            asks += [
                ask
                for ask in self._crowd.ordinary("globex", WORKER_JOBS)
                if not ask.body.get("stream")
            ]
        return asks[:WORKER_JOBS]

    async def _run_worker(
        self, name: str, customer: str, jobs: list[dict[str, Any]] | None, concurrency: int
    ) -> None:
        """Run the worker on these jobs; without jobs, resume the customer's earlier ones."""
        path = self._stage.folder / f"{customer}.jobs.jsonl"
        results = self._stage.folder / f"{customer}.results.jsonl"
        if jobs is not None:
            await asyncio.to_thread(_write_jobs, path, jobs)
        self.story.worker[name] = await self._stage.worker(
            name, path, results, customer, concurrency
        )

    async def _returns(self, route: str, deployment: str) -> bool:
        """Send requests until the primary deployment serves a route again."""
        deadline = time.monotonic() + RETURN_TIMEOUT_S
        while time.monotonic() < deadline:
            if await self._crowd.deployment_of("acme", route) == deployment:
                return True
            await asyncio.sleep(_POLL_S * 3)
        return False


def _job(custom_id: str, ask: Ask) -> dict[str, Any]:
    url = "/v1/embeddings" if ask.kind == "embeddings" else "/v1/chat/completions"
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": ask.body}


def _write_jobs(path: Path, jobs: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(job) + "\n" for job in jobs), "utf-8")
