"""The simulated model's answers: random from a seed, the same for the same request.

It owns an answer's content, length and pace. It knows nothing about wires or money.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
import re
from dataclasses import dataclass, field
from typing import Literal

from spanledger.sim.prompt import Prompt, Tool
from spanledger.sim.sampling import WORDS, sample
from spanledger.sim.scenarios import Fault
from spanledger.sim.tokens import COUNTING, tokens, truncate

Finish = Literal["stop", "length", "tool_calls", "content_filter", "stop_sequence"]

OUTPUT_TOKENS_DEFAULT_MAX = 16_384
_REASONING = re.compile(r"(?:^|/)o\d|reason", re.IGNORECASE)
_EFFORT = {"none": 0.0, "minimal": 0.0, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 3.0}
_SMALL = re.compile(r"mini|nano|haiku|flash|small", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model calls; `arguments` is JSON, truncated at the token cap."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One alternative of the answer. `thinking` is visible, `reasoning_tokens` are hidden."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"
    thinking: str = ""
    reasoning_tokens: int = 0
    stop_sequence: str = ""

    @property
    def visible_tokens(self) -> int:
        """Number of tokens that are streamed."""
        calls = sum(tokens(call.arguments) for call in self.calls)
        return tokens(self.thinking) + tokens(self.text) + calls

    @property
    def tokens(self) -> int:
        """Number of tokens of this choice."""
        return self.reasoning_tokens + self.visible_tokens


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the model is: seconds until it starts, then tokens per second."""

    first_s: float
    tokens_per_s: float

    def due_s(self, produced: int) -> float:
        """When the n-th token has been produced, in seconds after the request."""
        return self.first_s + produced / self.tokens_per_s


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; the wires encode it."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    pace: Pace
    created_s: int

    @property
    def tokens(self) -> int:
        """Output tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        """Hidden and visible thinking tokens of all choices."""
        return sum(choice.reasoning_tokens + tokens(choice.thinking) for choice in self.choices)


@dataclass(slots=True)
class Dice:
    """A random generator and ids that depend only on a seed and a key."""

    key: bytes
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(int.from_bytes(self.key, "big"))

    @classmethod
    def of(cls, seed: int, *parts: bytes) -> Dice:
        """Dice for one seed, purpose, content and occurrence."""
        key = hashlib.blake2b(b"\0".join((str(seed).encode(), *parts)), digest_size=32)
        return cls(key.digest())

    def name(self, prefix: str, length: int = 24) -> str:
        """An id in the providers' format."""
        alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        return prefix + "".join(self.rng.choices(alphabet, k=length))


def write(
    prompt: Prompt, dice: Dice, fault: Fault | None, *, id_prefix: str, created_s: int
) -> Answer:
    """Generate the answer to a prompt."""
    answer_id = dice.name(id_prefix)
    pace = draw_pace(prompt.model, dice.rng)
    choices = tuple(_choice(prompt, dice, fault) for _ in range(prompt.choices))
    return Answer(answer_id, prompt.model, choices, pace, created_s)


def draw_pace(model: str, rng: random.Random) -> Pace:
    """How fast this call is: small models are faster; time to first token has a long tail."""
    small = bool(_SMALL.search(model))
    first_s = (0.22 if small else 0.45) * rng.lognormvariate(-0.08, 0.4)
    rate = (140.0 if small else 75.0) * rng.lognormvariate(-0.02, 0.2)
    return Pace(min(first_s, 5.0), max(rate, 5.0))


