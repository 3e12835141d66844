"""The openai client under OpenTelemetry's own instrumentation, with content on spans and in logs."""

from __future__ import annotations

import contextlib

import openai
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from otel import logged, measured, planted, traced

provider, meters, logs = traced(), measured(), logged()
OpenAIInstrumentor().instrument(
    tracer_provider=provider, meter_provider=meters, logger_provider=logs
)
client = openai.OpenAI(max_retries=0)
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": planted("tool_description"),
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}

client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[
        {"role": "system", "content": planted("system")},
        {"role": "user", "content": planted("user")},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "call-0",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": planted("tool_arguments")},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call-0", "content": planted("tool_result")},
    ],
    tools=[TOOL],
)
client.embeddings.create(model="text-embedding-3-small", input=planted("embedding"))
with contextlib.suppress(openai.APIStatusError):
    client.chat.completions.create(
        model="refuse", messages=[{"role": "user", "content": planted("refused")}]
    )
for each in (provider, meters, logs):
    each.force_flush()
