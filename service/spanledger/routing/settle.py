"""The output of an attempt, and the record that ends it: its cost and the row's details.

`charge` decides what an attempt used. No I/O.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import msgspec

from spanledger.errors import ProviderError
from spanledger.ledger.model import AttemptEnd, Hold, RequestEnd
from spanledger.money import NANO_PER_USD
from spanledger.pricing.demand import Demand
from spanledger.pricing.usage import Usage, estimate_tokens
from spanledger.providers.base import Call
from spanledger.providers.hosts import tells_cost
from spanledger.routing.course import Candidate
from spanledger.routing.hold import Sizes
from spanledger.routing.request import Exchange
from spanledger.telemetry.attributes import ContentMode, attempt_detail, captured_content
from spanledger.telemetry.vocabulary import AMBIGUITY
from spanledger.wires.base import MAX_TEXT, Answer, FailedAnswerError, Frame
from spanledger.wires.failures import hide_key

MAX_CAPTURED_BYTES = 1024 * 1024
"""Bytes of a stream's events that content capture keeps; the rest of the answer is dropped."""
MAX_FINISH_REASONS = 128
SPEECH_BYTES_PER_TOKEN = 3_200
"""Base64 of 50 ms of audio, one token at OpenAI, in the only format that is streamed (pcm16)."""


