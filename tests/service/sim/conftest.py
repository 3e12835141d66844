"""One simulator and one client of each kind for all tests; bill and faults reset for each test."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest

from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread


@pytest.fixture(scope="session")
def shared_sim() -> Iterator[RunningSim]:
    """A simulator without delays, on its own thread."""
    with sim_in_thread(seed=1, speed=0) as sim:
        yield sim


@pytest.fixture(scope="session")
def shared_web(shared_sim: RunningSim) -> Iterator[httpx.Client]:
    """A plain HTTP client for it."""
    with httpx.Client(base_url=shared_sim.url) as client:
        yield client


@pytest.fixture(scope="session")
def shared_gpt(shared_sim: RunningSim) -> Iterator[openai.OpenAI]:
    """A real OpenAI client that does not retry."""
    with openai.OpenAI(base_url=shared_sim.openai_url, api_key="sk-1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def shared_claude(shared_sim: RunningSim) -> Iterator[anthropic.Anthropic]:
    """A real Anthropic client that does not retry."""
    with anthropic.Anthropic(base_url=shared_sim.url, api_key="sk-2", max_retries=0) as client:
        yield client


@pytest.fixture
def sim(shared_sim: RunningSim, shared_web: httpx.Client) -> RunningSim:
    """The simulator with an empty bill and no faults."""
    shared_web.delete("/sim/bill").raise_for_status()
    shared_web.delete("/sim/faults").raise_for_status()
    return shared_sim


@pytest.fixture
def web(sim: RunningSim, shared_web: httpx.Client) -> httpx.Client:
    """A plain HTTP client, on an empty bill."""
    return shared_web


@pytest.fixture
def gpt(sim: RunningSim, shared_gpt: openai.OpenAI) -> openai.OpenAI:
    """An OpenAI client, on an empty bill."""
    return shared_gpt


@pytest.fixture
def claude(sim: RunningSim, shared_claude: anthropic.Anthropic) -> anthropic.Anthropic:
    """An Anthropic client, on an empty bill."""
    return shared_claude
