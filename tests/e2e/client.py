"""One call with the openai package, as a program: `client.py URL whole|streamed [instrumented]`.

With `instrumented` it uses OpenLLMetry's instrumentation, and prints its span's attributes.
A separate process, because instrumenting patches the package permanently.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Find it",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}
CALL: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the capital of Peru?"},
    ],
    "temperature": 0.5,
    "top_p": 0.9,
    "max_tokens": 24,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "tools": [TOOL],
}


def ask(base_url: str, *, stream: bool) -> None:
    """The same call, whatever the base URL."""
    more: dict[str, Any] = (
        {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    )
    with openai.OpenAI(base_url=base_url, api_key="sk-any", max_retries=0) as client:
        answer = client.chat.completions.create(**CALL, **more)
        if stream:
            for _ in answer:
                pass


def ask_instrumented(base_url: str, *, stream: bool) -> dict[str, Any]:
    """The attributes of the span created by the client's own instrumentation."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    ask(base_url, stream=stream)
    (span,) = exporter.get_finished_spans()
    return dict(span.attributes or {})


if __name__ == "__main__":
    url, how, *rest = sys.argv[1:]
    if rest:
        sys.stdout.write(json.dumps(ask_instrumented(url, stream=how == "streamed")))
    else:
        ask(url, stream=how == "streamed")
