"""What a request can use up: tokens, and what makes them more expensive than text.

A hold is as good as this reading: whatever a provider bills that is not bounded here can pass a
budget. So a request that asks for what nothing bounds says so.
"""

from __future__ import annotations

import msgspec

SERVICE_FIELDS = ("service_tier", "speed", "inference_geo")
"""Fields that choose how a request is served, in the order in which a price names them."""


class Demand(msgspec.Struct):
    """What a request can use up, wherever it goes.

    Attributes:
        input_tokens: a bound, unless `learnt`.
        cap: output tokens of one choice the caller allows; None = no cap; 0 for embeddings.
        usual: output tokens of one choice to expect: the cap, or what history says.
        choices: answers asked for.
        tokens: what rpm and tpm are counted with.
        predicted: output tokens that may be billed on top of the answers: a rejected prediction.
        sound: the input may contain audio.
        speech: the answer may be spoken.
        services: values of the fields that choose how it is served, by name.
        fixed: no cap can shorten the answer, so a hold is for all of it.
        unit: what it may be billed by other than tokens (`Price.units`).
        units: how many of these at most.
        inputs: how many texts the model reads one by one: its longest prompt bounds each. 0: a
            longer text is not refused, so nothing does.
        unbounded: fields that nothing bounds, and what to say of them.
        must_cap: the wire makes every caller send a cap, so the answer may be expected to be
            shorter, and close to a limit a lower cap is sent; `usual` is then what the request
            needs at least.
        in_one: the model answers in one piece, so its longest answer bounds one above `cap` too.
        unwritten: nothing of the input is written to a cache.
        learnt: `input_tokens` is what such texts have had at most, and a quarter more.
    """

    input_tokens: int
    cap: int | None
    usual: int
    choices: int
    tokens: int
    predicted: int = 0
    sound: bool = False
    speech: bool = False
    fixed: bool = False
    unit: str = ""
    units: int = 0
    inputs: int = 1
    services: dict[str, str] = msgspec.field(default_factory=dict)
    unbounded: dict[str, str] = msgspec.field(default_factory=dict)
    must_cap: bool = False
    in_one: bool = False
    learnt: bool = False
    unwritten: bool = False
