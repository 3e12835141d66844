"""A router with scripted providers, a strict ledger in memory, and a clock that never really
waits."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.errors import BudgetExceededError, ProviderError, Refusal, SpanledgerError
from spanledger.ledger.keys import FoundKey
from spanledger.ledger.model import (
    AttemptEnd,
    Hold,
    Kept,
    KeptAnswer,
    KeptKind,
    Later,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
    Unread,
)
from spanledger.pricing.book import PriceBook
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Call
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.router import Router
from spanledger.wires import INBOUND
from spanledger.wires.base import Answer, Ask, Frame, Operation

NOON_NS = 1_795_435_200 * 1_000_000_000
USAGE = Usage(input_tokens=10, output_tokens=5)
PRICES = {"input_cost_per_token": "0.000001", "output_cost_per_token": "0.000002"}
BOOK = PriceBook.load()


class Time:
    """A clock that moves only if somebody waits or an attempt takes time."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def now_ns(self) -> int:
        """Unix nanoseconds."""
        return NOON_NS + int(self.now * 1e9)

    async def sleep(self, seconds: float) -> None:
        """Waiting moves only this clock; it can be cancelled like any wait."""
        self.slept.append(round(seconds, 3))
        await asyncio.sleep(0)
        self.now += seconds

    def clock(self, seed: int = 1) -> Clock:
        """This time in the form that the code under test gets."""
        return Clock(self.now_ns, self.monotonic, self.sleep, random.Random(seed))


WIRES = {wire.name: wire for wire in INBOUND.values()}


@dataclass(frozen=True)
class Step:
    """What a deployment does with one attempt.

    Attributes:
        frames: of a stream; `error` or `hangs` comes after them.
        hangs: it never answers.
        takes_s: how long it takes before anything comes.
        usage: of a whole answer.
        service: the service tier a whole answer says it was served at.
    """

    error: ProviderError | None = None
    frames: tuple[Frame, ...] = ()
    hangs: bool = False
    takes_s: float = 0.0
    usage: Usage | None = USAGE
    service: str = ""


OK = Step()


def fails(kind: str, *, takes_s: float = 0.0, **more: Any) -> Step:
    """An attempt that fails before anything arrived."""
    return Step(error=ProviderError(kind, f"scripted {kind}", **more), takes_s=takes_s)


def content(text: str = "abcd", **more: Any) -> Frame:
    """An event with content."""
    return Frame(data=f"data: {text}\n\n".encode(), content=True, output_bytes=len(text), **more)


ROLE = Frame(data=b"data: role\n\n", response_id="resp_1", response_model="m-1")
FINISH = Frame(data=b"data: finish\n\n", finish_reason="stop")
REPORT = Frame(data=b"data: usage\n\n", usage_only=True, usage=USAGE)


