"""smolagents with its OpenAI model."""

from __future__ import annotations

from typing import Any

from said import HELLO, run
from smolagents import ToolCallingAgent
from smolagents import tool as as_tool

# setup
from smolagents import OpenAIModel


def chat(model: str) -> OpenAIModel:
    """A model of smolagents."""
    return OpenAIModel(model_id=model)


# end


def whole(model: str) -> dict[str, Any]:
    return {"text": chat(model).generate([{"role": "user", "content": HELLO}]).content}


def streamed(model: str) -> dict[str, Any]:
    parts = chat(model).generate_stream([{"role": "user", "content": HELLO}])
    return {"pieces": [part.content or "" for part in parts]}


def tool(model: str) -> dict[str, Any]:
    calls = []

    @as_tool
    def get_weather(city: str) -> str:
        """Weather of a city.

        Args:
            city: which one
        """
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    agent = ToolCallingAgent([get_weather], chat(model), max_steps=1, verbosity_level=0)
    text = agent.run("What is the weather in Lima?")
    return {"calls": calls, "text": text}


run(whole=whole, streamed=streamed, tool=tool)
