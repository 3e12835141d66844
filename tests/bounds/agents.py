"""Programs that ask as agents do: conversations that grow by answers and by what tools return, with and
without caps, whole and streamed, in three wires.

What they send is text that people and programs wrote: this repository's own pages and modules.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

Body = dict[str, Any]
ROOT = Path(__file__).parents[2]
CAPS = (None, None, None, 512, 1_024, 4_096)
"""Half of all programs send no cap; on the Messages API, which requires one, they send the last."""
MEAN_TURNS = 12
LONGEST = 60_000
"""Bytes of a conversation; a program begins another one then, or cuts the oldest turns."""
WORDS = ["read", "write", "list", "find", "search", "run", "open", "send", "count", "plan"]


class Shape(NamedTuple):
    """What one program's requests are like."""

    model: str
    path: str
    cap: int | None
    stream: bool


class Agent:
    """One program. `body` is its next request; `answered` adds the answer to the conversation."""

    def __init__(self, dice: random.Random, models: tuple[str, ...]) -> None:
        self.dice = dice
        self.models = models
        self._begin()

    def _begin(self) -> None:
        dice = self.dice
        model = dice.choice(self.models)
        path = "/v1/chat/completions"
        if model.startswith("claude"):
            path = "/v1/messages"
        elif dice.random() < 0.3:
            path = "/v1/responses"
        cap = dice.choice(CAPS)
        self.shape = Shape(model, path, cap, dice.random() < 0.5)
        self.system = prose(dice, 300, 6_000)
        self.tools = [self._tool(name) for name in dice.sample(WORDS, dice.choice([0, 2, 5, 9]))]
        self.turns: list[Body] = []
        self.left = 1 + int(dice.expovariate(1 / MEAN_TURNS))

    def body(self) -> Body:
        """The next request."""
        if self.left == 0:
            self._begin()
        self.left -= 1
        again = self.dice.random() < 0.6 and self.turns
        said = code(self.dice, 100, 8_000) if again else prose(self.dice, 40, 2_000)
        self.turns.append({"role": "user", "content": said})
        while sum(len(turn["content"]) for turn in self.turns) > LONGEST:
            del self.turns[:2]
        return self._written()

    def answered(self, text: str) -> None:
        """The program goes on with this answer."""
        self.turns.append({"role": "assistant", "content": text or "-"})

    def failed(self) -> None:
        """The last turn had no answer."""
        self.turns.pop()

    def _written(self) -> Body:
        model, path, cap, stream = self.shape
        body: Body = {"model": model}
        if stream:
            body["stream"] = True
        if path == "/v1/messages":
            body |= {"system": self.system, "messages": list(self.turns)}
            body["max_tokens"] = cap or CAPS[-1]
            named = [{"input_schema" if k == "parameters" else k: v for k, v in t.items()}
                     for t in self.tools]  # fmt: skip
        elif path == "/v1/responses":
            body |= {"instructions": self.system, "input": list(self.turns), "store": False}
            body |= {} if cap is None else {"max_output_tokens": cap}
            named = [{"type": "function", **tool} for tool in self.tools]
        else:
            system = {"role": "system", "content": self.system}
            body["messages"] = [system, *self.turns]
            body |= {} if cap is None else {"max_tokens": cap}
            named = [{"type": "function", "function": tool} for tool in self.tools]
        if named:
            body |= {
                "tools": named,
                "tool_choice": {"type": "none"} if "system" in body else "none",
            }
        return body

    def _tool(self, name: str) -> Body:
        described = {"type": "string", "description": prose(self.dice, 40, 200)}
        parameters = {"type": "object", "properties": {"path": described, "note": described}}
        return {"name": name, "description": prose(self.dice, 60, 400), "parameters": parameters}


def prose(dice: random.Random, least: int, most: int) -> str:
    """A piece of a page, of a length that is as often short as long."""
    return _piece(dice, _PAGES, least, most)


def code(dice: random.Random, least: int, most: int) -> str:
    """A piece of what a tool returned: a module, a table, a file of JSON."""
    return _piece(dice, _FILES, least, most)


def _piece(dice: random.Random, texts: list[str], least: int, most: int) -> str:
    text = dice.choice(texts)
    size = round(least * (most / least) ** dice.random())
    start = dice.randrange(max(1, len(text) - size))
    return text[start : start + size]


def answer_of(path: str, stream: bool, data: bytes) -> str:
    """The text of an answer, however it came."""
    if not stream:
        answer = json.loads(data)
        if path == "/v1/messages":
            return "".join(part.get("text", "") for part in answer["content"])
        if path == "/v1/responses":
            parts = [p for item in answer["output"] for p in item.get("content") or ()]
            return "".join(part.get("text", "") for part in parts)
        return answer["choices"][0]["message"]["content"] or ""
    found = ""
    for line in data.split(b"\n"):
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            delta = event.get("delta")
            if isinstance(delta, str):
                found += delta
            elif isinstance(delta, dict):
                found += delta.get("text") or ""
            for choice in event.get("choices") or ():
                found += choice["delta"].get("content") or ""
    return found


def _read(pattern: str) -> list[str]:
    return [path.read_text() for path in sorted(ROOT.glob(pattern)) if path.stat().st_size > 10_000]


_PAGES = _read("docs/*.md")
_FILES = _read("service/spanledger/*/*.py") + _read("grafana/dashboards/*.json")
