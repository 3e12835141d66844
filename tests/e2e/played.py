"""One run of everything that emits a signal, for the tests that look for signals afterwards."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.signals import APPLICATION, BESIDE
from tests.e2e.stack import FIRST_VISIBLE_S, ROOT, Stack, run_program
from tests.support.otlp_sink import SinkSpan
from tests.support.processes import poll, running

CUSTOMER = "e2e"
PAUPER = "e2e-pauper"
HASTY = "e2e-hasty"
RATE_S = 30.0
SETTLE_S = 60.0
LOADED_BYTES = 90 * 2**20
"""The minimum memory of a worker once OpenLLMetry is loaded."""
MARK = "lighthouse"
"""A harmless word that must be found in the places searched for canaries."""
CANARIES = (
    "sk-proj-canary0123456789ABCDEFGHIJ",
    "canary.person@mail.example.com",
    "ghp_canary0123456789ABCDEFGHIJKLMNOP",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlY2FuYXJ5",
)


@dataclass(slots=True)
class Played:
    """What was run, and where to find it."""

    idle: dict[str, int] | None
    """Resident bytes by part before any request, if they can be measured."""
    first_seen: bool
    """Whether the very first request was visible in time."""
    traces: dict[str, str] = field(default_factory=dict)
    """Each request's trace id, by name."""

    def spans(self, stack: Stack) -> list[SinkSpan]:
        """All spans of a request that have arrived."""
        return [span for trace_id in self.traces.values() for span in stack.trace(trace_id)]


def play(stack: Stack, folder: Path) -> Played:
    """Run everything."""
    idle = poll(lambda: _settled(stack), SETTLE_S) if stack.target.memory() else None
    assert idle != {}, "the parts never became idle"
    played = Played(idle, _first(stack))
    _fallback(stack, played)
    _asks(stack, played)
    _refusal(stack, played)
    _rate(stack)
    beside = f"{stack.urls['simulator']}/v1"
    with ThreadPoolExecutor(3) as pool:
        for asking in (
            pool.submit(_worker_run, stack, folder, played),
            pool.submit(_application, stack, played, APPLICATION, stack.key(CUSTOMER)),
            pool.submit(_application, stack, played, BESIDE, "sk-any", beside, "gpt-4o-mini"),
        ):
            asking.result()
    if stack.target.ledger_url:
        _second_gateway(stack, folder, played)
    return played


def _settled(stack: Stack) -> dict[str, int]:
    """Memory once the worker has imported what it needs; empty before."""
    first = stack.target.memory() or {}
    time.sleep(0.2)
    again = stack.target.memory() or {}
    grown = sum(again.values()) - sum(first.values())
    return again if again.get("worker", 0) > LOADED_BYTES and grown < 2**20 else {}


def _first(stack: Stack) -> bool:
    started = time.monotonic()
    answer = stack.ask()
    assert answer.status_code == 200, answer.text

    def visible() -> bool:
        spent = stack.value("sum(spanledger_cost_usd_total)")
        return spent > 0 and bool(stack.trace(trace_of(answer)))

    return bool(poll(visible, FIRST_VISIBLE_S - (time.monotonic() - started)))


def trace_of(answer: httpx.Response) -> str:
    """The trace of an answered request."""
    return str(answer.headers["x-spanledger-trace-id"])


def _worker_run(stack: Stack, folder: Path, played: Played) -> None:
    """The worker sends every kind of request; its run is one trace."""
    jobs = folder / "jobs.jsonl"
    message = [{"role": "user", "content": "Say hello."}]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("chat/completions", {"model": "fast", "messages": message, "max_tokens": 20}),
        ("chat/completions", {"model": "fast-backup", "messages": message, "max_tokens": 20}),
        ("embeddings", {"model": "embed", "input": "hello"}),
    ]
    jobs.write_text(
        "\n".join(
            json.dumps({"custom_id": f"{n}", "method": "POST", "url": f"/v1/{url}", "body": body})
            for n, (url, body) in enumerate(bodies)
        )
    )
    run_program(
        *("-m", "spanledger", "worker", "run", str(jobs), "-o", str(folder / "results.jsonl")),
        "--quiet",
        env={
            "OPENAI_BASE_URL": f"{stack.urls['gateway']}/v1",
            "OPENAI_API_KEY": stack.key(CUSTOMER),
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.urls["otlp-http"],
        },
    )
    # A stack that was tested before has more traces.
    newest = max(
        (r for r in stack.requests(CUSTOMER) if r["route"] == "embed"),
        key=lambda r: r["started_at"],
    )
    played.traces["worker"] = newest["trace_id"]


