"""LiteLLM's SDK with a model of OpenAI."""

from __future__ import annotations

import json
from typing import Any

from said import HELLO, WEATHER, run

# setup
import litellm


def name(model: str) -> str:
    """What LiteLLM calls it."""
    return f"openai/{model}"


# end


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def whole(model: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": HELLO}]
    answer = litellm.completion(model=name(model), messages=turns)
    return {"text": answer.choices[0].message.content}


def streamed(model: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": HELLO}]
    chunks = litellm.completion(model=name(model), messages=turns, stream=True)
    return {"pieces": [chunk.choices[0].delta.content or "" for chunk in chunks]}


def tool(model: str) -> dict[str, Any]:
    turns: list[Any] = [{"role": "user", "content": WEATHER}]
    asked = litellm.completion(model=name(model), messages=turns, tools=[TOOL])
    message = asked.choices[0].message
    (call,) = message.tool_calls
    turns += [message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}]
    final = litellm.completion(model=name(model), messages=turns, tools=[TOOL])
    arguments = json.loads(call.function.arguments)
    return {
        "calls": [[call.function.name, arguments]],
        "text": final.choices[0].message.content,
    }


run(whole=whole, streamed=streamed, tool=tool)