class ScriptedProvider:
    """Does what each deployment's script says; the last step repeats."""

    def __init__(self, time: Time, scripts: Mapping[str, Sequence[Step]]) -> None:
        self._time = time
        self._scripts = {unique: list(steps) for unique, steps in scripts.items()}
        self.calls: list[Call] = []
        self.closed: list[str] = []

    def _next(self, call: Call) -> Step:
        self.calls.append(call)
        steps = self._scripts.get(call.deployment.id, [OK])
        return steps.pop(0) if len(steps) > 1 else steps[0]

    async def complete(self, call: Call) -> Answer:
        """A non-streamed answer, or the scripted fault."""
        step = self._next(call)
        self._time.now += step.takes_s
        await asyncio.sleep(0)
        if step.hangs:
            await asyncio.Event().wait()
        if step.error is not None:
            raise step.error
        return Answer(
            body=b'{"id":"resp_1"}',
            usage=step.usage,
            response_id="resp_1",
            response_model="m-1",
            finish_reasons=("stop",),
            output_bytes=18,
            service=step.service,
        )

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """The scripted events, then the scripted fault."""
        step = self._next(call)
        try:
            self._time.now += step.takes_s
            for frame in step.frames:
                await asyncio.sleep(0)
                yield frame
            if step.hangs:
                await asyncio.Event().wait()
            if step.error is not None:
                raise step.error
        finally:
            self.closed.append(call.deployment.id)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class StrictLedger:
    """A ledger in memory that allows nothing twice and reports what is left open.

    Attributes:
        decide: gives the hold for a reservation, or raises; all that is wanted by default.
        gated: number of the write from which on all wait for `gate`; None = none waits.
        writes: writes begun so far.
        down: finishes and ends fail as if the disk were gone.
        remaining_nano: what a hold says is left; None = no blocking budget applies.
    """

    decide: Callable[[Reservation], int] = lambda reservation: reservation.sizes.full
    down: SpanledgerError | None = None
    remaining_nano: int | None = 7
    gated: int | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    writes: int = 0
    asked: list[Reservation] = field(default_factory=list)
    held: dict[str, tuple[Reservation, int]] = field(default_factory=dict)
    ended: dict[str, AttemptEnd] = field(default_factory=dict)
    requests: dict[str, RequestEnd] = field(default_factory=dict)
    later: dict[str, Later] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)

    async def reserve(self, reservation: Reservation) -> Hold:
        """Hold what `decide` says; the same again for the same attempt id."""
        self.asked.append(reservation)
        await self._write()
        unique = reservation.attempt_id
        if unique not in self.held:
            assert reservation.request.request_id not in self.requests
            self.held[unique] = (reservation, self.decide(reservation))
        return Hold(unique, self.held[unique][1], "allow", (), self.remaining_nano)

    async def finish(self, end: AttemptEnd) -> Settled:
        """The first end counts."""
        await self._write()
        assert end.attempt_id in self.held, "finished without a hold"
        if end.attempt_id not in self.ended:
            self.ended[end.attempt_id] = end
            if end.request is not None:
                self._close(end.attempt_id.rpartition(".")[0], end.request)
        if self.down is not None:
            raise self.down
        return Settled(end.cost_nano or 0, 0, 7)

    async def end_request(
        self,
        start: RequestStart,
        end: RequestEnd,
        *,
        kept: Kept | None = None,
        later: Later | None = None,
    ) -> None:
        """End a request outside an attempt."""
        if kept is not None:
            self.kept.append(kept)
        if later is not None:
            self.later[start.request_id] = later
        await self._write()
        self._close(start.request_id, end)
        if self.down is not None:
            raise self.down

    async def find_key(self, digest: str) -> FoundKey | None:
        """Routing never looks up keys."""
        raise NotImplementedError

    async def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """Routing never looks up answers."""
        raise NotImplementedError

    async def find_kept(self, request_id: str) -> Kept | None:
        """Routing's attempts leave nothing behind."""
        raise NotImplementedError

    async def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """As above."""
        raise NotImplementedError

    async def list_unread(self, since_ns: int, limit: int) -> list[Unread]:
        """As above."""
        raise NotImplementedError

    async def owners_of_file(self, provider_id: str) -> list[tuple[str, str]]:
        """As above."""
        raise NotImplementedError

    async def change_kept(self, request_id: str, about: str | None) -> None:
        """As above."""
        raise NotImplementedError

    async def check(self) -> None:
        """It is always available."""

    journaling = False
    journal_has_room = False

    async def has_keys(self) -> bool:
        """Routing never asks for keys."""
        raise NotImplementedError

    async def _write(self) -> None:
        self.writes += 1
        await asyncio.sleep(0)
        if self.gated is not None and self.writes > self.gated:
            await self.gate.wait()

    def _close(self, request_id: str, end: RequestEnd) -> None:
        assert request_id not in self.requests, "a request ended twice"
        still_held = [
            unique
            for unique in self.held
            if unique.startswith(f"{request_id}.") and unique not in self.ended
        ]
        assert still_held == [] or request_id in self.later, "a request ended before its attempts"
        self.requests[request_id] = end


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until a condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the code under test has no event to wait for
            await asyncio.sleep(0)


