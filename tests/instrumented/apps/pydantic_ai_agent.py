"""An agent of pydantic-ai with a tool: a run, two chats and a tool call."""

from __future__ import annotations

from otel import measured, planted, traced
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings

provider, meters = traced(), measured()
agent = Agent(
    "openai-chat:gpt-4o-mini",
    system_prompt=planted("system"),
    name="helper",
)
agent.instrument = InstrumentationSettings(tracer_provider=provider, meter_provider=meters)


@agent.tool_plain
def look_up(q: str) -> str:
    """Look something up."""
    return planted("tool_result") + q


agent.run_sync(planted("user"))
for each in (provider, meters):
    each.force_flush()
