"""Gateways on one ledger before the simulator, callers that note what they got, and a collector."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from spanledger.budgets.model import Budget
from spanledger.ledger.ports import Store
from tests.prove.nursery import PATIENCE_S, Nursery, Started
from tests.prove.points import Fuse
from tests.prove.provider import Provider, running_provider
from tests.support.otlp_sink import OtlpSink

ROUTES = ("gpt-4o-mini", "gpt-4o")
"""The second one's provider fails at times, and Claude takes over."""
REFUSED_PAUSE_S = 0.01
LEASE_S = 1.0
LONG_TOKENS = 40
FAULTS = ("503", "429", "500", "reset")


@dataclass(slots=True)
class Seen:
    """What a caller knows of its request.

    Attributes:
        status: 0 if the connection broke before there was one.
        whole: the answer arrived to its end, without an error in it.
        cost_usd: what the gateway said it cost; empty if it did not say.
        left: the caller hung up.
        code: of the error, if there was one.
        seconds: from the request to its end.
    """

    trace_id: str
    status: int = 0
    whole: bool = False
    cost_usd: str = ""
    left: bool = False
    code: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Callers:
    """Callers that ask a gateway again and again until it is gone or they are stopped."""

    keys: Sequence[str]
    dice: random.Random
    seen: list[Seen] = field(default_factory=list)
    stopped: bool = False
    pause_s: float = 0.0

    async def ask_on(self, url: str, number: int, most: int = sys.maxsize) -> None:
        """One caller's requests, so many at most."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as web:
            for _ in range(most):
                if self.stopped:
                    return
                seen = Seen(f"{self.dice.getrandbits(128) or 1:032x}")
                self.seen.append(seen)
                began = time.monotonic()
                try:
                    await self._ask(web, url, self.keys[number % len(self.keys)], seen)
                except (aiohttp.ClientError, ConnectionError):
                    return
                finally:
                    seen.seconds = time.monotonic() - began
                await asyncio.sleep(REFUSED_PAUSE_S if seen.code else self.pause_s)

    async def _ask(self, web: aiohttp.ClientSession, url: str, key: str, seen: Seen) -> None:
        dice = self.dice
        stream = dice.random() < 0.5
        leaves = stream and dice.random() < 0.1
        body: dict[str, Any] = {
            "model": dice.choice(ROUTES),
            "messages": [{"role": "user", "content": f"question {seen.trace_id}"}],
            "max_tokens": dice.choice((4, 20, LONG_TOKENS)),
            "stream": stream,
        }
        headers = {
            "authorization": f"Bearer {key}",
            "traceparent": f"00-{seen.trace_id}-{dice.getrandbits(64) or 1:016x}-01",
        }
        async with web.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            seen.status = answer.status
            if stream and answer.status == 200:
                await self._read_stream(answer, seen, leaves)
                return
            said = await answer.json()
            seen.cost_usd = answer.headers.get("x-spanledger-cost-usd", "")
            seen.whole = answer.status == 200
            if not seen.whole:
                seen.code = str(said["error"].get("code"))

    async def _read_stream(self, answer: aiohttp.ClientResponse, seen: Seen, leaves: bool) -> None:
        lines = 0
        async for line in answer.content:
            lines += bool(line.strip())
            if leaves and lines == 3:
                seen.left = True
                answer.close()
                return
            if line.startswith(b'data: {"error"'):
                return
            if line.startswith(b": spanledger cost_usd="):
                seen.cost_usd = line.partition(b"=")[2].split()[0].decode()
            if line.startswith(b"data: [DONE]"):
                seen.whole = True


class Site:
    """A ledger, a provider, a collector, and gateways and shippers that are started as asked."""

    def __init__(self, nursery: Nursery, provider: Provider, sink: OtlpSink) -> None:
        self.nursery, self.provider, self.sink = nursery, provider, sink
        self.folder = Path()
        self.store: Store
        self.keys: list[str] = []
        self.ledger_url = ""
        """Of the gateways and shippers, if it is another than the store's own."""
        self.endpoint = sink.endpoint
        self.fixed_port = 0
        """Of a provider with one fixed answer, for the route `bench`; 0 if there is none."""
        self.waits = True
        """Whether requests wait for what others hold."""
        self._number = 0

    def begin(self, store: Store, folder: Path, budgets: Sequence[Budget], seed: int) -> None:
        """A new ledger with its configuration and keys."""
        self.store, self.folder, self._number = store, folder, 0
        self.provider.forget()
        self.sink.spans.clear()
        self.sink.points.clear()
        self.sink.requests.clear()
        self.provider.board.clear()
        fault = FAULTS[seed % len(FAULTS)]
        self.provider.board.add({"model": "gpt-4o", "fault": fault, "share": 0.3})
        (folder / "spanledger.yaml").write_text(yaml.safe_dump(self._configuration()))
        now_ns = time.time_ns()
        with store.records("create") as records:
            records.set_budgets(budgets, now_ns)
            self.keys = [
                records.create_key(customer, "team", (), now_ns)[0] for customer in ("acme", "red")
            ]

    def _configuration(self) -> dict[str, Any]:
        def entry(name: str, model: str, base: str) -> dict[str, Any]:
            return {
                "model_name": name,
                "litellm_params": {"model": model, "api_base": base, "api_key": "sk-sim"},
                "model_info": {"id": f"d-{name}", "forward_trace_context": True},
            }

        url, fixed = self.provider.url, []
        if self.fixed_port:
            fixed.append(
                entry("bench", "openai/gpt-4o-mini", f"http://127.0.0.1:{self.fixed_port}/v1")
            )
        return {
            "model_list": [
                *(entry(name, f"openai/{name}", f"{url}/v1") for name in ROUTES),
                entry("claude", "anthropic/claude-haiku-4-5", url),
                *fixed,
            ],
            "router_settings": {
                "fallbacks": [{"gpt-4o": ["claude"]}],
                "num_retries": 0,
                "allowed_fails": 10**6,
            },
            "gateway": {} if self.waits else {"wait_for_holds_s": 0},
            "ledger": {"url": self.ledger_url or self.store.url, "lease_s": LEASE_S},
            "telemetry": {"endpoint": self.endpoint, "export_interval_s": 0.5},
        }

    def gateway(self, fuse: Fuse | None = None, skew_ns: int | None = None) -> Started:
        """Start a gateway without a shipper."""
        words = ["gateway", "--config", "spanledger.yaml", "--port", "0", "--no-ship"]
        return self._start("gateway", words, fuse, skew_ns)

    def shipper(self, fuse: Fuse | None = None) -> Started:
        """Start a shipper."""
        return self._start("shipper", ["ship", "--config", "spanledger.yaml"], fuse, None)

    def _start(
        self, name: str, words: list[str], fuse: Fuse | None, skew_ns: int | None
    ) -> Started:
        self._number += 1
        log = self.folder / f"{self._number:03}-{name}.log"
        return self.nursery.start(words, self.folder, log, fuse, skew_ns)


class Sites:
    """What is started once for all seeds."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.nursery = self._stack.enter_context(closing(Nursery()))
        self.provider = self._stack.enter_context(running_provider())
        self.site = Site(self.nursery, self.provider, self._stack.enter_context(OtlpSink()))

    def close(self) -> None:
        """End all of it."""
        self._stack.close()


async def until_gone(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for callers whose gateway is gone; raise what went wrong otherwise."""
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*tasks)


def shown(value: object) -> str:
    """A value for a message, cut to a readable length."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 2_000 else text[:2_000] + " …"
