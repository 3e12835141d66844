"""Answers that are read after their request has ended: what they cost is known only then.

An answer in the background stays held (`Later`). The first time that it is read complete, it is charged
as any other; reading it again changes nothing.
"""

from __future__ import annotations

from spanledger.clock import Clock
from spanledger.ledger.model import AttemptEnd, KeptAnswer
from spanledger.ledger.ports import Ledger
from spanledger.routing.kept import KeptCalls
from spanledger.routing.pass_through import Passing
from spanledger.telemetry.attributes import attempt_detail
from spanledger.wires import LATE, RESPONSES
from spanledger.wires.failures import hide_key


class LateAnswers:
    """Charges them."""

    def __init__(self, ledger: Ledger, kept: KeptCalls, passing: Passing, clock: Clock) -> None:
        self._ledger = ledger
        self._kept = kept
        self._passing = passing
        self._clock = clock

    async def settle(self, request_id: str, answer: KeptAnswer, body: bytes) -> None:
        """Charge an answer, if it is complete. Without usage or a price it is charged what was
        expected, as an estimate.

        Raises:
            LedgerUnavailableError: it is still held.
        """
        deployment = self._kept.deployment(answer.deployment)
        late = LATE[RESPONSES.name](body)
        if late is None or deployment is None:
            return
        price, usage = self._passing.price(deployment, answer.model), late.usage
        cost = answer.expected_nano
        if price is not None and usage is not None:
            cost = price.cost_nano(usage, late.service)
        end = AttemptEnd(
            attempt_id=f"{request_id}.{answer.number}",
            ended_ns=self._clock.now_ns(),
            cost_nano=cost,
            estimated=usage is None or bool(usage.ambiguity),
            unpriced=price is None,
            http_status=200,
            input_tokens=0 if usage is None else usage.input_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
            cache_read_tokens=0 if usage is None else usage.cache_read_input_tokens,
            cache_write_tokens=0 if usage is None else usage.cache_write_input_tokens,
            reasoning_tokens=0 if usage is None else usage.reasoning_output_tokens,
            response_model=hide_key(late.model[:256], deployment),
            detail=attempt_detail(
                request={},
                deployment=deployment,
                response_id="",
                finish_reasons=(),
                provider_request_id="",
            ),
            late=True,
        )
        await self._ledger.finish(end)
