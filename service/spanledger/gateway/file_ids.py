"""Files in requests: each caller names its own, and none of anybody else.

A file of `/v1/files` is named by our id, and its account knows it by another one. So a request that
names files goes to the account that has them, with its ids. Customers share a provider's account, so the
provider's own id of another customer's file is refused like ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spanledger.config import GatewaySettings
from spanledger.errors import InvalidRequestError
from spanledger.gateway.auth import Caller
from spanledger.gateway.batches import KeptBatches
from spanledger.gateway.files import Files, no_such_file
from spanledger.ledger.ports import Ledger
from spanledger.providers.base import Deployment
from spanledger.wires.fields import Fields, decode
from spanledger.wires.file_ids import named_files, names_files, renamed
from spanledger.wires.kept_ids import kept_id
from spanledger.wires.provider_ids import provider_ids

if TYPE_CHECKING:
    from spanledger.routing.router import Router


class FileIds:
    """What the files are that requests name."""

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        files: Files,
        batches: KeptBatches,
        limits: GatewaySettings,
    ) -> None:
        self._ledger = ledger
        self.checks_all = limits.provider_ids == "refuse"
        self._router = router
        self._files = files
        self._batches = batches

    async def resolved(self, fields: Fields, caller: Caller) -> tuple[Fields, str]:
        """The fields with the provider's ids in place of ours, and the deployment whose account has
        these files; empty without any of ours.

        Raises:
            InvalidRequestError: this caller has no such file, or its files are at several accounts.
            ProviderError, LedgerUnavailableError: a batch that wrote one cannot be charged now.
        """
        strict = self.checks_all and not caller.pass_through
        if strict and (unknown := next(provider_ids(fields), "")):
            raise _unknown(unknown)
        at, theirs = "", {}
        for name in named_files(fields):
            if kept_id(name) is None:
                owners = await self._ledger.owners_of_file(name)
                if owners and (caller.customer, caller.team) not in owners:
                    raise no_such_file(name)
                if strict and not owners:
                    raise _unknown(name)
                continue
            kept, provider_id, deployment = await self._files.find(name, caller)
            await self._batches.settled(kept, deployment)
            if at and not self._router.kept.same_account(at, deployment.id):
                raise InvalidRequestError(
                    "the files of this request are kept at several accounts; upload them for one model"
                    " (target_model_names)",
                    code="file_not_here",
                )
            at, theirs[name] = deployment.id, provider_id
        return renamed(fields, theirs), at

    async def in_line(self, caller: Caller, deployment: Deployment, raw: bytes) -> bytes:
        """A line of a batch that runs at a deployment, with the provider's ids of files.

        Raises:
            InvalidRequestError: as above, or a file is at another account than the batch.
        """
        if not (names_files(raw) or self.checks_all):
            return raw
        try:
            line = decode(raw)
            body = decode(bytes(line["body"]))
        except (InvalidRequestError, KeyError):
            return raw  # what reads the line says so, with its number
        fields, at = await self.resolved(body, caller)
        if at and not self._router.kept.same_account(at, deployment.id):
            raise InvalidRequestError(
                "a line of the batch names a file that is kept at another account; upload it for the model"
                " of the batch (target_model_names)",
                code="file_not_here",
                param="file",
            )
        line["body"] = msgspec.Raw(msgspec.json.encode(fields))
        return msgspec.json.encode(line)


def _unknown(name: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{name[:128]!r} is a provider's own id, which this gateway cannot check the owner of; upload files"
        " to /v1/files here, and send items and prompts themselves (gateway.provider_ids)",
        status=404,
        code="unknown_provider_id",
    )
