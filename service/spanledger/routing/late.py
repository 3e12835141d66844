"""Answers that are read after their request has ended: what they cost is known only then.

An answer in the background stays held (`Later`). The first time that it is read complete, it is charged
as any other; reading it again changes nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import msgspec

from spanledger.clock import Clock
from spanledger.errors import LedgerUnavailableError, ProviderError
from spanledger.ledger.model import AttemptEnd, KeptAnswer
from spanledger.ledger.ports import Ledger
from spanledger.providers.base import Deployment
from spanledger.routing.kept import KeptCalls
from spanledger.routing.pass_through import Passing
from spanledger.routing.settle import priced_by
from spanledger.telemetry.attributes import attempt_detail
from spanledger.wires import LATE, RESPONSES
from spanledger.wires.base import LateAnswer
from spanledger.wires.failures import hide_key

LateState = Literal["charged", "open", "gone"]
"""What became of an answer that was looked at: `open`, it is still being written; `gone`, its provider
does not have it."""


class LateAnswers:
    """Charges them."""

    def __init__(self, ledger: Ledger, kept: KeptCalls, passing: Passing, clock: Clock) -> None:
        self._ledger = ledger
        self._kept = kept
        self._passing = passing
        self._clock = clock

    async def read(self, request_id: str, provider_id: str, answer: KeptAnswer) -> LateState:
        """Look whether an answer is complete, and charge it if it is.

        Raises:
            ProviderError, LedgerUnavailableError: it cannot be charged now; it is still held.
        """
        body = await self._kept.ask(answer.deployment, "GET", provider_id, "", "")
        if body is None:
            return "gone"
        done = await self.settle(request_id, provider_id, answer, body)
        return "charged" if done else "open"

    async def stop(self, request_id: str, provider_id: str, answer: KeptAnswer) -> None:
        """Charge an answer that is about to be deleted. One in progress is cancelled first, so that its
        provider says what it bills for it.

        Raises:
            ProviderError, LedgerUnavailableError: it cannot be charged now; it is still held.
        """
        if await self.read(request_id, provider_id, answer) != "open":
            return
        try:
            body = await self._kept.ask(answer.deployment, "POST", provider_id, "/cancel", "")
        except ProviderError as error:
            # It has just ended, or its server cannot cancel.
            if error.status is None or not 400 <= error.status < 500 or error.status == 429:
                raise
            body = None
        if body is None or not await self.settle(request_id, provider_id, answer, body):
            await self.read(request_id, provider_id, answer)

    async def settle(
        self, request_id: str, provider_id: str, answer: KeptAnswer, body: bytes
    ) -> bool:
        """Charge an answer, and return whether it is complete. Without usage or a price it is charged
        what was expected, as an estimate.

        Raises:
            LedgerUnavailableError: it is still held.
        """
        deployment = self._kept.deployment(answer.deployment)
        late = LATE[RESPONSES.name](body)
        if late is None or deployment is None:
            return False
        price = self._passing.price(deployment, answer.model, answer.began_ns)
        usage = late.usage
        cost, listed = answer.expected_nano, None
        if price is not None and usage is not None:
            cost = price.cost_nano(usage, late.service)
            listed = price.list_nano(usage, late.service)
        end = AttemptEnd(
            attempt_id=f"{request_id}.{answer.number}",
            ended_ns=self._clock.now_ns(),
            cost_nano=cost,
            list_nano=listed,
            estimated=usage is None or bool(usage.ambiguity),
            unpriced=price is None,
            http_status=200,
            input_tokens=0 if usage is None else usage.input_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
            cache_read_tokens=0 if usage is None else usage.cache_read_input_tokens,
            cache_write_tokens=0 if usage is None else usage.cache_write_input_tokens,
            reasoning_tokens=0 if usage is None else usage.reasoning_output_tokens,
            response_model=hide_key(late.model[:256], deployment),
            detail=_detail(provider_id, answer, deployment, late),
            late=True,
        )
        await self._ledger.finish(end)
        with suppress(LedgerUnavailableError):
            await self._ledger.change_kept(request_id, None)  # nobody has to look for it any more
        return True


def _detail(provider_id: str, answer: KeptAnswer, deployment: Deployment, late: LateAnswer) -> str:
    """What was known when the request ended, and what the answer says."""
    known = msgspec.json.decode(answer.detail, type=dict[str, object])
    return attempt_detail(
        request=known,
        deployment=deployment,
        response_id=hide_key(provider_id, deployment),
        finish_reasons=(late.finish_reason,) if late.finish_reason else (),
        provider_request_id="",
        extra={} if late.usage is None else priced_by(late.usage, late.service),
    )
