"""LangChain for Python with its openai package."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from said import HELLO, WEATHER, run

# setup
from langchain_openai import ChatOpenAI


def chat(model: str) -> ChatOpenAI:
    """A model of LangChain."""
    return ChatOpenAI(model=model)


# end


def whole(model: str) -> dict[str, Any]:
    return {"text": chat(model).invoke(HELLO).text}


def streamed(model: str) -> dict[str, Any]:
    return {"pieces": [chunk.text for chunk in chat(model).stream(HELLO)]}


def tool(model: str) -> dict[str, Any]:
    calls = []

    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    agent = create_agent(chat(model), [get_weather])
    done = agent.invoke({"messages": [{"role": "user", "content": WEATHER}]})
    return {"calls": calls, "text": done["messages"][-1].text}


run(whole=whole, streamed=streamed, tool=tool)
