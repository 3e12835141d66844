"""Anthropic's package for Python."""

from __future__ import annotations

from typing import Any

from said import HELLO, WEATHER, run

# setup
import anthropic

client = anthropic.Anthropic()
# end

TOOL: Any = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
ASKED: Any = {"max_tokens": 1024}


def whole(model: str) -> dict[str, Any]:
    answer = client.messages.create(
        model=model, messages=[{"role": "user", "content": HELLO}], **ASKED
    )
    return {"text": "".join(b.text for b in answer.content if b.type == "text")}


def streamed(model: str) -> dict[str, Any]:
    with client.messages.stream(
        model=model, messages=[{"role": "user", "content": HELLO}], **ASKED
    ) as stream:
        return {"pieces": list(stream.text_stream)}


def tool(model: str) -> dict[str, Any]:
    turns: list[Any] = [{"role": "user", "content": WEATHER}]
    asked = client.messages.create(model=model, messages=turns, tools=[TOOL], **ASKED)
    (call,) = (block for block in asked.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    turns += [
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result]},
    ]
    final = client.messages.create(model=model, messages=turns, tools=[TOOL], **ASKED)
    return {"calls": [[call.name, call.input]], "text": final.content[0].text}


run(whole=whole, streamed=streamed, tool=tool)
