"""The usage of an attempt, in one shape for all providers.

Counting basis (OpenTelemetry GenAI conventions v1.41): `input_tokens` includes cached tokens,
`output_tokens` includes reasoning tokens. `reported` turns what providers report into this shape,
by the tables in `forms`.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

MAX_USAGE_TOKENS = 1_000_000_000
"""No attempt uses more; a larger number is garbage, not usage."""
BYTES_PER_TOKEN = 4

PROMPT_MISSING = "prompt_missing"
TOTAL_ALONE = "total_alone"
COUNT_DECREASED = "count_decreased"


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one attempt.

    Attributes:
        input_tokens: all input, cached reads and cache writes included.
        output_tokens: all output, reasoning included.
        cache_read_input_tokens: part of `input_tokens` read from the provider's cache.
        cache_write_input_tokens: part of `input_tokens` written to the provider's cache.
        reasoning_output_tokens: part of `output_tokens` spent on reasoning.
        cache_write_1h_input_tokens: part of `cache_write_input_tokens` kept for an hour
            (Anthropic's `cache_creation.ephemeral_1h_input_tokens`).
        audio_input_tokens: part of `input_tokens` that is audio, cached or not.
        audio_output_tokens: part of `output_tokens` that is audio.
        image_input_tokens: part of `input_tokens` that is images.
        image_output_tokens: part of `output_tokens` that is images.
        searches: web searches that the provider made and bills one by one.
        unit: what else the attempt may be billed by (`Price.units`); empty for tokens alone.
        units: how many of these.
        ambiguity: why the provider's counts can be read in more than one way (a key of
            `forms.AMBIGUITIES`); the more expensive reading is then used. Empty if they are clear.
        guessed_output_tokens: part of `output_tokens` that the provider reported as something
            else, or only within a total.
        told_nano: what the provider says it charges, nano-USD; 0 if it does not say.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    searches: int = 0
    ambiguity: str = ""
    guessed_output_tokens: int = 0
    told_nano: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    unit: str = ""
    units: int = 0

    def plus(self, other: Usage) -> Usage:
        """The sum of both, part by part."""
        summed = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__struct_fields__
            if name not in ("ambiguity", "unit")
        }
        unit = self.unit or other.unit
        return Usage(**summed, ambiguity=self.ambiguity or other.ambiguity, unit=unit)

    def followed_by(self, later: Usage) -> Usage:
        """The counts of a stream that reported both, this one first.

        Counts of a stream are cumulative, so the later ones replace the earlier ones. A count that is
        zero or missing there does not undo an earlier one. If any other count falls, the larger one is
        kept, and the usage is ambiguous.
        """
        if later.ambiguity == TOTAL_ALONE:
            return self
        earlier_input = later.input_tokens < self.input_tokens or (
            later.input_tokens == self.input_tokens and not later._input_parts()
        )
        earlier_output = later.output_tokens < self.output_tokens
        if self.told_nano and not later.told_nano:
            later = replace(later, told_nano=self.told_nano)
        if self.searches and not later.searches:
            later = replace(later, searches=self.searches)
        if not (earlier_input or earlier_output):
            return later
        merged = later
        if earlier_input:
            merged = replace(
                merged,
                input_tokens=self.input_tokens,
                cache_read_input_tokens=self.cache_read_input_tokens,
                cache_write_input_tokens=self.cache_write_input_tokens,
                cache_write_1h_input_tokens=self.cache_write_1h_input_tokens,
                audio_input_tokens=self.audio_input_tokens,
            )
        if earlier_output:
            merged = replace(
                merged,
                output_tokens=self.output_tokens,
                reasoning_output_tokens=self.reasoning_output_tokens,
                audio_output_tokens=self.audio_output_tokens,
                guessed_output_tokens=self.guessed_output_tokens,
            )
        fell = 0 < later.input_tokens < self.input_tokens or (
            0 < later.output_tokens < self.output_tokens
        )
        return replace(merged, ambiguity=COUNT_DECREASED if fell else self._still(later))

    def _still(self, later: Usage) -> str:
        """Why the usage is still ambiguous once later counts are added."""
        told = self.input_tokens or later.input_tokens
        found = (later.ambiguity, self.ambiguity)
        return next((why for why in found if why and not (told and why == PROMPT_MISSING)), "")

    def _input_parts(self) -> int:
        return (
            self.cache_read_input_tokens + self.cache_write_input_tokens + self.audio_input_tokens
        )


def estimate_tokens(utf8_bytes: int) -> int:
    """An estimate of the tokens of a text, at four bytes each, rounded up.

    Providers give four characters per token as the rule for English; source code and other alphabets
    have more tokens per character, but also more bytes. Costs that rest on it are marked as estimated.
    """
    return -(-utf8_bytes // BYTES_PER_TOKEN)
