"""What each Claude model accepts, by its name.

Anthropic adds and removes features by version, and refuses what a model no longer knows. For a name
without a version, such as an alias of a relay, nothing is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_NAME = re.compile(
    r"claude-(?P<family>[a-z]+)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2})(?!\d))?(?!\d)"
    r"|claude-(?P<old_major>\d)(?:[-.](?P<old_minor>\d))?-(?P<old_family>[a-z]+)"
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model accepts.

    Attributes:
        budget: thinking with a budget of tokens (3.7 to 4.6).
        adaptive: adaptive thinking, and effort (from 4.6).
        top_effort: the effort `xhigh` (from 4.7).
        sampling: `temperature`, `top_p` and `top_k`: any of them; one of temperature and top_p
            (Opus from 4.1, the others from 4.5); or none (from 4.7).
        prefill: a conversation that ends with the assistant's turn (before 4.6).
        thinks_on_demand: `thinking: disabled` may be sent (before 4.7).
    """

    budget: bool = True
    adaptive: bool = True
    top_effort: bool = True
    sampling: Literal["any", "one", "none"] = "any"
    prefill: bool = True
    thinks_on_demand: bool = True


UNKNOWN = Abilities()


@lru_cache(maxsize=1024)
def abilities_of(model: str) -> Abilities:
    """What the model of this name accepts."""
    match = _NAME.search(model)
    if match is None:
        return UNKNOWN
    family = match["family"] or match["old_family"]
    version = (
        int(match["major"] or match["old_major"]),
        int(match["minor"] or match["old_minor"] or 0),
    )
    single = version >= ((4, 1) if family == "opus" else (4, 5))
    return Abilities(
        budget=(3, 7) <= version < (4, 7),
        adaptive=version >= (4, 6),
        top_effort=version >= (4, 7),
        sampling="none" if version >= (4, 7) else "one" if single else "any",
        prefill=version < (4, 6),
        thinks_on_demand=version < (4, 7),
    )