def _fallback(stack: Stack, played: Played) -> None:
    """Both attempts of the first deployment fail, and the fallback serves."""
    stack.fault("gpt-4o-mini", "500", 2)
    answer = stack.ask("fall back")
    assert (answer.status_code, answer.headers["x-spanledger-attempts"]) == (200, "3")
    played.traces["fallback"] = trace_of(answer)


def _asks(stack: Stack, played: Played) -> None:
    """A stream, an answer that costs more than its hold, and secrets."""
    answer = stack.ask("stream", model="smart", stream=True)
    assert answer.text.rstrip().endswith("data: [DONE]")
    played.traces["stream"] = trace_of(answer)
    # The provider reports twice the requested maximum.
    script = {"sim": "tokens:2000!wrong_usage"}
    answer = stack.ask("talk on", model="smart", max_tokens=2000, metadata=script)
    played.traces["overrun"] = trace_of(answer)
    answer = stack.ask(f"{MARK} {' and '.join(CANARIES)}", user=CANARIES[1])
    assert answer.status_code == 200
    played.traces["canaries"] = trace_of(answer)


def _refusal(stack: Stack, played: Played) -> None:
    stack.target.command(
        *("budget", "set", "e2e-pauper", "--customer", PAUPER, "--limit", "0.000001")
    )
    answer = stack.ask("too dear", customer=PAUPER)
    assert answer.json()["error"]["code"] == "budget_exceeded", answer.text
    played.traces["refusal"] = trace_of(answer)


def _rate(stack: Stack) -> None:
    """A rate applies within a second, and then refuses all but one request of a minute."""
    stack.target.command("rate", "set", "e2e-hasty", "--customer", HASTY, "--rpm-limit", "1")

    def refused() -> bool:
        answer = stack.ask("too soon", customer=HASTY)
        return answer.status_code == 429 and answer.json()["error"]["code"] == "rate_limit_exceeded"

    assert poll(refused, RATE_S)


def _application(
    stack: Stack, played: Played, name: str, key: str, base_url: str = "", model: str = "fast"
) -> None:
    """A separate application calls the gateway, or another endpoint."""
    program = str(Path(__file__).with_name("application.py"))
    where = base_url or f"{stack.urls['gateway']}/v1"
    printed = run_program(program, name, stack.urls["otlp-http"], where, key, model, env={})
    (line,) = [line for line in printed.splitlines() if line.startswith("trace ")]
    played.traces[name] = line.split()[1]


def _second_gateway(stack: Stack, folder: Path, played: Played) -> None:
    """A second gateway on the same ledger has a model without a price, a contract, and charges."""
    config = yaml.safe_load((ROOT / "examples" / "stack.yaml").read_text("utf-8"))
    there = {"api_base": f"{stack.urls['simulator']}/v1", "api_key": "sim"}
    config["model_list"] = [
        {"model_name": name, "litellm_params": {"model": f"openai/{model}", **there}}
        for name, model in (("mystery", "mystery-1"), ("agreed", "gpt-4o-mini"))
    ]
    config["router_settings"] = {}
    config["pricing"] = {
        "contracts": [{"name": "agreed", "provider": "openai", "discount": "10%"}],
        "charges": [{"name": "everybody", "markup": "20%"}],
    }
    (folder / "spanledger.yaml").write_text(yaml.safe_dump(config), "utf-8")
    env = {"SPANLEDGER_LEDGER_URL": stack.target.ledger_url}
    with running(
        *("gateway", "--config", "spanledger.yaml", "--port", "0", "--no-ship"),
        folder=folder,
        env=env,
    ) as gateway:
        url = f"{gateway.url()}/v1/chat/completions"
        unpriced, agreed = (
            stack.http.post(
                url,
                headers={"authorization": f"Bearer {stack.key(CUSTOMER)}"},
                json={"model": name, "messages": [{"role": "user", "content": "?"}]},
            )
            for name in ("mystery", "agreed")
        )
    assert unpriced.status_code >= 400, unpriced.text
    assert agreed.status_code == 200, agreed.text
    played.traces["unpriced"] = trace_of(unpriced)
