"""The `llm` package with its plugin for Anthropic's models."""

from __future__ import annotations

import re
from typing import Any

from said import HELLO, WEATHER, run

# setup
import llm


def chat(model: str) -> llm.Model:
    """A model of llm, by its name there, such as `claude-haiku-4.5`. The plugin sends Anthropic's own
    name, `claude-haiku-4-5-20251001`, so the route needs that name or alias."""
    return llm.get_model(model)


# end


def named(model: str) -> llm.Model:
    return chat(re.sub(r"(\d)-(\d)$", r"\1.\2", model))


def whole(model: str) -> dict[str, Any]:
    return {"text": named(model).prompt(HELLO, stream=False).text()}


def streamed(model: str) -> dict[str, Any]:
    return {"pieces": list(named(model).prompt(HELLO))}


def tool(model: str) -> dict[str, Any]:
    calls = []

    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    chain = named(model).chain(WEATHER, tools=[get_weather], stream=False)
    texts = [response.text() for response in chain.responses()]
    return {"text": texts[-1].lstrip(), "calls": calls}  # it puts a blank between two answers


run(whole=whole, streamed=streamed, tool=tool)
