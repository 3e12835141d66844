"""What a provider says it used, in one shape for all of them.

Counting basis (OpenTelemetry GenAI conventions v1.41): `input_tokens` includes cached tokens,
`output_tokens` includes reasoning tokens. Providers that count otherwise are converted here and
nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt.

    Attributes:
        input_tokens: all input, cached reads and cache writes included.
        output_tokens: all output, reasoning included.
        cache_read_input_tokens: part of `input_tokens` read from the provider's cache.
        cache_write_input_tokens: part of `input_tokens` written to the provider's cache.
        reasoning_output_tokens: part of `output_tokens` spent on reasoning.
        cache_write_1h_input_tokens: part of `cache_write_input_tokens` kept for an hour
            (Anthropic's `cache_creation.ephemeral_1h_input_tokens`).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
