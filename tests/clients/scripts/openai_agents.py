"""OpenAI's Agents SDK."""

from __future__ import annotations

import asyncio
from typing import Any

from said import HELLO, WEATHER, run

# setup
from agents import Agent, Runner, function_tool


def agent(model: str, **more: Any) -> Agent:
    """An agent of the SDK."""
    return Agent(name="Helper", model=model, **more)


# end


loop = asyncio.new_event_loop()


def whole(model: str) -> dict[str, Any]:
    return {"text": loop.run_until_complete(Runner.run(agent(model), HELLO)).final_output}


def streamed(model: str) -> dict[str, Any]:
    async def ask() -> list[str]:
        events = Runner.run_streamed(agent(model), HELLO).stream_events()
        raw = [event.data async for event in events if event.type == "raw_response_event"]
        return [event.delta for event in raw if event.type == "response.output_text.delta"]

    return {"pieces": loop.run_until_complete(ask())}


def tool(model: str) -> dict[str, Any]:
    calls = []

    @function_tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    done = loop.run_until_complete(Runner.run(agent(model, tools=[get_weather]), WEATHER))
    return {"calls": calls, "text": done.final_output}


run(whole=whole, streamed=streamed, tool=tool)