@dataclass(slots=True)
class Produced:
    """The output of an attempt so far; a dataclass, because its counters are stored at every chunk."""

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
    counted: bool = False
    pending: bool = False
    events: list[bytes] = field(default_factory=list)
    _since_usage_bytes: int = 0
    _event_bytes: int = 0

    @classmethod
    def whole(cls, answer: Answer) -> Produced:
        """The output of a non-streamed answer."""
        produced = cls()
        produced.take(answer)
        return produced

    def take(self, answer: Answer) -> None:
        """The answer came in one piece: it is all of the output."""
        self.usage = answer.usage
        self.service = answer.service
        self.output_bytes = answer.output_bytes
        self.speech_bytes = answer.speech_bytes
        self.response_id = answer.response_id
        self.response_model = answer.response_model
        self.provider_request_id = answer.provider_request_id
        self.finish_reasons = answer.finish_reasons
        self.body = answer.body
        self.counted = answer.counted
        self.pending = answer.pending

    def note(self, frame: Frame, now_ns: Callable[[], int]) -> None:
        """Add an event of a stream."""
        if frame.content:
            if self.chunks == 0:
                self.first_chunk_ns = now_ns()
            self.chunks += 1
            self.output_bytes += frame.output_bytes
            self.speech_bytes += frame.speech_bytes
            self._since_usage_bytes += frame.output_bytes
        if frame.usual:
            return
        if frame.usage is not None:
            if frame.usage.output_tokens:
                self._since_usage_bytes = 0
            self.usage = frame.usage if self.usage is None else self.usage.followed_by(frame.usage)
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

    def service_of(self, attempt: Attempt) -> str:
        """The service tier to charge: the answer's, or else the one that was requested."""
        return self.service or attempt.sizes.terms.service

    def keep(self, event: bytes) -> None:
        """Keep a relayed event for content capture."""
        self._event_bytes += len(event)
        if self._event_bytes <= MAX_CAPTURED_BYTES:
            self.events.append(event)

    @property
    def uncounted_tokens(self) -> int:
        """Output that the provider's usage cannot include: it came later, or there is no usage."""
        if self.usage is None or self.usage.output_tokens == 0:
            return self.output_tokens
        return estimate_tokens(self._since_usage_bytes)

    @property
    def output_tokens(self) -> int:
        """Output by our own count: at least one token per chunk."""
        return max(estimate_tokens(self.output_bytes) + self.speech_tokens, self.chunks)

    @property
    def speech_tokens(self) -> int:
        """Speech output by our own count."""
        return -(-self.speech_bytes // SPEECH_BYTES_PER_TOKEN)


def produced_of(error: ProviderError, produced: Produced) -> Produced:
    """The output of a failed attempt, with the usage that its error reports."""
    if not isinstance(error, FailedAnswerError):
        return produced
    answer = error.answer
    if not produced.chunks and produced.usage is None:
        return Produced.whole(answer)
    if answer.usage is not None:
        earlier = produced.usage
        produced.usage = answer.usage if earlier is None else earlier.followed_by(answer.usage)
    produced.finish_reasons = produced.finish_reasons or answer.finish_reasons
    return produced


class Attempt(msgspec.Struct):
    """An attempt that holds money.

    Attributes:
        sizes: the hold sizes it asked for, and the tokens behind them.
        began: monotonic seconds.
        demand: the most that its request can use.
    """

    target: Candidate
    sizes: Sizes
    hold: Hold
    call: Call
    began: float
    demand: Demand
    produced: Produced = msgspec.field(default_factory=Produced)

    def frames(self) -> AsyncGenerator[Frame]:
        """The provider's stream; nothing is sent before it is read."""
        return self.target.provider.stream(self.call)

    @property
    def tokens(self) -> int:
        """Tokens that were counted against the deployment's tpm."""
        return self.demand.tokens

    @property
    def most_output(self) -> int | None:
        """The cap on output tokens over all choices that the provider was sent; None: no cap."""
        each = self.call.max_output_tokens
        if each is None:
            each = self.demand.cap
        return None if each is None else each * self.demand.choices + self.demand.predicted


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes the records that end attempts, with captured content as configured."""

    content: ContentMode
    max_content_bytes: int

    def end(
        self,
        exchange: Exchange,
        attempt: Attempt,
        *,
        usage: Usage | None,
        estimated: bool,
        error_type: str,
        http_status: int,
        ended_ns: int,
        request: RequestEnd | None,
    ) -> AttemptEnd:
        """The record that ends an attempt; `usage` None: nothing was billed."""
        call, price, produced = attempt.call, attempt.target.price, attempt.produced
        service = produced.service_of(attempt)
        cost: int | None = None
        listed: int | None = None
        if usage is not None:
            cost = 0 if price is None else price.cost_nano(usage, service)
            if price is not None and price.listed is not None:
                listed = price.list_nano(usage, service)
        used = usage or NO_USAGE
        # The first nine by position: of more arguments by name, Python makes a dict at each call.
        return AttemptEnd(
            attempt.hold.attempt_id,
            ended_ns,
            cost,
            estimated,
            price is None and usage is not None,
            error_type,
            http_status,
            used.input_tokens,
            used.output_tokens,
            cache_read_tokens=used.cache_read_input_tokens,
            cache_write_tokens=used.cache_write_input_tokens,
            reasoning_tokens=used.reasoning_output_tokens,
            first_chunk_ns=produced.first_chunk_ns,
            chunks=produced.chunks,
            response_model=hide_key(produced.response_model[:MAX_TEXT], call.deployment),
            detail=self.detail(exchange, attempt, used, produced.finish_reasons),
            content=None
            if self.content == "off"
            else captured_content(
                self.content,
                self.max_content_bytes,
                exchange.ask.wire.content(exchange.ask.fields, produced.body, produced.events),
            ),
            request=request,
            list_nano=listed,
        )

    def detail(
        self, exchange: Exchange, attempt: Attempt, used: Usage, finish_reasons: tuple[str, ...]
    ) -> str:
        """What is known of an attempt and has no column."""
        call, produced = attempt.call, attempt.produced
        extra = priced_by(used, produced.service_of(attempt))
        if used.told_nano and tells_cost(call.deployment.api_base):
            extra["spanledger.provider.cost.usd"] = used.told_nano / NANO_PER_USD
            extra["spanledger.provider.cost.nano_usd"] = used.told_nano
        if exchange.degraded:
            extra["spanledger.budget.degraded_by"] = ", ".join(exchange.degraded)
        if call.deployment.label:
            extra["gen_ai.request.model"] = call.deployment.model[:MAX_TEXT]
        if call.max_output_tokens is not None:
            # The cap that was sent to the provider, as a budget lowered it.
            extra["gen_ai.request.max_tokens"] = call.max_output_tokens
        return attempt_detail(
            request=exchange.ask.wire.attributes(call.fields),
            deployment=call.deployment,
            response_id=hide_key(produced.response_id, call.deployment),
            finish_reasons=[hide_key(reason, call.deployment) for reason in finish_reasons],
            provider_request_id=hide_key(produced.provider_request_id, call.deployment),
            extra=extra,
        )


_AS_USUAL = ("auto", "default", "standard")


def priced_by(usage: Usage, service: str) -> dict[str, object]:
    """What the cost depends on in addition to the row's columns, where it is not zero."""
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
    if usage.unit and usage.units:
        found["spanledger.usage.unit"] = usage.unit[:MAX_TEXT]
        found["spanledger.usage.units"] = usage.units
    if usage.image_input_tokens:
        found["spanledger.usage.image.input_tokens"] = usage.image_input_tokens
    if usage.image_output_tokens:
        found["spanledger.usage.image.output_tokens"] = usage.image_output_tokens
    if usage.searches:
        found["spanledger.usage.searches"] = usage.searches
    if usage.ambiguity:
        found[AMBIGUITY] = usage.ambiguity
    return found


NO_USAGE = Usage()
