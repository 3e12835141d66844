"""The ids that callers know files and batches by: `file-<request>_<provider's id>`, `batch_…`.

As for answers (`answer_ids`), the request in it is the key of a row that says whose it is and where.
The files that a provider writes for a batch have the request of the batch.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_PREFIXES = {"file": "file-", "batch": "batch_"}
_HANDED = re.compile(r"(file-|batch_)([0-9a-f]{24})_([A-Za-z0-9_.:-]{1,256})")
_SAFE = re.compile(r"[A-Za-z0-9_.:-]{1,256}")
_REQUEST = "req_"


class KeptId(NamedTuple):
    """What a caller's id says: our request, and the provider's own id."""

    kind: Literal["file", "batch"]
    request_id: str
    provider_id: str


def handed_id(kind: Literal["file", "batch"], request_id: str, provider_id: str) -> str:
    """The id for the caller. Raises ValueError where the provider's cannot be part of one."""
    if not _SAFE.fullmatch(provider_id):
        raise ValueError("the provider's id has characters that cannot be part of a path")
    return f"{_PREFIXES[kind]}{request_id.removeprefix(_REQUEST)}_{provider_id}"


def kept_id(handed: str) -> KeptId | None:
    """What an id says; None for one that is not ours."""
    found = _HANDED.fullmatch(handed)
    if found is None:
        return None
    kind: Literal["file", "batch"] = "file" if found[1] == "file-" else "batch"
    return KeptId(kind, _REQUEST + found[2], found[3])
