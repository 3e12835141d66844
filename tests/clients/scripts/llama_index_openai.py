"""LlamaIndex with its openai package."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from said import HELLO, WEATHER, run

# setup
from llama_index.llms.openai import OpenAI


def llm(model: str) -> OpenAI:
    """A model of LlamaIndex."""
    return OpenAI(model=model)


# end


def whole(model: str) -> dict[str, Any]:
    return {"text": llm(model).complete(HELLO).text}


def streamed(model: str) -> dict[str, Any]:
    return {"pieces": [part.delta or "" for part in llm(model).stream_complete(HELLO)]}


def tool(model: str) -> dict[str, Any]:
    calls = []

    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    async def ask() -> Any:
        return await FunctionAgent(tools=[get_weather], llm=llm(model)).run(WEATHER)

    return {"calls": calls, "text": str(asyncio.run(ask()))}


run(whole=whole, streamed=streamed, tool=tool)
