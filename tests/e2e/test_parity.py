"""An application that replaces its own instrumentation with the gateway loses no attribute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site
from tests.support.otlp_sink import OtlpSink, SinkSpan
from tests.support.processes import clean_environment, poll

CLIENT = Path(__file__).with_name("client.py")
OTHER_NAMES = {
    "gen_ai.is_streaming": "gen_ai.request.stream",
    "gen_ai.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.openai.api_base": "server.address",
}
"""OpenLLMetry's names that the conventions spell differently."""
NOT_OURS = {
    # The sum of two others: an attribute that invites counting twice.
    "gen_ai.usage.total_tokens",
    # About the provider's software, not about the call.
    "gen_ai.openai.response.system_fingerprint",
}
BY_CALL = {"gen_ai.response.id", "gen_ai.output.messages"}
"""Each call has its own value: the simulator does not answer the same twice."""
OURS = {
    "spanledger.cost.usd",
    "spanledger.cost.nano_usd",
    "spanledger.price.id",
    "spanledger.attempt.number",
    "spanledger.deployment",
}


def ask(*arguments: str) -> str:
    """Run the client; returns its output."""
    done = subprocess.run(
        [sys.executable, CLIENT, *arguments],
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def through_the_gateway(site: Site, how: str) -> SinkSpan:
    """The span of the attempt at the provider, as it arrives at a collector."""
    with OtlpSink() as sink:
        site.configure(telemetry={"endpoint": sink.endpoint, "content": "full"})
        gateway = site.gateway()
        try:
            ask(f"{gateway.url()}/v1", how)
            spans = poll(lambda: [s for s in sink.by_id().values() if s.kind == "CLIENT"])
        finally:
            gateway.stop()
    (span,) = spans
    return span


def plain(value: Any) -> Any:
    """A JSON string as its parsed value."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.loads(value)
    return value


def shape(value: Any) -> Any:
    """A JSON value without its free text."""
    if isinstance(value, dict):
        return {k: "text" if k == "content" else shape(v) for k, v in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("how", ["whole", "streamed"])
def test_the_gateways_span_has_what_the_clients_own_has(site: Site, how: str) -> None:
    """Every `gen_ai.*` attribute of OpenLLMetry's span is on ours, with the same value; ours adds
    cost, attempt, deployment and time to first chunk."""
    theirs = json.loads(ask(f"{site.sim_url}/v1", how, "instrumented"))

    ours = through_the_gateway(site, how).attributes

    names = {name for name in theirs if name.startswith("gen_ai.")} - NOT_OURS
    same = names - OTHER_NAMES.keys() - BY_CALL
    assert {n: plain(ours.get(n)) for n in same} == {n: plain(theirs[n]) for n in same}
    assert len(same) >= 12
    assert ours["gen_ai.response.id"]
    key = "gen_ai.output.messages"
    assert shape(plain(ours[key])) == shape(plain(theirs[key]))
    assert all(ours[OTHER_NAMES[n]] for n in names & OTHER_NAMES.keys() if theirs[n])
    assert ours.keys() >= OURS
    assert ("gen_ai.response.time_to_first_chunk" in ours) == (how == "streamed")
