"""What is learned about the tokens of texts, and what is counted with a tokenizer."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from pathlib import Path

import msgspec
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from spanledger.budgets.model import Budget
from spanledger.clock import Clock
from spanledger.config import parse_config
from spanledger.errors import BudgetExceededError
from spanledger.providers.base import Deployment
from spanledger.routing import tokenizer
from spanledger.routing.closer import CloserCounts
from spanledger.routing.inputs import ENOUGH, FEW, InputHistory, kind_of
from spanledger.routing.plan import Plan
from spanledger.routing.tokenizer import Tokenizers, encoding_of
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from spanledger.wires.base import Answer
from tests.bounds.agents import code, prose
from tests.bounds.texts import Texts
from tests.service.routing.test_end_to_end import Stack, opened
from tests.support.ledgers import store_at

NANO_PER_TOKEN = 150
"""Of gpt-4o-mini's input."""


def kind(text: str) -> tuple[int, int, int]:
    """Of a chat with this text."""
    body = {"messages": [{"role": "user", "content": text}]}
    fields = msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])
    return kind_of(fields, len(msgspec.json.encode(body)))


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(0, 10**7)), min_size=ENOUGH))
def test_never_less_than_was_seen(seen: list[tuple[int, int]]) -> None:
    """Whatever was seen of a kind, as much would be held for it, and a quarter more."""
    history = InputHistory()
    for size, tokens in seen:
        history.record((6, 2, 8), size, tokens)

    for size, tokens in seen:
        expected = history.expected((6, 2, 8), size)
        assert expected is not None
        assert expected * 4 >= tokens * 5


def test_only_kinds_that_were_seen_are_known() -> None:
    """Before enough of a kind, or for another one, nothing is expected; neighbours count as well."""
    history = InputHistory()
    for _ in range(ENOUGH - FEW):
        history.record((6, 3, 8), 10_000, 2_500)
    assert history.expected((6, 2, 8), 10_000) is None
    for _ in range(FEW):
        history.record((6, 2, 8), 10_000, 2_000)

    assert history.expected((6, 2, 8), 10_000) == 3_125
    assert history.expected((6, 4, 8), 10_000) is None
    assert history.expected((3, 0, 8), 10_000) is None


def test_what_has_other_tokens_is_of_another_kind() -> None:
    """Prose, base64, digits and other scripts are never neighbours."""
    dice = random.Random(1)
    texts = {
        "prose": prose(dice, 6_000, 6_001),
        "base64": base64.b64encode(dice.randbytes(6_000)).decode(),
        "digits": "".join(dice.choices("0123456789", k=6_000)),
        "hex": dice.randbytes(3_000).hex(),
        "burmese": "".join(dice.choices("ကခဂဃငစဆဇဈဉ", k=6_000)),
    }
    kinds = {name: kind(text) for name, text in texts.items()}
    for name, one in kinds.items():
        for other, another in kinds.items():
            apart = max(abs(a - b) for a, b in zip(one, another, strict=True))
            assert name == other or apart > 1, (name, other, one, another)


@pytest.fixture(scope="module")
def sim() -> object:
    """A simulator, for which four bytes are a token."""
    with sim_in_thread(seed=1) as running:
        yield running


@pytest.mark.parametrize("strict", [False, True])
async def test_near_the_end_experience_counts_unless_a_budget_is_strict(
    sim: RunningSim, tmp_path: Path, strict: bool
) -> None:
    """Requests of the same kind are served until less is left than they are expected to cost; a strict
    budget refuses once less is left than their bound."""
    dice = random.Random(2)
    async with opened(sim, tmp_path / "ledger.db", wait_for_holds_s=0) as stack:
        budget = Budget("b", "customer", "acme", 14_000_000, "month", strict=strict)
        with store_at(stack.path).records("create") as records:
            records.set_budgets([budget], Clock().now_ns())
        while True:
            said = [{"role": "user", "content": prose(dice, 8_000, 8_001)}]
            answer = await stack.ask("plain", messages=said, max_tokens=20)
            if not isinstance(answer, Answer):
                break
        assert isinstance(answer, BudgetExceededError)
        assert len(stack.attempts()) > ENOUGH
        assert stack.booked_nano() == stack.billed_nano() <= budget.limit_nano
        assert not any(row["overrun_nano"] for row in stack.attempts())
    bound = 8_000 * NANO_PER_TOKEN
    assert (answer.refusal.needed_nano > bound) is strict
    assert answer.refusal.needed_nano > bound / 4


