"""A deployment that its provider does not accept is named in the log."""

from __future__ import annotations

import logging

import pytest

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.providers.http import HttpProvider
from spanledger.providers.misconfigured import EVERY_S
from spanledger.sim.server import sim_in_thread
from spanledger.wires import CHAT


async def test_a_wrong_api_base_is_warned_of_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning names the deployment, the URL and the status, and shows no key or query."""
    now = 1_000.0
    provider = HttpProvider(clock=Clock(monotonic=lambda: now))
    fields = CHAT.read(b'{"model":"m","messages":[{"role":"user","content":"x"}]}').fields
    caplog.set_level(logging.WARNING, "spanledger.providers")
    with sim_in_thread(seed=1, speed=0) as sim:
        own = Deployment(
            id="own", route="m", kind="openai", provider="openai", model="gpt-4o-mini",
            litellm_model="openai/gpt-4o-mini", api_base=sim.url, api_key="sk-hidden",
            query="?token=hidden",
        )  # fmt: skip
        for at in (1_000.0, 1_001.0, 1_000.0 + EVERY_S):
            now = at
            with pytest.raises(ProviderError):
                await provider.complete(Call(own, CHAT, fields, 10.0))
        await provider.close()

    expected = (
        f"deployment 'own' (openai): not found, HTTP 404, unknown_url, from {sim.url}/chat/completions;"
        " check its model and api_base"
    )
    assert [record.getMessage() for record in caplog.records] == [expected, expected]
