"""Pydantic AI with a model of Anthropic."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from said import HELLO, WEATHER, run

# setup
from pydantic_ai import Agent


def agent(model: str, **more: Any) -> Agent[Any, Any]:
    """An agent of Pydantic AI."""
    return Agent(f"anthropic:{model}", **more)


# end


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def whole(model: str) -> dict[str, Any]:
    return {"text": agent(model).run_sync(HELLO).output}


def streamed(model: str) -> dict[str, Any]:
    stream = agent(model).run_stream_sync(HELLO)
    return {"pieces": list(stream.stream_text(delta=True, debounce_by=None))}


def tool(model: str) -> dict[str, Any]:
    calls = []

    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    return {"text": agent(model, tools=[get_weather]).run_sync(WEATHER).output, "calls": calls}


def structured(model: str) -> dict[str, Any]:
    found = agent(model, output_type=City).run_sync("Describe Lima.").output
    return {"data": found.model_dump()}


run(whole=whole, streamed=streamed, tool=tool, structured=structured)
