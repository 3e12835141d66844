"""The same seed gives the same answers at the same pace, whatever else happens."""

from __future__ import annotations

import asyncio
import random

import httpx
import openai
import pytest

from spanledger.sim.prompt import Prompt
from spanledger.sim.sampling import NODES_MAX, sample
from spanledger.sim.scenarios import Script
from spanledger.sim.server import running_sim
from spanledger.sim.tokens import tokens
from spanledger.sim.writer import Dice, write

QUESTIONS = [f"question {number % 6}" for number in range(24)]


async def ask_all(seed: int, order: int) -> dict[str, list[tuple[str, str | None]]]:
    """Send everything concurrently, in a random order; returns the answers by question, sorted."""
    questions = list(QUESTIONS)
    random.Random(order).shuffle(questions)
    answers: dict[str, list[tuple[str, str | None]]] = {}

    async with (
        running_sim(seed=seed) as sim,
        openai.AsyncOpenAI(base_url=sim.openai_url, api_key="k", max_retries=0) as client,
    ):

        async def ask(question: str) -> None:
            answer = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": question}]
            )
            said = (answer.id, answer.choices[0].message.content)
            answers.setdefault(question, []).append(said)

        await asyncio.gather(*map(ask, questions))
    return {question: sorted(said) for question, said in answers.items()}


async def test_answers_do_not_depend_on_arrival_order() -> None:
    """Two runs in different orders give equal answers, including repeats; another seed differs."""
    first, second, other = [await ask_all(seed, order) for seed, order in ((1, 1), (1, 2), (2, 1))]

    assert first == second
    assert first != other
    assert len({said for question in first.values() for said in question}) == len(QUESTIONS)


async def test_a_fault_does_not_change_the_answer() -> None:
    """A request that failed first is then answered as if it had not, streamed or not."""

    async def ids(models: list[str]) -> list[str]:
        async with running_sim(seed=3) as sim, httpx.AsyncClient(base_url=sim.url) as web:
            for number, model in enumerate(models):
                await web.post(
                    "/v1/chat/completions",
                    json={
                        "model": model,
                        "messages": [{"role": "user", "content": "again"}],
                        "stream": bool(number % 2),
                    },
                    headers={"authorization": "Bearer k"},
                )
            entries = sim.state.bill.entries
        return [entry.id for entry in entries if entry.outcome == "answered"]

    calm = await ids(["gpt-4o", "gpt-4o"])
    stormy = await ids(["gpt-4o!500", "gpt-4o", "gpt-4o!garbage", "gpt-4o!429", "gpt-4o"])

    assert calm == stormy
    assert len(set(calm)) == 2


def test_pace_is_the_models() -> None:
    """The first token takes longer, small models are faster, each call has its own pace."""

    def paces(model: str) -> list[tuple[float, float]]:
        prompt = Prompt("openai", model, b"x", (), 1)
        answers = [
            write(prompt, Dice.of(1, str(n).encode()), None, id_prefix="", created_s=0)
            for n in range(200)
        ]
        return [(answer.pace.first_s, answer.pace.tokens_per_s) for answer in answers]

    large, small = paces("gpt-4o"), paces("gpt-4o-mini")

    assert 0.35 < sum(first for first, _ in large) / 200 < 0.6
    assert sum(first for first, _ in small) < sum(first for first, _ in large)
    assert sum(rate for _, rate in small) > sum(rate for _, rate in large)
    assert len(set(large)) == 200


async def test_waiting_is_real_and_scaled() -> None:
    """The answer takes its due time divided by the speed, and a slow call a multiple of that."""
    async with running_sim(speed=4.0) as sim, httpx.AsyncClient(base_url=sim.url) as web:
        body = {
            "model": "gpt-4o-mini!tokens:10!slow:3",
            "messages": [{"role": "user", "content": "x"}],
        }
        answer = await web.post(
            "/v1/chat/completions", json=body, headers={"authorization": "Bearer k"}
        )
        due_s = int(answer.headers["openai-processing-ms"]) / 1000

    assert answer.elapsed.total_seconds() >= due_s * 3 / 4 - 0.002


@pytest.mark.parametrize("wanted", [0, 1, 2, 39, 1_000])
def test_prose_has_the_length_asked_for(wanted: int) -> None:
    """A scripted length is exact to the token."""
    prompt = Prompt("openai", "gpt-4o", b"x", (), 1, script=Script(output_tokens=wanted))
    answer = write(prompt, Dice.of(1, b"x"), None, id_prefix="", created_s=0)

    assert answer.tokens == tokens(answer.choices[0].text) == wanted


def test_endless_schemas_end() -> None:
    """A schema that refers to itself, or is unboundedly broad, is sampled in bounded time."""
    node: dict[str, object] = {"type": "object", "properties": {}}
    properties = {f"p{i}": {"$ref": "#"} for i in range(50)}
    node["properties"] = properties
    loop = {"$ref": "#/a", "a": {"$ref": "#/a"}}

    def count(value: object) -> int:
        return 1 + sum(map(count, value.values())) if isinstance(value, dict) else 1

    assert count(sample(node, random.Random(1))) < 60 * NODES_MAX
    assert sample(loop, random.Random(1)) is None
