"""What goes wrong, and when: the grammar of directives and the board of active faults.

It parses directives and decides which one applies to a call; it knows nothing about wires.

A directive is `NAME[:ARGUMENT][;KEY=VALUE]…`, several are joined by `!`:

    429  500  503  529  401  400 …   an error of that status; `retry_after=SECONDS` (429, 503, 529)
    context_window                   400, code context_length_exceeded
    content_filter[:N]               rejected with 400; with N, the answer ends filtered after N tokens
    timeout                          never answers
    reset                            connection reset before answering
    cut:N  stall:N  malformed:N      after N streamed tokens: hang up, fall silent, send a malformed
                                     chunk and hang up (a non-streamed answer: after half its body)
    failed:N                         as cut:N, but the stream says so; a whole answer is a failed one
                                     (Responses only)
    missing_usage  wrong_usage       no usage reported; twice the tokens reported
    garbage                          200 with a body that is not JSON
    huge[:MIB]                       200 with a body (or one event) of that size, 65 MiB by default
    tokens:N                         the answer is N tokens long
    slow:FACTOR                      the answer takes FACTOR times as long

Where a directive is read from, the first wins: header `x-sim-fault`, body `metadata.sim`, the model's
name (`gpt-4o-mini!cut:5`, or `sim-429`), the board (`POST /sim/faults`).

Two more headers script an answer: `x-sim-answer` is its text, percent-encoded, and
`x-sim-output-tokens` its length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

RULES_MAX = 64
DIRECTIVE_CHARACTERS_MAX = 256
HUGE_MIB = 65
HUGE_MIB_MAX = 1024

WireName = Literal["openai", "anthropic", "google"]
STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
_BARE = ("context_window", "timeout", "reset", "missing_usage", "wrong_usage", "garbage")
_COUNTED = ("cut", "stall", "malformed", "failed")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: `name` as in the grammar (`status` for an HTTP error)."""

    name: str
    status: int = 0
    after: int | None = None
    """The argument: tokens after which it occurs, MiB for `huge`."""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """The directives for one call."""

    fault: Fault | None = None
    output_tokens: int | None = None
    slow: float | None = None

    def over(self, other: Script) -> Script:
        """This script, with gaps filled from the other."""
        return Script(
            self.fault or other.fault,
            other.output_tokens if self.output_tokens is None else self.output_tokens,
            other.slow if self.slow is None else self.slow,
        )


NO_SCRIPT = Script()


def parse_script(text: str) -> Script:
    """Read directives joined by `!`.

    Raises:
        ValueError: a directive is not in the grammar; the message quotes it.
    """
    if len(text) > DIRECTIVE_CHARACTERS_MAX:
        raise ValueError(
            f"directives must not be longer than {DIRECTIVE_CHARACTERS_MAX} characters"
        )
    script = NO_SCRIPT
    for part in text.split("!"):
        script = script.over(_parse_directive(part.strip()))
    return script


def split_model(model: str) -> tuple[str, Script]:
    """Split a model's name into the name that is served and priced, and its directives."""
    base, mark, directives = model.partition("!")
    if mark:
        return base, parse_script(directives)
    if base.startswith("sim-"):
        try:
            return base, parse_script(base.removeprefix("sim-"))
        except ValueError:
            return base, NO_SCRIPT
    return base, NO_SCRIPT


def _parse_directive(text: str) -> Script:
    head, *options = text.split(";")
    name, mark, argument = head.strip().partition(":")
    if name == "tokens" and not options:
        return Script(output_tokens=_whole(text, argument, 0, 1_000_000))
    if name == "slow" and not options:
        return Script(slow=_number(text, argument, 0.0, 10_000.0))
    return Script(fault=_parse_fault(text, name, argument if mark else None, options))


def _parse_fault(text: str, name: str, argument: str | None, options: list[str]) -> Fault:
    retry_after: float | None = None
    for option in options:
        key, _, value = option.partition("=")
        if key.strip() != "retry_after":
            raise ValueError(f"{text!r}: the only option is retry_after, not {key.strip()!r}")
        retry_after = _number(text, value, 0.0, 86_400.0)
    if name.isdigit():
        if int(name) not in STATUSES or argument is not None:
            raise ValueError(f"{text!r}: the statuses are {', '.join(map(str, STATUSES))}")
        return Fault("status", status=int(name), retry_after_s=retry_after)
    if options:
        raise ValueError(f"{text!r}: {name!r} has no options")
    if name in _BARE and argument is None:
        return Fault(name)
    if name in _COUNTED and argument is not None:
        return Fault(name, after=_whole(text, argument, 0, 1_000_000))
    if name == "content_filter":
        return Fault(name, after=None if argument is None else _whole(text, argument, 0, 1_000_000))
    if name == "huge":
        return Fault(name, after=_whole(text, argument or str(HUGE_MIB), 1, HUGE_MIB_MAX))
    raise ValueError(f"{text!r} is not a directive such as 429;retry_after=2, cut:5 or timeout")


