"""LiteLLM as a library, with its own OpenTelemetry callback."""

from __future__ import annotations

import contextlib

import litellm
from litellm.litellm_core_utils.thread_pool_executor import executor
from opentelemetry import metrics, trace
from otel import planted

litellm.callbacks = ["otel"]
litellm.suppress_debug_info = True
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": planted("tool_description"),
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}

litellm.completion(
    model="openai/gpt-4o-mini",
    messages=[
        {"role": "system", "content": planted("system")},
        {"role": "user", "content": planted("user")},
    ],
    tools=[TOOL],
    user=planted("end_user"),
    metadata={"note": planted("metadata"), "tags": [planted("tag")]},
    num_retries=0,
)
litellm.embedding(model="openai/text-embedding-3-small", input=[planted("embedding")])
with contextlib.suppress(litellm.exceptions.BadRequestError):
    litellm.completion(
        model="openai/refuse",
        messages=[{"role": "user", "content": planted("refused")}],
        num_retries=0,
    )
executor.shutdown(wait=True)  # its callbacks run there
for one in (trace.get_tracer_provider(), metrics.get_meter_provider()):
    if hasattr(one, "force_flush"):
        one.force_flush()
