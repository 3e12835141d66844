"""The openai client under OpenInference: a chat with a tool, a template, an embedding, a refusal."""

from __future__ import annotations

import contextlib
import json

import openai
from openinference.instrumentation import using_prompt_template
from openinference.instrumentation.openai import OpenAIInstrumentor
from otel import planted, traced

provider = traced()
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = openai.OpenAI(max_retries=0)
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": planted("tool_description"),
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
    },
}

with using_prompt_template(
    template=planted("template"), variables=json.dumps({"v": planted("template_variable")})
):
    client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[
            {"role": "system", "content": planted("system")},
            {"role": "user", "content": planted("user")},
        ],
        tools=[TOOL],
        user=planted("end_user"),
    )
client.embeddings.create(model="text-embedding-3-small", input=planted("embedding"))
with contextlib.suppress(openai.APIStatusError):
    client.chat.completions.create(
        model="refuse", messages=[{"role": "user", "content": planted("refused")}]
    )
provider.force_flush()