def _whole(text: str, value: str, low: int, high: int) -> int:
    if not value.isascii() or not value.isdigit() or not low <= int(value[:12]) <= high:
        raise ValueError(f"{text!r}: write a whole number from {low} to {high}, not {value!r}")
    return int(value)


def _number(text: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not low <= number <= high:
        raise ValueError(f"{text!r}: write a number from {low:g} to {high:g}, not {value!r}")
    return number


@dataclass(slots=True)
class Rule:
    """A fault active for some calls, until it is used up or its time is over."""

    id: int
    directive: str
    script: Script
    model: str = "*"
    wire: WireName | Literal["*"] = "*"
    share: float = 1.0
    requests_left: int | None = None
    ends_at: float | None = None
    dealt: int = 0

    def view(self, now: float) -> dict[str, object]:
        """The rule as `GET /sim/faults` shows it."""
        return {
            "id": self.id,
            "model": self.model,
            "wire": self.wire,
            "fault": self.directive,
            "share": self.share,
            "requests_left": self.requests_left,
            "seconds_left": None if self.ends_at is None else max(0.0, self.ends_at - now),
            "dealt": self.dealt,
        }


@dataclass(slots=True)
class Board:
    """The faults switched on through the control endpoint; the oldest matching rule applies."""

    monotonic: Callable[[], float] = time.monotonic
    rules: list[Rule] = field(default_factory=list)
    next_id: int = 1

    def add(self, data: object) -> Rule:
        """Switch a fault on, from the JSON of `POST /sim/faults`.

        Raises:
            ValueError: the data has another shape, or the board is full.
        """
        if not isinstance(data, dict):
            raise ValueError('write an object such as {"model": "gpt-4o-mini", "fault": "429"}')
        known = {"model", "wire", "fault", "retry_after", "share", "for_requests", "for_seconds"}
        if unknown := set(data) - known:
            raise ValueError(f"unknown keys {sorted(unknown)}; known: {sorted(known)}")
        directive = data.get("fault")
        if not isinstance(directive, str | int) or isinstance(directive, bool):
            raise ValueError("`fault` must be a directive such as 429 or cut:5")
        directive = str(directive)
        if data.get("retry_after") is not None:
            directive += f";retry_after={data['retry_after']}"
        wire = data.get("wire", "*")
        if wire not in ("*", *get_args(WireName)):
            raise ValueError("`wire` must be openai, anthropic or *")
        model = data.get("model", "*")
        if not isinstance(model, str):
            raise ValueError("`model` must be a model's name or *")
        share = _control_number(data, "share", 1.0)
        requests = _control_number(data, "for_requests", None)
        seconds = _control_number(data, "for_seconds", None)
        self._expire()
        if len(self.rules) >= RULES_MAX:
            raise ValueError(f"{RULES_MAX} faults are already active; DELETE /sim/faults first")
        rule = Rule(
            id=self.next_id,
            directive=directive,
            script=parse_script(directive),
            model=model,
            wire=wire,
            share=1.0 if share is None else share,
            requests_left=None if requests is None else int(requests),
            ends_at=None if seconds is None else self.monotonic() + seconds,
        )
        self.next_id += 1
        self.rules.append(rule)
        return rule

    def deal(self, wire: str, model: str, chance: float) -> Script:
        """The script for one call; `chance` is the call's own random number in [0, 1)."""
        if not self.rules:
            return NO_SCRIPT
        self._expire()
        for rule in self.rules:
            if rule.wire not in ("*", wire) or rule.model not in ("*", model):
                continue
            if chance >= rule.share:
                continue
            rule.dealt += 1
            if rule.requests_left is not None:
                rule.requests_left -= 1
            return rule.script
        return NO_SCRIPT

    def clear(self, rule_id: int | None = None) -> int:
        """Switch off one fault or all; returns the number of rules removed."""
        kept = [] if rule_id is None else [rule for rule in self.rules if rule.id != rule_id]
        gone = len(self.rules) - len(kept)
        self.rules = kept
        return gone

    def view(self) -> list[dict[str, object]]:
        """The active rules."""
        self._expire()
        now = self.monotonic()
        return [rule.view(now) for rule in self.rules]

    def _expire(self) -> None:
        now = self.monotonic()
        self.rules = [
            rule
            for rule in self.rules
            if (rule.requests_left is None or rule.requests_left > 0)
            and (rule.ends_at is None or now < rule.ends_at)
        ]


def _control_number(data: dict[str, object], name: str, default: float | None) -> float | None:
    value = data.get(name, default)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise ValueError(f"`{name}` must be a number of at least 0")
    return float(value)
