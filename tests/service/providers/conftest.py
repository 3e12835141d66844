"""A scripted server, a simulator for the session, and adapters that are closed after use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import pytest

from spanledger.providers.http import HttpProvider
from spanledger.sim.host import RunningSim
from spanledger.sim.server import sim_in_thread
from tests.service.providers.scripted import Scripted, scripted


@pytest.fixture(scope="session")
def sim() -> Iterator[RunningSim]:
    """A simulator that waits for nothing, on its own thread."""
    with sim_in_thread(seed=1, speed=0) as running:
        yield running


@pytest.fixture
async def server() -> AsyncGenerator[Scripted]:
    """A server whose answers the test scripts."""
    async with scripted() as running:
        yield running


@pytest.fixture
async def openai_provider() -> AsyncGenerator[HttpProvider]:
    """An adapter, closed after the test."""
    provider = HttpProvider()
    yield provider
    await provider.close()


@pytest.fixture
async def anthropic_provider() -> AsyncGenerator[HttpProvider]:
    """An adapter, closed after the test."""
    provider = HttpProvider()
    yield provider
    await provider.close()
