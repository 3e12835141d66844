"""What an attempt used, and how much of that is an estimate.

Reported usage is kept unless it is impossible. Usage that a provider did not report, or reported
ambiguously, is an estimate, and the row is marked `estimated`. An estimate never exceeds the output
cap that was sent to the provider, or the attempt's hold; only reported usage can. No I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from spanledger.pricing.usage import MAX_USAGE_TOKENS, TOTAL_ALONE, Usage
from spanledger.routing.request import Exchange
from spanledger.routing.settle import Attempt, Produced

log = logging.getLogger("spanledger.gateway")


def usage_of(exchange: Exchange, attempt: Attempt) -> tuple[Usage, bool]:
    """The usage of a complete answer, and whether any of it is an estimate."""
    produced = attempt.produced
    usage = produced.usage
    if usage is None or not _is_possible(usage):
        counted = _counted(exchange, attempt, produced.output_tokens)
        return bounded(counted, _told_input(produced), attempt), True
    if produced.counted:
        return bounded(usage, Usage(), attempt), True
    uncounted = 0 if _is_billed_by_unit(usage, attempt) else produced.uncounted_tokens
    if not (uncounted or usage.ambiguity):
        return usage, False
    whole = _completed(exchange, attempt, usage, usage.output_tokens + uncounted)
    return bounded(whole, _certain(usage), attempt), True


def _is_billed_by_unit(usage: Usage, attempt: Attempt) -> bool:
    """Whether the units that are known are what is billed, so that tokens need not be counted."""
    price = attempt.target.price
    return usage.units > 0 and price is not None and price.of_unit(usage.unit) is not None


def usage_unfinished(exchange: Exchange, attempt: Attempt, expected: int) -> tuple[Usage, bool]:
    """The usage of an attempt that did not complete, and whether it is an estimate.

    If a stream showed content, we count what arrived. Otherwise nobody knows what the provider
    wrote, so `expected` output is charged; it is 0 if the provider surely stopped. Usage that was
    reported early does not include the output that followed.
    """
    produced = attempt.produced
    usage = produced.usage
    seen = bool(produced.chunks or produced.finish_reasons)
    output = produced.output_tokens if seen else expected
    if usage is not None and _is_possible(usage):
        if (seen or not expected) and usage.output_tokens >= output and not usage.ambiguity:
            return usage, False
        whole = _completed(exchange, attempt, usage, max(usage.output_tokens, output))
        return bounded(whole, _certain(usage), attempt), True
    counted = _counted(exchange, attempt, output)
    if not seen and attempt.sizes.terms.speech:
        counted = replace(counted, audio_output_tokens=output)
    return bounded(counted, _told_input(produced), attempt), True


def _counted(exchange: Exchange, attempt: Attempt, output: int) -> Usage:
    """Usage with the output as we counted it, and the input as the provider did, if it reported it."""
    produced = attempt.produced
    read = produced.input_usage
    if read is None or not _is_possible(read) or not read.input_tokens:
        read = _estimated(exchange, attempt)
    return replace(
        read, output_tokens=output, audio_output_tokens=min(produced.speech_tokens, output)
    )


def _estimated(exchange: Exchange, attempt: Attempt) -> Usage:
    """Our own count of the input; what was held for it if a fault of ours stops us from counting, because
    an attempt that is not booked would stay held."""
    try:
        return exchange.ask.wire.estimate(exchange.ask.fields)
    except Exception as error:  # noqa: BLE001  # every attempt has an end
        # The error's text may quote a prompt.
        unique, fault = exchange.start.request_id, type(error).__name__
        log.error("request %s cannot be counted: %s", unique, fault)  # noqa: TRY400  # no traceback
        demand = attempt.demand
        return Usage(attempt.sizes.input_tokens, unit=demand.unit, units=demand.units)


def _completed(exchange: Exchange, attempt: Attempt, told: Usage, output: int) -> Usage:
    """Reported usage with this much output, and with our estimate of the prompt if it lacks that."""
    produced = attempt.produced
    if told.input_tokens:
        return replace(told, output_tokens=output)
    counted = _counted(exchange, attempt, produced.output_tokens)
    if told.ambiguity == TOTAL_ALONE:
        output = max(told.output_tokens - counted.input_tokens, counted.output_tokens)
    else:
        output = max(output, counted.output_tokens)
    return replace(
        counted,
        output_tokens=output,
        reasoning_output_tokens=told.reasoning_output_tokens,
        searches=told.searches,
        ambiguity=told.ambiguity,
        told_nano=told.told_nano,
    )


def _certain(told: Usage) -> Usage:
    """The part of reported usage that is unambiguous."""
    return replace(told, output_tokens=told.output_tokens - told.guessed_output_tokens)


def _told_input(produced: Produced) -> Usage:
    read = produced.input_usage
    return Usage() if read is None else replace(read, output_tokens=0)


def _is_possible(usage: Usage) -> bool:
    """Whether the totals are possible; `Price` handles parts that do not match them."""
    return (
        0 <= usage.input_tokens <= MAX_USAGE_TOKENS and 0 <= usage.output_tokens <= MAX_USAGE_TOKENS
    )


def bounded(usage: Usage, certain: Usage, attempt: Attempt) -> Usage:
    """An estimate limited to the cap that was sent and to the hold, but at least what is certain."""
    least_input, least_output = certain.input_tokens, certain.output_tokens
    most = attempt.most_output
    if most is not None:
        usage = _with_output(usage, min(usage.output_tokens, max(most, least_output)))
    price = attempt.target.price
    if price is None:
        return usage
    # A model cannot read more than its context window.
    prompt = max(least_input, min(usage.input_tokens, attempt.sizes.input_tokens))
    usage = _with_input(usage, prompt)
    service, hold_nano = attempt.produced.service_of(attempt), attempt.hold.hold_nano

    def held(candidate: Usage) -> bool:
        return price.cost_nano(candidate, service) <= hold_nano

    if held(usage):
        return usage
    whole = usage
    output = _most(least_output, usage.output_tokens, lambda n: held(_with_output(whole, n)))
    shorter = _with_output(usage, output)
    if held(shorter):
        return shorter
    return _with_input(shorter, _most(least_input, prompt, lambda n: held(_with_input(shorter, n))))


def _most(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `least` to `most` that fits; `least` if none does."""
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least


def _with_output(usage: Usage, output: int) -> Usage:
    if output >= usage.output_tokens:
        return usage
    speech = min(usage.audio_output_tokens, output)
    return replace(
        usage,
        output_tokens=output,
        audio_output_tokens=speech,
        reasoning_output_tokens=min(usage.reasoning_output_tokens, output - speech),
    )


def _with_input(usage: Usage, prompt: int) -> Usage:
    if prompt >= usage.input_tokens:
        return usage
    return replace(
        usage, input_tokens=prompt, audio_input_tokens=min(usage.audio_input_tokens, prompt)
    )
