"""Answers that providers keep: who may reach them, and where they are.

The id of an answer names our request, whose row in the ledger says which customer and team it belongs
to, which deployment has it, and the provider's id of it (`wires/answer_ids.py`). To everybody else it
does not exist.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import msgspec

from spanledger.errors import InvalidRequestError, LedgerUnavailableError
from spanledger.gateway.auth import Caller
from spanledger.gateway.paths import AnswerPath
from spanledger.gateway.replies import GatewayReply, not_allowed
from spanledger.ledger.model import KeptAnswer
from spanledger.ledger.ports import Ledger
from spanledger.wires import COMPACT, RESPONSES
from spanledger.wires.answer_ids import AnswerId, answer_id, relabelled
from spanledger.wires.base import Ask
from spanledger.wires.bounds import ANY_WINDOW_TOKENS
from spanledger.wires.failures import hide_key
from spanledger.wires.fields import DECODE_ERRORS

if TYPE_CHECKING:
    from spanledger.routing.router import Router

FRAMING_TOKENS = 1_024
"""What a provider may put around the items of an earlier answer."""
_PASSED = frozenset({"after", "before", "include", "include[]", "limit", "order"})
"""Parameters that go on to the provider."""
_COMPACTING = (COMPACT.name, RESPONSES.name)
"""Wires whose answers may have compactions."""
_METHODS = {"": ("GET", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET",)}


class _Detail(msgspec.Struct):
    """What a row says of its answer; nothing while the attempt is in flight."""

    response_id: str = msgspec.field(default="", name="gen_ai.response.id")


_DETAIL = msgspec.json.Decoder(_Detail)


class KeptAnswers:
    """What callers do with answers of earlier requests."""

    def __init__(self, ledger: Ledger, router: Router) -> None:
        self._ledger = ledger
        self._router = router

    async def place_of(self, ask: Ask, caller: Caller) -> str:
        """The deployment whose account a request is bound to; empty if any can serve it.

        Raises:
            SpanledgerError: as `_follow`.
        """
        if ask.follows:
            return await self._follow(ask, caller)
        if not ask.bound_to:
            return ""
        for wire in _COMPACTING:
            found = await self._ledger.find_answer(ask.bound_to, wire)
            if found is not None and (found.customer, found.team) == (caller.customer, caller.team):
                return found.deployment
        return ""  # its row was pruned, and it may still be readable where the request goes

    async def _follow(self, ask: Ask, caller: Caller) -> str:
        """The deployment that has the answer which a request continues. What that answer was made
        of is input of the request as well, so its tokens are held.

        Raises:
            InvalidRequestError: the caller has no such answer.
            ProviderError, LedgerUnavailableError: it is still to be charged, and cannot be now.
        """
        found = await self._find(ask.follows, caller)
        if found is None:
            raise InvalidRequestError(
                f"Previous response with id {ask.follows[:128]!r} not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        known, answer = found
        if answer.open:
            # A caller that continues an answer gets to know it, so it is charged as if it had been read.
            await self._router.late.read(*known, answer)
            answer = (await self._find(ask.follows, caller) or found)[1]
        more = answer.tokens + FRAMING_TOKENS if answer.tokens else ANY_WINDOW_TOKENS
        ask.body_bytes += more
        ask.demand.input_tokens += more
        ask.demand.tokens += answer.tokens
        return answer.deployment

    async def serve(
        self, method: str, path: AnswerPath, query: bytes, caller: Caller
    ) -> GatewayReply:
        """Read, delete or cancel an answer, or list its input.

        Raises:
            SpanledgerError: the caller has no such answer, or its provider refuses.
        """
        allowed = _METHODS[path.action]
        if method not in allowed:
            shown = f"/v1/responses/{path.answer[:128]}{path.action}"
            return not_allowed(method, shown, ", ".join(allowed).encode(), RESPONSES)
        found = await self._find(path.answer, caller)
        if found is None:
            raise _not_found(path.answer)
        known, answer = found
        if self._router.kept.deployment(answer.deployment) is None:
            raise _not_found(
                path.answer, "; its deployment is not in the configuration of this gateway"
            )
        if answer.open and method == "DELETE":
            await self._router.late.stop(*known, answer)  # afterwards nobody can tell what it cost
        body = await self._router.kept.ask(
            answer.deployment, method, known.provider_id, path.action, _query(query)
        )
        if body is None:
            raise _not_found(path.answer)
        if answer.open and method != "DELETE" and path.action in ("", "/cancel"):
            # Its owner may read it although it cannot be charged now; it stays held.
            with suppress(LedgerUnavailableError):
                await self._router.late.settle(*known, answer, body)
        return GatewayReply(200, relabelled(body, known))

    async def _find(self, handed: str, caller: Caller) -> tuple[AnswerId, KeptAnswer] | None:
        known = answer_id(handed)
        if known is None:
            return None
        found = await self._ledger.find_answer(known.request_id, RESPONSES.name)
        if found is None or (found.customer, found.team) != (caller.customer, caller.team):
            return None
        return (known, found) if self._made(found, known.provider_id) else None

    def _made(self, answer: KeptAnswer, provider_id: str) -> bool:
        """Whether a row's attempt made this answer. Of an id with one's own request and another answer,
        the row would open that answer, and be charged what that one cost."""
        deployment = self._router.kept.deployment(answer.deployment)
        named = provider_id if deployment is None else hide_key(provider_id, deployment)
        try:
            return _DETAIL.decode(answer.detail).response_id == named
        except DECODE_ERRORS:
            return False


def _query(raw: bytes) -> str:
    given = parse_qsl(raw.decode("latin-1"))
    if ("stream", "true") in given:
        raise InvalidRequestError(
            "an answer is read whole here; leave out 'stream'", code="invalid_value", param="stream"
        )
    return urlencode([(name, value) for name, value in given if name in _PASSED])


def _not_found(handed: str, why: str = ".") -> InvalidRequestError:
    return InvalidRequestError(
        f"Response with id {handed[:128]!r} not found{why}", status=404, code="response_not_found"
    )
