"""A whole gateway before two simulators, one of which counts as densely as any provider, and the
comparison of its ledger with their bills."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from spanledger.budgets.model import Budget
from spanledger.config import Config, parse_config
from spanledger.money import WHOLE_SHARE, share_of
from spanledger.sim.bill import Entry
from spanledger.sim.server import sim_in_thread
from spanledger.sim.tokens import DENSEST
from tests.bounds import dialogue, forms, google, others
from tests.bounds.texts import Texts
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at

AT_ONCE = 12
TIGHT = 60
"""Customers with little money, whose answers are capped by what is left of it."""
TIGHT_SHARE = 0.3
ALL_STRICT_SCALE = 60
"""Where all requests are theirs, they have twenty times as much."""
PAINTED = (forms.ImageEdits.path, forms.ImageVariations.path)
PATIENCE_S = 60.0
FORMS = ("transcriptions", "translations", "edits", "variations")
BODY_SHOWN = 2_000
REPLIES_MAX = 200
BASES = {"anthropic": "", "gemini": "/v1beta/openai"}
MODELS = {
    **{f"openai/{name}": "" for name in dialogue.MODELS if name.startswith("gpt")},
    f"openai/{dialogue.MINI}": "chat-only",
    **{f"anthropic/{name}": "" for name in dialogue.MODELS if name.startswith("claude")},
    **{f"gemini/{name}": "" for name in (google.FLASH, google.LITE)},
    **{f"openai/{name}": "" for name in (others.EMBED, others.EMBED_LARGE)},
    **{f"openai/{name}": "" for name in (others.TEXT, others.BABBAGE, others.MODERATE)},
    f"cohere/{others.COHERE}": "",
    f"jina_ai/{others.JINA}": "",
    f"openai/{others.DRAW}": "",
    f"aiml/{others.PAINT}": "",
    **{f"openai/{name}": "" for name in (forms.SAY, forms.SAY_HD, forms.SPEAK)},
    **{f"openai/{name}": "" for name in (forms.HEAR, forms.LISTEN)},
    f"groq/{forms.QUICK}": "",
}
WIRES: dict[str, type[Wire]] = {
    "chat": dialogue.Chat,
    "responses": dialogue.Responses,
    "messages": dialogue.Messages,
    "compact": dialogue.Compact,
    "generate_content": google.GenerateContent,
    "embeddings": others.Embeddings,
    "completions": others.Completions,
    "moderations": others.Moderations,
    "rerank": others.Rerank,
    "images": others.Images,
    "speech": forms.Speech,
    "transcriptions": forms.Transcriptions,
    "translations": forms.Translations,
    "image_edits": forms.ImageEdits,
    "image_variations": forms.ImageVariations,
}
SILENT = ("moderations", "transcriptions", "translations")
"""Wires on which some models report no usage, so that what the ledger has of them is an estimate."""


class Wire(Protocol):
    """A source of requests."""

    path: str

    def __init__(self, texts: Texts) -> None: ...

    def body(self) -> dict[str, Any]:
        """The next request; its model is the name of a route."""
        ...


def configuration(
    sims: dict[str, str], ledger: Path, contracts: tuple[dict[str, str], ...] = ()
) -> Config:
    """Every model at either simulator; a route's name ends in `@dense` for the dense one."""

    def entry(suffix: str, url: str, model: str, route: str) -> dict[str, Any]:
        base = url + BASES.get(model.partition("/")[0], "/v1")
        name = (route or model.partition("/")[2]) + suffix
        params = {"model": model, "api_base": base, "api_key": "sk-sim"}
        info: dict[str, Any] = {"id": f"d-{name}"}
        if route == dialogue.CHAT_ONLY:
            info["supported_endpoints"] = ["/v1/chat/completions"]
        if model.endswith(others.PAINT):
            info["supported_endpoints"] = [others.Images.path, *PAINTED]
        return {"model_name": name, "litellm_params": params, "model_info": info}

    served = [(model, "") for model in MODELS]
    served.append((f"openai/{dialogue.MINI}", dialogue.CHAT_ONLY))
    return parse_config(
        {
            "model_list": [
                entry(suffix, url, model, route)
                for suffix, url in sims.items()
                for model, route in served
            ],
            "router_settings": {"num_retries": 0, "cooldown_time": 0, "allowed_fails": 10**6},
            "gateway": {"port": 0, "total_timeout_s": 60},
            "ledger": {"url": f"sqlite:///{ledger}"},
            "pricing": {"contracts": list(contracts)},
        },
        {},
        "test",
    )


