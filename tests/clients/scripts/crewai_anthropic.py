"""CrewAI with Anthropic's models."""

from __future__ import annotations

from typing import Any

from crewai import Agent, Crew, Task
from crewai.tools import tool as as_tool
from said import HELLO, WEATHER, run

# setup
from crewai import LLM


def llm(model: str, **more: Any) -> LLM:
    """A model of CrewAI."""
    return LLM(model=f"anthropic/{model}", **more)


# end


def crew(model: str, task: str, tools: list[Any]) -> str:
    helper = Agent(role="Helper", goal="Answer", backstory="Brief.", llm=llm(model), tools=tools)
    asked = Task(description=task, expected_output="A sentence.", agent=helper)
    return Crew(agents=[helper], tasks=[asked]).kickoff().raw


def whole(model: str) -> dict[str, Any]:
    return {"text": crew(model, HELLO, [])}


def tool(model: str) -> dict[str, Any]:
    calls = []

    @as_tool("get_weather")
    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    return {"text": crew(model, WEATHER, [get_weather]), "calls": calls}


run(whole=whole, tool=tool)
