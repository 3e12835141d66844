"""The context in which one attempt is made."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from spanledger.errors import ProviderError
from spanledger.routing.settle import Attempt

if TYPE_CHECKING:
    from spanledger.routing.attempt import Run


class Attempting:
    """The context manager that `Run.attempt` returns."""

    __slots__ = ("_attempt", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run

    async def __aenter__(self) -> Attempt:
        self._attempt = await self._run.reserve()
        return self._attempt

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        self._run.stop_passing_on()
        if error is None:
            await self._run.served(self._attempt)
            return False
        if isinstance(error, ProviderError):
            return await self._run.failed(self._attempt, error)
        await self._run.broke_off(self._attempt, error)
        return False
