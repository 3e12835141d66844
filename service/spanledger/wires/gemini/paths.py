"""Paths of Google's API, which have the model and what is asked of it: `/v1beta/models/MODEL:VERB`.

A model's name may have slashes and colons, and clients may percent-encode them: the last colon of the
path as it came is the verb's, and what is before it is decoded once.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_MODELS = re.compile(r"/v1(?:beta|alpha)?/+models/+(.+?)/*")
_MODEL = re.compile(r"/v1(?:beta|alpha)/models(?:/.+)?")
_ASKS = re.compile(r":[a-z]+[A-Z][A-Za-z]*$")
"""Verbs have a capital; the names of models after a colon, such as `llama3:8b`, have none."""
_VERBS = frozenset({"generateContent", "streamGenerateContent", "countTokens"})
GOOGLE_PATHS = ("/v1beta/", "/v1alpha/")


class Asked(NamedTuple):
    """What a path says.

    Attributes:
        model: as the caller names it; empty where it is not UTF-8.
        verb: what is asked of it.
    """

    model: str
    verb: str


def asked_in(raw_path: bytes) -> Asked | None:
    """What a path as it stood in the request line asks; None for any other path."""
    if b":" not in raw_path and b"%3" not in raw_path:
        return None
    found = _MODELS.fullmatch(raw_path.decode("latin-1"))
    if found is None:
        return None
    named = found[1]
    model, colon, verb = named.rpartition(":")
    if not colon:  # some clients encode the verb's colon as well
        model, colon, verb = re.sub("%3a", ":", named, flags=re.IGNORECASE).rpartition(":")
    if verb not in _VERBS:
        return None
    try:
        return Asked(unquote(model, errors="strict"), verb)
    except UnicodeDecodeError:
        return Asked("", verb)


def is_model_path(path: str) -> bool:
    """Whether a decoded path is that of the list of models, or of one of them."""
    found = _MODEL.fullmatch(path)
    return found is not None and not _ASKS.search(path)
