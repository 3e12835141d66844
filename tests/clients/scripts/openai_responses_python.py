"""OpenAI's package for Python, on the Responses API."""

from __future__ import annotations

import json
from typing import Any

from said import HELLO, WEATHER, run

# setup
import openai

client = openai.OpenAI()
# end

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def whole(model: str) -> dict[str, Any]:
    return {"text": client.responses.create(model=model, input=HELLO).output_text}


def streamed(model: str) -> dict[str, Any]:
    with client.responses.stream(model=model, input=HELLO) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == "".join(pieces)
    return {"pieces": pieces}


def tool(model: str) -> dict[str, Any]:
    turns: list[Any] = [{"role": "user", "content": WEATHER}]
    asked = client.responses.create(model=model, input=turns, tools=[TOOL])
    (call,) = (item for item in asked.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    final = client.responses.create(
        model=model, input=[*turns, *asked.output, result], tools=[TOOL]
    )
    return {"calls": [[call.name, json.loads(call.arguments)]], "text": final.output_text}


run(whole=whole, streamed=streamed, tool=tool)
