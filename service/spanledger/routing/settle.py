"""From what came out of a try to the record that ends it: usage, cost, and the row's details.

Reported usage is taken as it is where it can be true; otherwise tokens are counted by us and the
row says so (`estimated`). No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from spanledger.errors import ProviderError
from spanledger.ledger.store import AttemptEnd, Hold, RequestEnd, Reservation
from spanledger.pricing.usage import MAX_TOKENS, Usage, estimate_tokens
from spanledger.providers.base import Answer, Call, FailedAnswerError, Frame
from spanledger.providers.failures import hide_key
from spanledger.routing.course import Target
from spanledger.routing.estimate import estimate_input
from spanledger.routing.hold import Sizes
from spanledger.routing.request import Exchange
from spanledger.telemetry.attributes import MAX_TEXT, ContentMode, attempt_detail, captured_content

MAX_CAPTURED_BYTES = 1024 * 1024
"""Events of a stream kept for content capture; the rest of the answer is left out."""
MAX_FINISH_REASONS = 128
SPEECH_BYTES_PER_TOKEN = 3_200
"""Base64 of 50 ms of sound, one token of OpenAI's, in the one format that is streamed (pcm16)."""


@dataclass(slots=True)
class Attempt:
    """A try that holds money.

    Attributes:
        sizes: what it wanted held, and the tokens that was for.
        began: monotonic seconds.
        tokens: what its deployment's tpm was charged with.
    """

    target: Target
    reservation: Reservation
    sizes: Sizes
    hold: Hold
    call: Call
    began: float
    tokens: int


