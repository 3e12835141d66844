"""A realistic mix of requests, from a seed: what an application of each customer would send.

Owns the request bodies and sending them with the `openai` client; knows nothing about the rate or
when to stop. All text is synthetic.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

import openai

JobKind = Literal["chat", "stream", "tools", "embeddings", "abort"]
JOB_KINDS: tuple[JobKind, ...] = ("chat", "stream", "tools", "embeddings", "abort")
WEIGHTS = (40, 30, 12, 15, 3)
"""Shares of ordinary traffic, in percent."""

ABORT_AFTER_CHUNKS = 3

_TASKS = (
    "Summarise this support ticket in two sentences for the on-call engineer:",
    "Classify the sentiment of this review as positive, neutral or negative:",
    "Draft a polite answer to this customer, in their language:",
    "Extract order number, product and complaint from this message as JSON:",
    "Explain this error message to somebody who has never seen it:",
    "Write release notes for these commits, grouped by feature:",
    "Suggest three follow-up questions about this paragraph:",
    "Translate this paragraph into plain English:",
)
_SENTENCES = (
    "The parcel arrived two days late and the box was open on one side.",
    "Since the last update the export stops at eighty percent every time.",
    "I was charged twice for the same order and would like one amount back.",
    "The team was friendly, the waiting time was not.",
    "The sensor reports a temperature of minus forty although it is summer.",
    "Our nightly job fails with a timeout whenever the report has many rows.",
    "The new dashboard is a great help, thank you for listening.",
    "Please change the delivery address before the order is sent.",
)
_ORDER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_order",
        "description": "Look an order up by its number.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}},
            "required": ["number"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to send."""

    kind: JobKind
    body: dict[str, Any]


@dataclass(slots=True)
class Tally:
    """The outcomes of requests, and their number by kind."""

    sent: int = 0
    done: int = 0
    aborted: int = 0
    refused: int = 0
    """Budget refusals."""
    failed: int = 0
    kinds: dict[str, int] = field(default_factory=dict)


class Traffic:
    """Generates requests for one customer."""

    def __init__(self, rng: random.Random, chat: tuple[str, ...], embeddings: tuple[str, ...]):
        self._rng = rng
        self._chat = chat
        self._embeddings = embeddings

    def ask(self, kind: JobKind | None = None, model: str | None = None) -> Ask:
        """The next request; kind and model are random unless given."""
        kind = kind or self._rng.choices(JOB_KINDS, WEIGHTS)[0]
        if kind == "embeddings" and not self._embeddings:
            kind = "chat"
        if kind == "embeddings":
            texts = [self._text(1, 4) for _ in range(self._rng.randint(1, 6))]
            return Ask(kind, {"model": model or self._rng.choice(self._embeddings), "input": texts})
        body = chat_body(
            model or self._rng.choice(self._chat),
            f"{self._rng.choice(_TASKS)}\n\n{self._text(2, 14)}",
            max_tokens=self._rng.choice((32, 64, 96, 160)),
        )
        body["temperature"] = self._rng.choice((0.0, 0.2, 0.7))
        if kind in ("stream", "abort"):
            body["stream"] = True
            if self._rng.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        if kind == "tools":
            body["tools"] = [_ORDER_TOOL]
        return Ask(kind, body)

    def _text(self, low: int, high: int) -> str:
        return " ".join(self._rng.choices(_SENTENCES, k=self._rng.randint(low, high)))


def chat_body(model: str, prompt: str, *, max_tokens: int) -> dict[str, Any]:
    """A chat request with a system message, as applications send it."""
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful assistant of a support team."},
            {"role": "user", "content": prompt},
        ],
        "max_tokens": max_tokens,
    }


async def send(client: openai.AsyncOpenAI, ask: Ask, tally: Tally) -> None:
    """Send one request and read its answer; server errors are counted, not raised."""
    tally.sent += 1
    tally.kinds[ask.kind] = tally.kinds.get(ask.kind, 0) + 1
    try:
        if ask.kind == "embeddings":
            await client.embeddings.create(**ask.body)
        elif ask.body.get("stream"):
            await _read_stream(client, ask)
        else:
            await client.chat.completions.create(**ask.body)
    except openai.APIStatusError as error:
        if error.code == "budget_exceeded":
            tally.refused += 1
        else:
            tally.failed += 1
    except openai.APIError:
        tally.failed += 1
    else:
        if ask.kind == "abort":
            tally.aborted += 1
        else:
            tally.done += 1


async def _read_stream(client: openai.AsyncOpenAI, ask: Ask) -> None:
    chunks = 0
    async with await client.chat.completions.create(**ask.body) as stream:
        async for _ in stream:
            chunks += 1
            if ask.kind == "abort" and chunks >= ABORT_AFTER_CHUNKS:
                return
