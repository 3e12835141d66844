"""The ids that callers know answers of the Responses API by: `resp_<request>_<provider's id>`.

An answer is kept by the provider, under the account that paid for it. The request in its id is the
key of the ledger's row, which says whose answer it is and which deployment has it. So an id works
after a restart and at every gateway of the ledger, and by itself opens nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PREFIX = "resp_"
_REQUEST = "req_"
_HANDED = re.compile(r"resp_([0-9a-f]{24})_([A-Za-z0-9_.:-]{1,256})")
_SAFE = re.compile(r"[A-Za-z0-9_.:-]{1,256}")


class AnswerId(NamedTuple):
    """What a caller's id says: our request, and the provider's own id of the answer."""

    request_id: str
    provider_id: str


def handed_id(request_id: str, provider_id: str) -> str:
    """The id for the caller; the provider's own where that cannot be part of one."""
    if not request_id.startswith(_REQUEST) or not _SAFE.fullmatch(provider_id):
        return provider_id
    return f"{_PREFIX}{request_id.removeprefix(_REQUEST)}_{provider_id}"


def answer_id(handed: str) -> AnswerId | None:
    """What an id says; None for one that is not ours."""
    found = _HANDED.fullmatch(handed)
    return None if found is None else AnswerId(_REQUEST + found[1], found[2])


def relabelled(data: bytes, known: AnswerId) -> bytes:
    """JSON with the caller's id of an answer in place of the provider's."""
    return data.replace(quoted(known.provider_id), quoted(handed_id(*known)))


def quoted(text: str) -> bytes:
    """An id as JSON has it."""
    return b'"' + text.encode() + b'"'
