"""What OpenAI's models can be asked for on which wire, by their names.

A test holds these names against the price book, which lists the wire of each model.
"""

from __future__ import annotations

import re

REASONS = re.compile(r"^(?:o\d|gpt-[5-9]|gpt-oss)(?!.*chat)")
"""Models that know `reasoning_effort`; others refuse it."""
RESPONSES_ALONE = re.compile(
    r"(?:o\d|gpt-[\d.]+)(?:-\w+)*?-(?:codex|pro|deep-research)(?![a-z])"
    r"|codex-|computer-use-|gpt-daybreak-|grok-[\d.]+-multi-agent"
)
"""Models that chat completions do not serve."""
TOOLS_APART = re.compile(r"gpt-(?:5\.[4-9]|[6-9])(?!.*chat)")
"""Models that refuse function tools together with reasoning in chat completions."""
THINKS_UNASKED = re.compile(r"gpt-(?:5\.[5-9]|[6-9])(?!.*chat)")
"""Those of them that reason where a request says nothing of it."""
