"""The usage that Google reports: `usage_metadata`.

Thoughts and what tools added to the prompt are in no other count: the total has them all. Source:
`UsageMetadata` of ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.pricing.forms import TOTAL_MISMATCH
from spanledger.pricing.usage import MAX_USAGE_TOKENS, PROMPT_MISSING, Usage


class UsageMetadata(msgspec.Struct, rename="camel"):
    """As it comes; no value makes decoding fail."""

    prompt_token_count: Any = None
    candidates_token_count: Any = None
    thoughts_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    cached_content_token_count: Any = None
    total_token_count: Any = None
    prompt_tokens_details: Any = None
    candidates_tokens_details: Any = None

    def to_usage(self) -> Usage | None:
        """Counting basis of `Usage`; None where nothing was counted."""
        tools, thoughts = (
            _count(self.tool_use_prompt_token_count),
            _count(self.thoughts_token_count),
        )
        given = _count(self.prompt_token_count) + tools
        written = _count(self.candidates_token_count) + thoughts
        total, ambiguity, guessed = _count(self.total_token_count), "", 0
        if total > given + written and total:
            # Whatever else was counted may be output, which is the most expensive.
            guessed, ambiguity = total - given - written, TOTAL_MISMATCH
            written += guessed
        if not (given or written) or max(given, written) > MAX_USAGE_TOKENS:
            return None
        return Usage(
            input_tokens=given,
            output_tokens=written,
            cache_read_input_tokens=min(_count(self.cached_content_token_count), given),
            reasoning_output_tokens=thoughts,
            audio_input_tokens=min(_of(self.prompt_tokens_details, "AUDIO"), given),
            audio_output_tokens=min(_of(self.candidates_tokens_details, "AUDIO"), written),
            image_output_tokens=min(_of(self.candidates_tokens_details, "IMAGE"), written),
            ambiguity=ambiguity or ("" if given else PROMPT_MISSING),
            guessed_output_tokens=guessed,
        )


def shown(usage: Usage | None) -> dict[str, object]:
    """A usage as Google writes it."""
    told = usage or Usage()
    said = told.output_tokens - told.reasoning_output_tokens
    made: dict[str, object] = {
        "promptTokenCount": told.input_tokens,
        "candidatesTokenCount": said,
        "totalTokenCount": told.input_tokens + told.output_tokens,
    }
    if told.cache_read_input_tokens:
        made["cachedContentTokenCount"] = told.cache_read_input_tokens
    if told.reasoning_output_tokens:
        made["thoughtsTokenCount"] = told.reasoning_output_tokens
    return made


def _of(details: Any, modality: str) -> int:
    found = details if isinstance(details, list) else []
    return sum(
        _count(one.get("tokenCount"))
        for one in found
        if isinstance(one, dict) and one.get("modality") == modality
    )


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value <= MAX_USAGE_TOKENS else 0
