"""The customers' applications: requests through the real `openai` client, a few at a time.

Owns the clients and counts. The seed determines the requests; the scenario decides when to send.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import openai

from spanledger.demo.stage import CHAT_ROUTES, CUSTOMERS, EMBEDDING_ROUTE
from spanledger.worker.traffic import Ask, JobKind, Tally, Traffic, chat_body, send

LANES = 3
"""Requests a customer has in flight at once."""

_KINDS: tuple[JobKind, ...] = ("chat", "stream", "tools", "embeddings")
_WEIGHTS = (38, 34, 13, 15)
_FAST_SHARE = 0.75
_LONG_TOKENS = 500
_QUESTIONS = (
    "Write a detailed incident report with a timeline and lessons learned.",
    "Write a long market analysis of three competitors with a table for each.",
    "Write the full onboarding guide for a new member of the team.",
    "Write a complete test plan for the payment service, case by case.",
)


class Applications:
    """All customers' applications."""

    def __init__(self, base_url: str, keys: Mapping[str, str], seed: int) -> None:
        self._rng = random.Random(seed)
        self._traffic = {
            name: Traffic(random.Random(self._rng.random()), CHAT_ROUTES, (EMBEDDING_ROUTE,))
            for name in CUSTOMERS
        }
        self._clients = {
            name: openai.AsyncOpenAI(
                base_url=f"{base_url}/v1",
                api_key=keys[name],
                # No retries: the gateway has to keep its promises on the client's first call.
                max_retries=0,
                timeout=60,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            )
            for name in CUSTOMERS
        }

    async def close(self) -> None:
        """Close connections."""
        for client in self._clients.values():
            await client.close()

    def ordinary(self, customer: str, count: int, *, embeddings: bool = True) -> list[Ask]:
        """A mix of plain, streamed, tool and embedding requests."""
        end = None if embeddings else -1
        kinds = self._rng.choices(_KINDS[:end], _WEIGHTS[:end], k=count)
        return [
            self._traffic[customer].ask(
                kind,
                EMBEDDING_ROUTE
                if kind == "embeddings"
                else CHAT_ROUTES[self._rng.random() > _FAST_SHARE],
            )
            for kind in kinds
        ]

    def long(self, count: int) -> list[Ask]:
        """Requests for long answers from the expensive model: the cost spike."""
        return [Ask("chat", long_body(number)) for number in range(count)]

    async def play(self, asks: Mapping[str, Sequence[Ask]], lanes: int = LANES) -> dict[str, Tally]:
        """Send all requests, each customer on its own lanes; returns the counts by customer."""
        tallies = {name: Tally() for name in asks}
        async with asyncio.TaskGroup() as group:
            for name, todo in asks.items():
                queue = iter(todo)
                for _ in range(lanes):
                    group.create_task(self._lane(self._clients[name], queue, tallies[name]))
        return tallies

    async def until_refused(self, customer: str, refusals: int, most: int) -> Tally:
        """Send long requests one after another until this many were refused."""
        tally = Tally()
        for ask in self.long(most):
            if tally.refused >= refusals:
                break
            await send(self._clients[customer], ask, tally)
        return tally

    async def deployment_of(self, customer: str, route: str) -> str:
        """Send one request; returns the deployment that answered."""
        body = chat_body(route, "Are you back?", max_tokens=16)
        answer = await self._clients[customer].chat.completions.with_raw_response.create(**body)
        return str(answer.headers.get("x-spanledger-deployment", ""))

    async def _lane(self, client: openai.AsyncOpenAI, queue: Iterable[Ask], tally: Tally) -> None:
        for ask in queue:
            await send(client, ask, tally)


def long_body(number: int) -> dict[str, Any]:
    """One request of the spike. `metadata.sim` sets the length of the simulated answer."""
    question = f"{_QUESTIONS[number % len(_QUESTIONS)]} Part {number + 1}."
    body = chat_body("smart", question, max_tokens=_LONG_TOKENS)
    return {**body, "metadata": {"sim": f"tokens:{_LONG_TOKENS}"}}
