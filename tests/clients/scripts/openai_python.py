"""OpenAI's package for Python, on chat completions."""

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
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": HELLO}]
    )
    return {"text": answer.choices[0].message.content}


def streamed(model: str) -> dict[str, Any]:
    chunks = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": HELLO}], stream=True
    )
    return {"pieces": [c.choices[0].delta.content or "" for c in chunks if c.choices]}


def tool(model: str) -> dict[str, Any]:
    turns: list[Any] = [{"role": "user", "content": WEATHER}]
    asked = client.chat.completions.create(model=model, messages=turns, tools=[TOOL])
    message = asked.choices[0].message
    (call,) = message.tool_calls or []
    turns += [message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}]
    final = client.chat.completions.create(model=model, messages=turns, tools=[TOOL])
    arguments = json.loads(call.function.arguments)
    return {
        "calls": [[call.function.name, arguments]],
        "text": final.choices[0].message.content,
    }


run(whole=whole, streamed=streamed, tool=tool)
