"""AutoGen with its client of Anthropic."""

from __future__ import annotations

import asyncio
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from said import HELLO, WEATHER, run

# setup
from autogen_core.models import ModelInfo
from autogen_ext.models.anthropic import AnthropicChatCompletionClient

# Only for models that AutoGen does not know.
info = ModelInfo(
    vision=True, function_calling=True, json_output=False, family="claude", structured_output=False
)


def client(model: str) -> AnthropicChatCompletionClient:
    """A client of AutoGen."""
    return AnthropicChatCompletionClient(model=model, model_info=info)


# end


def whole(model: str) -> dict[str, Any]:
    async def ask() -> Any:
        return await client(model).create([UserMessage(content=HELLO, source="user")])

    return {"text": asyncio.run(ask()).content}


def streamed(model: str) -> dict[str, Any]:
    async def ask() -> list[str]:
        stream = client(model).create_stream([UserMessage(content=HELLO, source="user")])
        return [part async for part in stream if isinstance(part, str)]

    return {"pieces": asyncio.run(ask())}


def tool(model: str) -> dict[str, Any]:
    calls = []

    async def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    async def ask() -> Any:
        agent = AssistantAgent(
            "helper", client(model), tools=[get_weather], reflect_on_tool_use=True
        )
        return await agent.run(task=WEATHER)

    return {"calls": calls, "text": asyncio.run(ask()).messages[-1].content}


run(whole=whole, streamed=streamed, tool=tool)