@dataclass(slots=True)
class Produced:
    """What a try gave so far."""

    usage: Usage | None = None
    input_usage: Usage | None = None
    service: str = ""
    output_bytes: int = 0
    speech_bytes: int = 0
    chunks: int = 0
    first_chunk_ns: int = 0
    response_id: str = ""
    response_model: str = ""
    provider_request_id: str = ""
    finish_reasons: tuple[str, ...] = ()
    body: bytes = b""
    events: list[bytes] = field(default_factory=list)
    _since_usage_bytes: int = 0
    _event_bytes: int = 0

    @classmethod
    def whole(cls, answer: Answer) -> Produced:
        """A whole answer."""
        return cls(
            usage=answer.usage,
            service=answer.service,
            output_bytes=answer.output_bytes,
            speech_bytes=answer.speech_bytes,
            response_id=answer.response_id,
            response_model=answer.response_model,
            provider_request_id=answer.provider_request_id,
            finish_reasons=answer.finish_reasons,
            body=answer.body,
        )

    def note(self, frame: Frame, now_ns: Callable[[], int]) -> None:
        """One more event of a stream."""
        if frame.content:
            if self.chunks == 0:
                self.first_chunk_ns = now_ns()
            self.chunks += 1
            self.output_bytes += frame.output_bytes
            self.speech_bytes += frame.speech_bytes
            self._since_usage_bytes += frame.output_bytes
        if frame.usage is not None:
            self.usage = frame.usage
            self._since_usage_bytes = 0
        if frame.input_usage is not None:
            self.input_usage = frame.input_usage
        if frame.service:
            self.service = frame.service
        if frame.response_id:
            self.response_id = frame.response_id
        if frame.response_model:
            self.response_model = frame.response_model
        if frame.provider_request_id:
            self.provider_request_id = frame.provider_request_id
        if frame.finish_reason and len(self.finish_reasons) < MAX_FINISH_REASONS:
            self.finish_reasons = (*self.finish_reasons, frame.finish_reason)

    def keep(self, event: bytes) -> None:
        """Keep a relayed event for content capture."""
        self._event_bytes += len(event)
        if self._event_bytes <= MAX_CAPTURED_BYTES:
            self.events.append(event)

    @property
    def uncounted_tokens(self) -> int:
        """Output that the provider's usage cannot have in it: it came later, or there is none."""
        if self.usage is None or self.usage.output_tokens == 0:
            return self.output_tokens
        return estimate_tokens(self._since_usage_bytes)

    @property
    def output_tokens(self) -> int:
        """Output as we count it: a chunk has at least one token."""
        return max(estimate_tokens(self.output_bytes) + self.speech_tokens, self.chunks)

    @property
    def speech_tokens(self) -> int:
        """Speech as we count it."""
        return -(-self.speech_bytes // SPEECH_BYTES_PER_TOKEN)


def produced_of(error: ProviderError, produced: Produced | None = None) -> Produced:
    """What a failed attempt gave, with what its error says was used."""
    if not isinstance(error, FailedAnswerError):
        return produced or Produced()
    if produced is None or not produced.chunks:
        return Produced.whole(error.answer)
    produced.usage = error.answer.usage
    return produced


def usage_of(exchange: Exchange, produced: Produced) -> tuple[Usage, bool]:
    """What an answer used, and whether we had to count it."""
    usage = produced.usage
    if usage is not None and _is_possible(usage):
        if uncounted := produced.uncounted_tokens:
            return replace(usage, output_tokens=usage.output_tokens + uncounted), True
        return usage, False
    return _counted(exchange, produced, produced.output_tokens), True


def _counted(exchange: Exchange, produced: Produced, output: int) -> Usage:
    """Usage with the output we counted, and the input as the provider did, if it came to that."""
    read = produced.input_usage
    if read is None or not _is_possible(read):
        read = estimate_input(exchange.operation, exchange.fields)
    return replace(
        read, output_tokens=output, audio_output_tokens=min(produced.speech_tokens, output)
    )


def usage_unfinished(
    exchange: Exchange, attempt: Attempt, produced: Produced, expected: int
) -> tuple[Usage, bool]:
    """What a try used that did not come to its end, and whether that is an estimate.

    Of a stream that showed content, what came is counted. Of anything else nobody knows what the
    provider wrote, so what was to be `expected` is charged. Usage that was reported early has its
    output still to come.
    """
    usage = produced.usage
    seen = bool(produced.chunks or produced.finish_reasons)
    output = produced.output_tokens if seen else expected
    if usage is not None and _is_possible(usage):
        if seen and usage.output_tokens >= output:
            return usage, False
        return replace(usage, output_tokens=max(usage.output_tokens, output)), True
    counted = _counted(exchange, produced, output)
    if attempt.target.price is not None and produced.input_usage is None:
        # A model reads no more than its window.
        prompt = min(counted.input_tokens, attempt.sizes.input_tokens)
        sound = min(counted.audio_input_tokens, prompt)
        counted = replace(counted, input_tokens=prompt, audio_input_tokens=sound)
    if not seen and attempt.sizes.terms.speech:
        counted = replace(counted, audio_output_tokens=output)
    return counted, True


def _is_possible(usage: Usage) -> bool:
    """Whether the totals can be true; `Price` copes with parts that do not fit them."""
    return 0 <= usage.input_tokens <= MAX_TOKENS and 0 <= usage.output_tokens <= MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes the ends of tries, content captured as configured."""

    content: ContentMode
    max_content_bytes: int

    def end(
        self,
        exchange: Exchange,
        attempt: Attempt,
        produced: Produced,
        *,
        usage: Usage | None,
        estimated: bool,
        error_type: str,
        http_status: int,
        ended_ns: int,
        request: RequestEnd | None,
    ) -> AttemptEnd:
        """The record of a try's end; `usage` None = nothing was billed."""
        call, price = attempt.call, attempt.target.price
        service = produced.service or attempt.sizes.terms.service
        cost: int | None = None
        if usage is not None:
            cost = 0 if price is None else price.cost_nano(usage, service)
        used = usage or _NOTHING
        extra = _priced_by(used, service)
        if call.max_output_tokens is not None:
            # What was asked of the provider, where a budget lowered it.
            extra["gen_ai.request.max_tokens"] = call.max_output_tokens
        return AttemptEnd(
            attempt_id=attempt.hold.attempt_id,
            ended_ns=ended_ns,
            cost_nano=cost,
            estimated=estimated,
            unpriced=price is None and usage is not None,
            error_type=error_type,
            http_status=http_status,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cache_read_tokens=used.cache_read_input_tokens,
            cache_write_tokens=used.cache_write_input_tokens,
            reasoning_tokens=used.reasoning_output_tokens,
            first_chunk_ns=produced.first_chunk_ns,
            chunks=produced.chunks,
            response_model=hide_key(produced.response_model[:MAX_TEXT], call.deployment),
            detail=attempt_detail(
                operation=exchange.operation,
                fields=exchange.fields,
                deployment=call.deployment,
                response_id=hide_key(produced.response_id, call.deployment),
                finish_reasons=tuple(
                    hide_key(reason, call.deployment) for reason in produced.finish_reasons
                ),
                provider_request_id=hide_key(produced.provider_request_id, call.deployment),
                extra=extra,
            ),
            content=None
            if self.content == "off"
            else captured_content(
                self.content,
                self.max_content_bytes,
                exchange.fields,
                produced.body,
                produced.events,
            ),
            request=request,
        )


_AS_USUAL = ("auto", "default", "standard")


def _priced_by(usage: Usage, service: str) -> dict[str, object]:
    """What the cost depends on beside the row's columns, where there is any of it."""
    found: dict[str, object] = {}
    if service and service not in _AS_USUAL:
        found["spanledger.service_tier"] = service[:MAX_TEXT]
    if usage.audio_input_tokens:
        found["spanledger.usage.audio.input_tokens"] = usage.audio_input_tokens
    if usage.audio_output_tokens:
        found["spanledger.usage.audio.output_tokens"] = usage.audio_output_tokens
    if usage.cache_write_1h_input_tokens:
        hour = usage.cache_write_1h_input_tokens
        found["spanledger.usage.cache_creation_1h.input_tokens"] = hour
    if usage.searches:
        found["spanledger.usage.searches"] = usage.searches
    return found


_NOTHING = Usage()
