"""Files that a request names: where their ids stand, and the request with other ids in their place.

All of OpenAI's endpoints, and Anthropic's, name a file in a field `file_id`, or several in `file_ids`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.wires.fields import DECODE_ERRORS, Fields

MAX_FILES_NAMED = 64
"""Files that one request may name."""
_ONE, _MANY = "file_id", "file_ids"
_ENCODER = msgspec.json.Encoder()
_ESCAPED = re.compile(rb"\\u00(?:5[fF]|6[4569cC])")
"""A character of `file_id` as no client writes it."""
CALLERS_OWN = frozenset({"metadata"})
"""Fields that mean nothing to a provider."""


def names_files(data: bytes) -> bool:
    """Whether JSON may name files: this looks at every request, and decodes nothing."""
    if b"file_id" in data:
        return True
    return b"\\u00" in data and _ESCAPED.search(data) is not None


def named_files(fields: Mapping[str, msgspec.Raw]) -> list[str]:
    """The ids of the files that a body names, each once. Raises InvalidRequestError."""
    found: dict[str, None] = {}
    for name, raw in fields.items():
        if name not in CALLERS_OWN and names_files(bytes(raw)):
            found |= dict.fromkeys(_named_in(bytes(raw)))
    if len(found) > MAX_FILES_NAMED:
        raise InvalidRequestError(
            f"a request may name at most {MAX_FILES_NAMED} files", code="too_many_files"
        )
    return list(found)


def renamed(fields: Fields, names: Mapping[str, str]) -> Fields:
    """The fields with other ids of files, and nothing else changed where clients write them plainly."""
    if not names:
        return fields
    return {
        name: raw if name in CALLERS_OWN or not names_files(bytes(raw)) else _renamed(raw, names)
        for name, raw in fields.items()
    }


def _renamed(raw: msgspec.Raw, names: Mapping[str, str]) -> msgspec.Raw:
    data = bytes(raw)
    for ours, theirs in names.items():
        plain = rb'("file_id"\s*:\s*)' + re.escape(_ENCODER.encode(ours))
        data = re.sub(plain, rb"\g<1>" + _ENCODER.encode(theirs).replace(b"\\", rb"\\"), data)
    if names.keys() & set(_named_in(data)):  # in a list, or not written plainly
        value = msgspec.json.decode(data)
        for parent in _parents(value):
            one, many = parent.get(_ONE), parent.get(_MANY)
            if isinstance(one, str):
                parent[_ONE] = names.get(one, one)
            if isinstance(many, list):
                parent[_MANY] = [names.get(e, e) if isinstance(e, str) else e for e in many]
        data = _ENCODER.encode(value)
    return msgspec.Raw(data)


def _named_in(data: bytes) -> list[str]:
    try:
        value = msgspec.json.decode(data)
    except DECODE_ERRORS:
        return []  # what reads the field says so
    found: list[str] = []
    for parent in _parents(value):
        many = parent.get(_MANY)
        given = [parent.get(_ONE), *(many if isinstance(many, list) else ())]
        found += [each for each in given if isinstance(each, str) and each]
    return found


def _parents(value: object) -> list[dict[str, object]]:
    """All objects that name files."""
    found, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            waiting += each.values()
            if _ONE in each or _MANY in each:
                found.append(each)
    return found
