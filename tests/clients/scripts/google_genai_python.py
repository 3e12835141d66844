"""Google's package for Python."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from said import HELLO, WEATHER, run

# setup
from google import genai

client = genai.Client()
# end


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def whole(model: str) -> dict[str, Any]:
    answer = client.models.generate_content(model=model, contents=HELLO)
    counted = client.models.count_tokens(model=model, contents=HELLO)
    assert counted.total_tokens
    assert f"models/{model}" in [listed.name for listed in client.models.list()]
    return {"text": answer.text}


def streamed(model: str) -> dict[str, Any]:
    chunks = client.models.generate_content_stream(model=model, contents=HELLO)
    return {"pieces": [chunk.text or "" for chunk in chunks]}


def tool(model: str) -> dict[str, Any]:
    calls = []

    def get_weather(city: str) -> str:
        """Weather of a city."""
        calls.append(["get_weather", {"city": city}])
        return "Sunny."

    config: Any = {"tools": [get_weather]}
    answer = client.models.generate_content(model=model, contents=WEATHER, config=config)
    return {"text": answer.text, "calls": calls}


def structured(model: str) -> dict[str, Any]:
    config: Any = {"response_mime_type": "application/json", "response_schema": City}
    answer = client.models.generate_content(model=model, contents="Describe Lima.", config=config)
    assert isinstance(answer.parsed, City)
    return {"data": answer.parsed.model_dump()}


run(whole=whole, streamed=streamed, tool=tool, structured=structured)
