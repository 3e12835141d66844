"""The openai client under OpenLLMetry, within a workflow that has a task and a tool."""

from __future__ import annotations

import contextlib
import os

import openai
from otel import planted
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import task, tool, workflow
from traceloop.sdk.instruments import Instruments

Traceloop.init(
    app_name="openllmetry",
    api_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
    instruments={Instruments.OPENAI},
    disable_batch=True,
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


@tool(name="look_up")
def look_up(q: str) -> str:
    """Answer with text that must not be exported."""
    return planted("tool_result") + q


@task(name="ask")
def ask(question: str) -> None:
    """Send a chat, an embedding, and a request that is refused."""
    client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[
            {"role": "system", "content": planted("system")},
            {"role": "user", "content": question},
        ],
        tools=[TOOL],
        user=planted("end_user"),
    )
    client.embeddings.create(model="text-embedding-3-small", input=planted("embedding"))
    with contextlib.suppress(openai.APIStatusError):
        client.chat.completions.create(
            model="refuse", messages=[{"role": "user", "content": planted("refused")}]
        )


@workflow(name="answer")
def answer(question: str) -> None:
    """The whole workflow."""
    Traceloop.set_association_properties({"note": planted("association")})
    look_up(planted("tool_arguments"))
    ask(question)


answer(planted("user"))
