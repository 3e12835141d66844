"""An application with traceloop-sdk and openai, without any of our code.

`application.py NAME OTLP_URL BASE_URL KEY MODEL`: one non-streamed call and one stream in one workflow; prints
the trace's id.
"""

from __future__ import annotations

import sys

import openai
from opentelemetry import trace
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import workflow
from traceloop.sdk.instruments import Instruments


@workflow(name="answer")
def answer(client: openai.OpenAI, model: str) -> str:
    """Send two requests; returns the trace's id."""
    client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "What is a span?"}], max_tokens=20
    )
    with client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "And a trace?"}],
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for _ in stream:
            pass
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


def main() -> None:
    """Set up as OpenLLMetry's documentation says, and send the requests."""
    name, otlp, base_url, key, model = sys.argv[1:6]
    Traceloop.init(app_name=name, api_endpoint=otlp, instruments={Instruments.OPENAI})
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
    sys.stdout.write(f"trace {answer(client, model)}\n")


if __name__ == "__main__":
    main()
