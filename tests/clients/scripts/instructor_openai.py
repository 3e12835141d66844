"""instructor with a model of OpenAI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from said import run

# setup
import instructor


def client(model: str) -> Any:
    """A client of instructor."""
    return instructor.from_provider(f"openai/{model}")


# end


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


TURNS: Any = [{"role": "user", "content": "Describe Lima."}]
MORE: Any = {}


def structured(model: str) -> dict[str, Any]:
    found = client(model).create(response_model=City, messages=TURNS, **MORE)
    return {"data": found.model_dump()}


def streamed(model: str) -> dict[str, Any]:
    parts = client(model).create_partial(response_model=City, messages=TURNS, **MORE)
    *_, last = parts
    return {"data": last.model_dump()}


run(structured=structured, streamed=streamed)