def deployments(*params: dict[str, str]) -> list[Deployment]:
    """As configured."""
    entries = [{"model_name": f"m{n}", "litellm_params": p} for n, p in enumerate(params)]
    config = parse_config({"model_list": entries}, {"OPENAI_API_KEY": "sk-1"}, "test")
    return list(Plan.from_config(config, {"OPENAI_API_KEY": "sk-1"}).deployments)


def test_only_at_openai_and_azure_is_the_encoding_known() -> None:
    """A server elsewhere may count by anything, whatever its model is called."""
    own, azure, old, unknown, elsewhere, claude = deployments(
        {"model": "openai/gpt-4o-mini"},
        {
            "model": "azure/mine",
            "base_model": "gpt-4o",
            "api_base": "https://x.openai.azure.com",
            "api_key": "k",
        },
        {"model": "openai/gpt-4-turbo"},
        {"model": "openai/next-1"},
        {"model": "openai/gpt-4o-mini", "api_base": "http://127.0.0.1:9/v1"},
        {"model": "anthropic/claude-haiku-4-5", "api_key": "k"},
    )
    assert encoding_of(own) == encoding_of(azure) == "o200k_base"
    assert encoding_of(old) == "cl100k_base"
    assert encoding_of(unknown) == encoding_of(elsewhere) == encoding_of(claude) == ""


async def test_a_tokenizers_count_is_a_bound() -> None:
    """For texts of all scripts, in any JSON, what is left of the bytes covers every text's tokens, and
    for prose it is a small part of them."""
    [own] = deployments({"model": "openai/gpt-4o-mini"})
    encoding = tokenizer.load("o200k_base")
    assert isinstance(encoding, tiktoken.Encoding)
    tokenizers, texts = Tokenizers(), Texts(random.Random(3))
    for _ in range(60):
        said = [texts.text(4_000) for _ in range(3)]
        body = {
            "messages": [
                {"role": "system", "content": said[0]},
                {"role": "user", "content": [{"type": "text", "text": said[1]}]},
                {"role": "tool", "tool_call_id": "c", "content": said[2]},
            ]
        }
        data = texts.written(body)
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])

        saved = await tokenizers.saved(own, fields)

        together = len(encoding.encode_ordinary("\n".join(said)))
        assert len(data) - saved >= together
    dice = random.Random(4)
    text = prose(dice, 9_000, 9_001) + code(dice, 9_000, 9_001)
    fields = {"input": msgspec.Raw(msgspec.json.encode(text))}
    assert await tokenizers.saved(own, fields) > len(text.encode()) * 0.6


def test_without_the_files_nothing_is_counted_or_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of tiktoken's own that lacks the encoding stays as it is: nothing is downloaded."""
    monkeypatch.setenv(tokenizer.CACHE_VARIABLE, str(tmp_path))
    [own] = deployments({"model": "openai/gpt-4o-mini"})
    fields = {"input": msgspec.Raw(json.dumps("word " * 2_000).encode())}

    assert asyncio.run(Tokenizers().saved(own, fields)) == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_strict_budget_takes_a_tokenizers_count(stack: Stack) -> None:
    """It is certain, so it is less than the bytes and not marked as experience."""
    [own] = deployments({"model": "openai/gpt-4o-mini"})
    exchange = stack.exchange("plain", messages=[{"role": "user", "content": "some words " * 900}])
    demand = exchange.ask.demand

    closer = await CloserCounts().count(exchange, demand, own, strict=True)

    assert closer is not None
    assert not closer.learnt
    assert closer.of(demand).input_tokens < demand.input_tokens / 2


@pytest.fixture
async def stack(sim: RunningSim, tmp_path: Path) -> object:
    """A router on real parts."""
    async with opened(sim, tmp_path / "ledger.db") as found:
        yield found
