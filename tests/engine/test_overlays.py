"""All vendor layers together, each sending to a sink on this machine."""

from __future__ import annotations

import contextlib

from tests.engine.conftest import Install
from tests.engine.installation import ROOT, VISIBLE_S
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import poll

HOST = "172.17.0.1"
"""This machine's address, reachable from containers on any network."""
ADDRESSES = {
    "datadog": "DATADOG_OTLP_URL",
    "grafana-cloud": "GRAFANA_CLOUD_OTLP_ENDPOINT",
    "honeycomb": "HONEYCOMB_API_ENDPOINT",
    "langfuse": "LANGFUSE_HOST",
    "langsmith": "LANGSMITH_ENDPOINT",
    "otlp": "OTLP_ENDPOINT",
    "phoenix": "PHOENIX_COLLECTOR_ENDPOINT",
    "traceloop": "TRACELOOP_ENDPOINT",
}
"""The variable of each vendor's address."""
SECRETS = {
    "DD_API_KEY": "made-up",
    "GRAFANA_CLOUD_OTLP_AUTH": "made-up",
    "HONEYCOMB_API_KEY": "made-up",
    "LANGFUSE_AUTH": "made-up",
    "LANGSMITH_API_KEY": "made-up",
    "TRACELOOP_API_KEY": "made-up",
}


def test_every_vendor_gets_the_request(install: Install) -> None:
    """With all layers enabled in .env, each vendor gets the spans of a request."""
    vendors = sorted(
        p.stem.removeprefix("vendor-") for p in (ROOT / "compose").glob("vendor-*.yml")
    )
    assert vendors == sorted(ADDRESSES)
    with contextlib.ExitStack() as sinks:
        opened = {name: sinks.enter_context(OtlpSink(host="0.0.0.0")) for name in vendors}
        given = {ADDRESSES[name]: f"http://{HOST}:{sink.port}" for name, sink in opened.items()}
        layers = [f"compose/vendor-{name}.yml" for name in vendors]
        layers.append("compose/tail-sampling.yml")
        settings = {"COMPOSE_FILE": ":".join(["docker-compose.yml", *layers]), **given, **SECRETS}
        stack = install()
        (stack.folder / ".env").write_text(
            "".join(f"{key}={value}\n" for key, value in settings.items()), "utf-8"
        )

        stack.run("make", "up").well()
        answer = stack.ask(stack.key("vendors"))
        assert answer.status_code == 200, answer.text
        trace = answer.headers["x-spanledger-trace-id"]

        def lacking() -> set[str]:
            return {
                name
                for name, sink in opened.items()
                if trace not in {span.trace_id for span in sink.by_id().values()}
            }

        assert poll(lambda: not lacking(), VISIBLE_S), lacking()
        stack.close()
