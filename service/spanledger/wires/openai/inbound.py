"""What OpenAI's inbound wires have in common: errors, headers and what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from spanledger.rates.meter import Standing
from spanledger.wires.base import Content, Problem
from spanledger.wires.openai.errors import error_body, error_event
from spanledger.wires.openai.transcript import content_of
from spanledger.wires.rate_headers import openai_rate_headers


class OpenAIInbound:
    """The common part of `Inbound`."""

    passes: tuple[str, ...] = ()
    id_header = "x-request-id"
    comments = True

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said, by the request and its answer or the events of it."""
        return content_of(fields, answer, events)

    def error(self, problem: Problem) -> bytes:
        """The body of an error answer."""
        return error_body(problem)

    def rate_headers(self, standing: Standing) -> list[tuple[bytes, bytes]]:
        """What is left of rates, as headers of an answer."""
        return openai_rate_headers(standing)

    def error_event(self, problem: Problem) -> bytes:
        """The event that a broken stream ends with."""
        return error_event(problem)
