"""The `llm` package, which the command of that name uses as well."""

from __future__ import annotations

from typing import Any

from said import HELLO, WEATHER, run

# setup
import llm


def chat(model: str) -> llm.Model:
    """A model of llm."""
    return llm.get_model(model)


# end


def whole(model: str) -> dict[str, Any]:
    return {"text": chat(model).prompt(HELLO, stream=False).text()}


def streamed(model: str) -> dict[str, Any]:
    return {"pieces": list(chat(model).prompt(HELLO))}


def tool(model: str) -> dict[str, Any]:
    calls = []

    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    chain = chat(model).chain(WEATHER, tools=[get_weather], stream=False)
    return {"text": chain.text(), "calls": calls}


run(whole=whole, streamed=streamed, tool=tool)