def no_room(scope: str = "customer") -> BudgetExceededError:
    """A refusal."""
    return BudgetExceededError(Refusal("b", scope, "acme", 10, 9, 0, 5, 0))


@dataclass(frozen=True)
class Attempted:
    """An attempt in the ledger, for comparison with the expected one."""

    deployment: str
    error: str = ""
    fallback_from: str = ""
    reason: str = ""


class Site:
    """A router on scripted deployments. `routes` maps a route to its deployments' ids; an id may
    have entries of `litellm_params`."""

    def __init__(
        self,
        routes: Mapping[str, Sequence[str | tuple[str, Mapping[str, object]]]],
        scripts: Mapping[str, Sequence[Step]],
        *,
        ledger: StrictLedger | None = None,
        content: Any = "off",
        seed: int = 1,
        pricing: Mapping[str, object] | None = None,
        **settings: Any,
    ) -> None:
        self.time = Time()
        self.ledger = ledger or StrictLedger()
        self.provider = ScriptedProvider(self.time, scripts)
        entries = []
        for route, deployments in routes.items():
            for item in deployments:
                unique, more = (item, {}) if isinstance(item, str) else item
                params = {"model": f"openai/{unique}", "api_key": "k", **PRICES, **more}
                entries.append(
                    {
                        "model_name": route,
                        "litellm_params": {k: v for k, v in params.items() if v is not None},
                        "model_info": {"id": unique},
                    }
                )
        config = parse_config(
            {"model_list": entries, "router_settings": settings, "pricing": pricing},
            {},
            "test.yaml",
        )
        self.plan = Plan.from_config(config)
        self.router = Router(
            config,
            self.plan,
            self.ledger,
            BOOK,
            {"openai": self.provider, "anthropic": self.provider},
            self.time.clock(seed),
            content,
        )
        self._ids = itertools.count(1)

    def exchange(
        self,
        route: str = "a",
        *,
        operation: Operation = "chat",
        stream: bool = False,
        include_usage: bool = False,
        deadline_s: float = 60.0,
        **fields: object,
    ) -> Exchange:
        """A parsed request."""
        fields.setdefault("messages", [{"role": "user", "content": "Hello there"}])
        unique = next(self._ids)
        start = RequestStart(
            request_id=f"req_{unique:024x}",
            trace_id=f"{unique:032x}",
            span_id=f"{unique:016x}",
            parent_span_id="",
            started_ns=self.time.now_ns(),
            customer="acme",
            team="",
            key_id="",
            route=route,
            operation=operation,
            stream=stream,
        )
        raw = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in fields.items()}
        size = sum(len(memoryview(value)) for value in raw.values())
        wire = WIRES[operation]
        ask = Ask(wire, route, stream, include_usage, raw, size, wire.demand(raw, size))
        return Exchange(start, ask, self.time.now + deadline_s)

    async def ask(self, exchange: Exchange | None = None) -> Answer | SpanledgerError:
        """The answer, or the error that a caller gets."""
        try:
            return await self.router.complete(exchange or self.exchange())
        except SpanledgerError as error:
            return error

    async def read(self, exchange: Exchange) -> tuple[list[bytes], SpanledgerError | None]:
        """All that a stream relays, and the error that ends it."""
        events: list[bytes] = []
        try:
            async with aclosing(self.router.stream(exchange)) as frames:
                async for frame in frames:
                    events += (frame.data,)
        except SpanledgerError as error:
            return events, error
        return events, None

    @property
    def attempted(self) -> list[Attempted]:
        """The attempts in the ledger, in order."""
        return [
            Attempted(r.deployment, self.ledger.ended[u].error_type, r.fallback_from, r.reason)
            for u, (r, _) in self.ledger.held.items()
        ]

    @property
    def last(self) -> AttemptEnd:
        """The end of the last attempt."""
        return list(self.ledger.ended.values())[-1]

    @property
    def outcome(self) -> tuple[str, str, int]:
        """Outcome, error type and status of the one request."""
        (end,) = self.ledger.requests.values()
        return end.outcome, end.error_type, end.http_status
