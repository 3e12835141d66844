"""Endless traffic for demonstrations: several customers, a daily rhythm, a given rate.

Owns the rate and stopping; the requests come from `traffic`. It never gives up on a gateway that is
temporarily unreachable.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from dataclasses import dataclass, field

import openai

from spanledger.errors import SpanledgerError, UsageError
from spanledger.worker.client import PLACEHOLDER_KEY
from spanledger.worker.progress import Reporter
from spanledger.worker.tracing import Tracing
from spanledger.worker.traffic import Ask, Tally, Traffic, send

MAX_RUNNING = 64
"""Most requests in flight; further ones are skipped while a slow gateway has this many."""

DAY_S = 86_400.0
REPORT_INTERVAL_S = 30.0
START_TIMEOUT_S = 60.0
_QUIETEST_S = 4 * 3600.0
_NIGHT_SHARE = 0.35


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `spanledger worker serve`."""

    base_url: str
    customers: tuple[tuple[str, str | None], ...]
    """Names and their keys."""
    rate: float = 2.0
    """Requests per second at the busiest hour, all customers together."""
    day_s: float = DAY_S
    for_s: float | None = None
    seed: int | None = None
    models: tuple[str, ...] = ()


@dataclass(slots=True)
class Served:
    """The closing figures."""

    seconds: float = 0.0
    left_out: int = 0
    by_customer: dict[str, Tally] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The output of `--json`."""
        tallies = self.by_customer.values()
        return {
            "seconds": round(self.seconds, 3),
            "sent": sum(tally.sent for tally in tallies),
            "done": sum(tally.done for tally in tallies),
            "aborted": sum(tally.aborted for tally in tallies),
            "refused": sum(tally.refused for tally in tallies),
            "failed": sum(tally.failed for tally in tallies),
            "left_out": self.left_out,
        }


def parse_customers(text: str, api_key: str | None) -> tuple[tuple[str, str | None], ...]:
    """Read `acme=KEY,globex=KEY`; if empty, one customer with the worker's own key.

    Raises:
        UsageError: an entry has no name.
    """
    customers: list[tuple[str, str | None]] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, key = entry.partition("=")
        if not name:
            raise UsageError("--customers: write NAME=KEY,NAME=KEY")
        customers.append((name, key or api_key))
    return tuple(customers) or (("default", api_key),)


def rhythm(seconds: float, day_s: float) -> float:
    """Share of the full rate at a time of day: lowest at 4 a.m., highest at 4 p.m."""
    phase = (seconds - _QUIETEST_S * day_s / DAY_S) / day_s
    return _NIGHT_SHARE + (1 - _NIGHT_SHARE) * (0.5 - 0.5 * math.cos(2 * math.pi * phase))


class Server:
    """Sends until `stop` is called or the time is over."""

    def __init__(
        self,
        options: ServeOptions,
        reporter: Reporter,
        tracing: Tracing,
    ) -> None:
        self._options = options
        self._reporter = reporter
        self._tracing = tracing
        self._rng = random.Random(options.seed)
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.served = Served(by_customer={name: Tally() for name, _ in options.customers})

    def stop(self) -> None:
        """Stop soon: `run` lets requests in flight finish."""
        self._stopping.set()

    async def run(self) -> Served:
        """Send until stopped.

        Raises:
            SpanledgerError: the gateway did not answer within `START_TIMEOUT_S`.
        """
        started = reported = time.monotonic()
        clients = {
            name: openai.AsyncOpenAI(
                base_url=self._options.base_url, api_key=key or PLACEHOLDER_KEY
            )
            for name, key in self._options.customers
        }
        try:
            chat, embeddings = await self._models(next(iter(clients.values())))
            traffic = {
                name: Traffic(random.Random(self._rng.random()), chat, embeddings)
                for name in clients
            }
            names = list(clients)
            # The first customer is the largest; the others are weighted by one over their rank.
            weights = [1 / rank for rank in range(1, len(names) + 1)]
            while not self._over(started):
                await self._pause()
                if self._stopping.is_set():
                    break
                name = self._rng.choices(names, weights)[0]
                self._send(clients[name], traffic[name], self.served.by_customer[name])
                if time.monotonic() - reported >= REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    self._reporter.note(self._line())
            if self._running:
                await asyncio.wait(self._running)
        finally:
            for task in self._running:
                task.cancel()
            for client in clients.values():
                await client.close()
        self.served.seconds = time.monotonic() - started
        return self.served

    async def _models(self, client: openai.AsyncOpenAI) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The routes to use: those given, or all that the gateway offers."""
        names = self._options.models or await self._offered(client)
        embeddings = tuple(name for name in names if "embed" in name)
        chat = tuple(name for name in names if name not in embeddings)
        if not chat:
            raise SpanledgerError(f"{self._options.base_url} offers no chat model; use --models")
        return chat, embeddings

    async def _offered(self, client: openai.AsyncOpenAI) -> tuple[str, ...]:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return tuple(sorted([model.id async for model in client.models.list()]))
            except openai.APIStatusError as error:
                if error.status_code < 500 or time.monotonic() > deadline:
                    raise SpanledgerError(
                        f"{self._options.base_url} refused to list its models: {error.message}"
                    ) from error
            except openai.APIConnectionError as error:
                if time.monotonic() > deadline or self._stopping.is_set():
                    raise SpanledgerError(
                        f"no answer from {self._options.base_url}; is the gateway running?"
                    ) from error
            await asyncio.sleep(0.5)

    def _over(self, started: float) -> bool:
        limit = self._options.for_s
        return self._stopping.is_set() or (
            limit is not None and time.monotonic() - started >= limit
        )

    async def _pause(self) -> None:
        """Wait for the next request: random arrivals at the hour's rate."""
        pace = self._options.rate * rhythm(time.time(), self._options.day_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._rng.expovariate(pace))

    def _send(self, client: openai.AsyncOpenAI, traffic: Traffic, tally: Tally) -> None:
        ask = traffic.ask()
        if len(self._running) >= MAX_RUNNING:
            self.served.left_out += 1
            return
        task = asyncio.ensure_future(self._traced(client, ask, tally))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _traced(self, client: openai.AsyncOpenAI, ask: Ask, tally: Tally) -> None:
        """Give each request its own workflow, and so its own trace."""
        part = await self._tracing.open_part(f"demo_{ask.kind}")
        try:
            await asyncio.get_running_loop().create_task(
                send(client, ask, tally), context=part.context
            )
        finally:
            await part.close()

    def _line(self) -> str:
        figures = self.served.as_json()
        return ", ".join(
            f"{figures[name]} {name}" for name in ("sent", "done", "refused", "failed")
        )
