"""Haystack with its OpenAI generator."""

from __future__ import annotations

from typing import Any

from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage
from haystack.tools import tool as as_tool
from said import HELLO, WEATHER, run

# setup
from haystack.components.generators.chat import OpenAIResponsesChatGenerator


def generator(model: str, **more: Any) -> OpenAIResponsesChatGenerator:
    """A generator of Haystack."""
    return OpenAIResponsesChatGenerator(model=model, **more)


# end


def whole(model: str) -> dict[str, Any]:
    answer = generator(model).run([ChatMessage.from_user(HELLO)])
    return {"text": answer["replies"][0].text}


def streamed(model: str) -> dict[str, Any]:
    pieces: list[str] = []
    generator(model, streaming_callback=lambda part: pieces.append(part.content)).run(
        [ChatMessage.from_user(HELLO)]
    )
    return {"pieces": pieces}


def tool(model: str) -> dict[str, Any]:
    calls = []

    @as_tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    agent = Agent(chat_generator=generator(model), tools=[get_weather])
    done = agent.run(messages=[ChatMessage.from_user(WEATHER)])
    return {"calls": calls, "text": done["messages"][-1].text}


run(whole=whole, streamed=streamed, tool=tool)