def _choice(prompt: Prompt, dice: Dice, fault: Fault | None) -> Choice:
    rng = dice.rng
    asked = prompt.output_tokens_max
    cap = OUTPUT_TOKENS_DEFAULT_MAX if asked is None else asked
    wanted = round(rng.lognormvariate(math.log(80), 0.6))
    wanted = max(8, min(wanted, 800))
    if prompt.script.output_tokens is not None:
        wanted = prompt.script.output_tokens
    thought = min(_reasoning_tokens(prompt, rng), cap)
    shown = min(thought, prompt.thinking_tokens_max)
    hidden = 0 if prompt.thinking_tokens_max else thought
    left = cap - (shown or hidden)
    thinking = _prose(rng, shown) if shown else ""
    if calls := _tool_calls(prompt, dice):
        kept, finish = _cut_calls(calls, left)
        return Choice("", kept, finish, thinking, hidden)
    filtered = fault is not None and fault.name == "content_filter"
    text = _text(prompt, rng, wanted)
    finish, sequence = "stop", ""
    for mark in prompt.stop:
        if mark and mark in text:
            text, finish, sequence = text[: text.index(mark)], "stop_sequence", mark
    if filtered and fault is not None and fault.after is not None and fault.after <= left:
        text, finish = truncate(text, fault.after), "content_filter"
    elif tokens(text) > left:
        text, finish = truncate(text, left), "length"
    if finish != "stop_sequence":
        sequence = ""
    return Choice(text, (), finish, thinking, hidden, sequence)


def _text(prompt: Prompt, rng: random.Random, wanted: int) -> str:
    if prompt.answer_text is not None:
        return prompt.answer_text
    if prompt.schema is not None:
        value = sample(prompt.schema, rng) if prompt.schema else None
        if not isinstance(value, dict):
            value = {"answer": _prose(rng, max(1, wanted // 2)), "confidence": 0.5}
        return json.dumps(value, separators=(",", ":"))
    return _prose(rng, wanted)


def _prose(rng: random.Random, count: int) -> str:
    """English-looking text of exactly `count` tokens."""
    size = count * COUNTING.get().text
    if size < 2:
        return "." * size
    text = " ".join(rng.choices(WORDS, k=size // 4 + 2)).capitalize()
    while len(text) < size:
        text += " " + rng.choice(WORDS)
    return text[: size - 1].rstrip().ljust(size - 1, "e") + "."


def _reasoning_tokens(prompt: Prompt, rng: random.Random) -> int:
    if not (prompt.thinking_tokens_max or prompt.reasoning or _REASONING.search(prompt.model)):
        return 0
    effort = _EFFORT.get(prompt.reasoning or "medium", 1.0)
    return round(rng.randint(32, 256) * effort)


def _tool_calls(prompt: Prompt, dice: Dice) -> list[ToolCall]:
    if not prompt.tools or prompt.tools_barred:
        return []
    asked = prompt.asked.lower()
    named = [tool for tool in prompt.tools if tool.name and tool.name.lower() in asked]
    if prompt.force_tool == "*":
        chosen = named[:1] or [prompt.tools[0]]
    elif prompt.force_tool:
        chosen = [tool for tool in prompt.tools if tool.name == prompt.force_tool][:1]
    else:
        chosen = named or ([prompt.tools[0]] if re.search(r"\btools?\b", asked) else [])
    if not prompt.parallel_tools:
        chosen = chosen[:1]
    prefix = "toolu_" if prompt.wire == "anthropic" else "call_"
    return [
        ToolCall(dice.name(prefix), tool.name, _arguments(tool, prompt.asked, dice))
        for tool in chosen
    ]


def _arguments(tool: Tool, asked: str, dice: Dice) -> str:
    """What the prompt has right after the tool's name if that is an object, else a sample."""
    value = sample(tool.schema, dice.rng)
    if match := re.search(rf"\b{re.escape(tool.name)}\s*(?={{)", asked):
        with contextlib.suppress(ValueError):
            value, _ = json.JSONDecoder().raw_decode(asked, match.end())
    return json.dumps(value if isinstance(value, dict) else {}, separators=(",", ":"))


def _cut_calls(calls: list[ToolCall], left: int) -> tuple[tuple[ToolCall, ...], Finish]:
    kept: list[ToolCall] = []
    for call in calls:
        size = tokens(call.arguments)
        if size > left:
            kept.append(ToolCall(call.id, call.name, truncate(call.arguments, left)))
            return tuple(kept), "length"
        kept.append(call)
        left -= size
    return tuple(kept), "tool_calls"