@dataclass(slots=True)
class Result:
    """What came of one wire's requests.

    Attributes:
        replies: how many were answered how, by status and error code.
        refusals: the messages of those that nobody served, and how often each came.
        under: attempts that cost more than was held.
        differences: attempts whose cost is not what the provider bills, and not an estimate either.
        beyond: budgets of which the providers bill more than the limit.
        strict: requests under a strict budget.
        estimated: how many were charged an estimate.
        nearest: the largest share of a hold that an attempt used, by what the provider counts.
    """

    wire: str
    replies: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    billed: int = 0
    under: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    overruns: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    strict: int = 0
    nearest: float = 0.0
    estimated: int = 0
    took_s: float = 0.0

    @property
    def served(self) -> int:
        """Requests with an answer."""
        return self.replies["200"]

    def text(self) -> str:
        """One line."""
        replies = ", ".join(f"{name}: {count:,}" for name, count in sorted(self.replies.items()))
        return (
            f"{self.wire:12} {sum(self.replies.values()):7,} requests ({replies});"
            f" {self.billed:,} billed; {len(self.under)} under-held,"
            f" {len(self.differences)} differ, {self.estimated:,} estimated, {len(self.overruns)} budgets overrun,"
            f" {len(self.beyond)} billed beyond their limit ({self.strict:,} requests strict);"
            f" at most {self.nearest:.1%} of a hold used; {self.took_s:.0f} s"
        )


class Trial:
    """A running gateway that is asked at random."""

    def __init__(
        self,
        url: str,
        ledger: Path,
        keys: dict[str, str],
        shares: dict[str, int],
        budgets: dict[str, Budget],
        tight_share: float,
    ) -> None:
        self.url, self.ledger, self.keys, self.shares = url, ledger, keys, shares
        self.budgets, self.tight_share = budgets, tight_share
        self.customers: dict[str, str] = {}
        """Of each request."""
        self.entries: list[tuple[str, Entry]] = []
        self.bodies: dict[str, bytes] = {}

    def run(self, name: str, requests: int, seed: int) -> Result:
        """Ask this many times in a wire, and compare."""
        return asyncio.run(self._run(name, requests, seed))

    async def _run(self, name: str, requests: int, seed: int) -> Result:
        began, result = time.monotonic(), Result(name)
        self.entries.clear()
        self.bodies.clear()
        texts = Texts(random.Random(f"{seed} {name}"))
        wire = WIRES[name](texts)
        numbers = iter(range(requests))
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        kept: list[tuple[str, str, str]] = []
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as web:

            async def ask_on() -> None:
                for _ in numbers:
                    await self._ask(web, wire, texts, result, kept)

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(ask_on())
        await self._settled()
        self._compare(result)
        result.took_s = time.monotonic() - began
        return result

    async def _ask(
        self,
        web: aiohttp.ClientSession,
        wire: Wire,
        texts: Texts,
        result: Result,
        kept: list[tuple[str, str, str]],
    ) -> None:
        body = wire.body()
        tight = texts.chance(self.tight_share)
        customer = f"tight-{texts.dice.randrange(TIGHT)}" if tight else "rich"
        if "model" in body:
            body["model"] += "@dense" if texts.chance(0.5) else ""
        if kept and wire.path == "/v1/responses" and texts.chance(0.1):
            customer, body["model"], body["previous_response_id"] = texts.dice.choice(kept)
        model, path = body.get("model"), wire.path
        if path == google.GenerateContent.path:
            path = google.path_of(body)
        is_form = wire.path.endswith(FORMS)
        data = forms.written_form(body) if is_form else texts.written(body)
        kind = f"multipart/form-data; boundary={forms.BOUNDARY}" if is_form else "application/json"
        headers = {"authorization": f"Bearer {self.keys[customer]}", "content-type": kind}
        async with web.post(self.url + path, data=io.BytesIO(data), headers=headers) as reply:
            answer = await reply.read()
            request_id = reply.headers["x-request-id"]
        self.bodies[request_id], self.customers[request_id] = data, customer
        result.strict += self.budgets[customer].strict
        if reply.status == 200:
            result.replies["200"] += 1
            if body.get("background") is True:
                await self._read_later(web, headers, json.loads(answer)["id"])
            if wire.path == "/v1/responses" and not body.get("stream") and customer == "rich":
                _keep(kept, customer, body["model"], json.loads(answer))
            return
        error = json.loads(answer)["error"]
        code = str(error.get("code") or error.get("type"))
        result.replies[f"{reply.status} {code}"] += 1
        if len(result.refusals) < REPLIES_MAX and code != "budget_exceeded":
            result.refusals[f"{model}: {error['message'][:200]}"] += 1

    async def _read_later(
        self, web: aiohttp.ClientSession, headers: dict[str, str], answer_id: str
    ) -> None:
        """Read an answer in the background until it is complete, which is when it is charged."""
        deadline = time.monotonic() + PATIENCE_S
        url = f"{self.url}/v1/responses/{answer_id}"
        while True:
            async with web.get(url, headers=headers) as reply:
                status = (await reply.json())["status"]
            if status not in ("queued", "in_progress"):
                return
            assert time.monotonic() < deadline, f"{answer_id} is still {status}"
            await asyncio.sleep(0.05)

    async def _settled(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            query = "SELECT request_id, deployment, state FROM attempts WHERE ended_ns IS NULL"
            while rows := connection.execute(query).fetchall():
                asked = [(row, self.bodies.get(row[0], b"?")[:BODY_SHOWN]) for row in rows]
                assert time.monotonic() < deadline, f"these attempts did not end: {asked}"
                await asyncio.sleep(0.05)

    def _compare(self, result: Result) -> None:
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            rows = connection.execute(
                "SELECT request_id, cost_nano, hold_nano, estimated, detail, deployment"
                " FROM attempts"
            ).fetchall()
            result.overruns = [
                str(row)
                for row in connection.execute(
                    "SELECT budget, subject, spent_nano, overrun_nano FROM balances"
                    " WHERE overrun_nano > 0"
                )
            ]
        billed = {(sim, entry.request_id): entry for sim, entry in self.entries if entry.billed}
        result.billed = len(billed)
        sums: Counter[str] = Counter()
        for request_id, cost, hold, estimated, detail, deployment in rows:
            if request_id not in self.bodies:
                continue
            there = json.loads(detail).get("spanledger.provider.request.id", "")
            sim = "@dense" if "@dense" in deployment else ""
            if not there and cost:
                # An answer in the background, whose row does not say which call it was.
                same = (
                    key
                    for key, e in billed.items()
                    if key[0] == sim and self._is(e.nano_usd, sim, cost)
                )
                there = next(same, ("", ""))[1]
            entry = billed.pop((sim, there), None)
            listed = 0 if entry is None else entry.nano_usd
            bill = share_of(listed, self.shares.get(sim, WHOLE_SHARE))
            said = f"{request_id} at {deployment}: cost {cost}, hold {hold}, bill {bill}"
            if entry is not None:
                said += f", {entry.usage}, {entry.service}"
            sums[self.customers[request_id]] += bill
            if bill > hold:
                result.under.append(said)
            result.estimated += bool(estimated)
            same_cost = self._is(listed, sim, cost or 0)
            if not same_cost and not (estimated and result.wire in SILENT):
                result.differences.append(said)
            elif estimated and result.wire not in SILENT:
                result.differences.append(f"{said}, an estimate")
            if hold and cost:
                result.nearest = max(result.nearest, cost / hold)
        result.beyond = [
            f"{customer}: billed {bill} of {self.budgets[customer].limit_nano}"
            for customer, bill in sums.items()
            if bill > self.budgets[customer].limit_nano
        ]
        result.differences += [f"no attempt has {entry}" for entry in billed.values()]

    def _is(self, listed: int, sim: str, cost: int) -> bool:
        """Whether a cost is the bill at the list price, or the contract's share of it: which is of the
        bill before that was rounded to the nano-dollar."""
        share = self.shares.get(sim, WHOLE_SHARE)
        most = share_of(listed, share)
        return (
            cost == most
            if share == WHOLE_SHARE
            else most - share // WHOLE_SHARE - 1 <= cost <= most
        )

    def body_of(self, said: str) -> bytes:
        """The request behind a finding."""
        return self.bodies.get(said.partition(" ")[0], b"")

    def problems(self) -> list[str]:
        """What in the ledger does not add up."""
        return [str(problem) for problem in verified(self.ledger)]


def verified(ledger: Path) -> list[Any]:
    """The problems that `ledger verify` finds."""
    reports = store_at(ledger).reports()
    try:
        return list(reports.verify().problems)
    finally:
        reports.close()


def _keep(kept: list[tuple[str, str, str]], customer: str, model: str, answer: Any) -> None:
    last = answer["output"][-1] if answer["output"] else {}
    if last.get("type") == "message" and answer.get("store") and len(kept) < REPLIES_MAX:
        kept.append((customer, model, answer["id"]))


def _contract(suffix: str, share: int) -> dict[str, str]:
    percent = f"{abs(share - WHOLE_SHARE) / 10_000:g}%"
    kind = "discount" if share < WHOLE_SHARE else "markup"
    return {"name": suffix or "usual", "deployment": f"d-*{suffix}", kind: percent}


@contextlib.contextmanager
def running_trial(
    folder: Path, shares: dict[str, int] | None = None, *, strict: bool = False
) -> Iterator[Trial]:
    """Simulators and gateway, until the block ends.

    Args:
        shares: what contracts bill of the list price at the simulators, in millionths.
        strict: every request is under a tight and strict budget; else one in seven.
    """
    ledger = folder / "ledger.db"
    names = ["rich", *(f"tight-{number}" for number in range(TIGHT))]
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in names}
    limits = {name: 10 ** (5 + 5 * index // TIGHT) for index, name in enumerate(names[1:])}
    scale = ALL_STRICT_SCALE if strict else 3
    budgets = [
        Budget("rich", "customer", "rich", 10**15, "month"),
        *(
            Budget(name, "customer", name, limit * scale, "month", strict=strict or index % 2 == 0)
            for index, (name, limit) in enumerate(limits.items())
        ),
    ]
    records.set_budgets(budgets, 1)
    records.close()
    with sim_in_thread() as usual, sim_in_thread() as dense:
        dense.state.counting = DENSEST
        sims = {"": usual, "@dense": dense}
        contracts = tuple(_contract(suffix, share) for suffix, share in (shares or {}).items())
        config = configuration({suffix: sim.url for suffix, sim in sims.items()}, ledger, contracts)
        with Running(config) as url:
            named = {budget.name: budget for budget in budgets}
            tight_share = 1.0 if strict else TIGHT_SHARE
            trial = Trial(url, ledger, keys, shares or {}, named, tight_share)
            for suffix, sim in sims.items():
                sim.state.bill.on_entry = lambda entry, s=suffix: trial.entries.append((s, entry))
                sim.state.board.add({"fault": "tokens:700", "share": 0.3})
                sim.state.board.add({"fault": "tokens:5000", "share": 0.33})
            yield trial
