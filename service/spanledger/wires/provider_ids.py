"""What a request names by a provider's id although the ledger knows nothing of it.

A provider keeps these for a whole account, so any caller who knows an id can use what it stands for: files,
vector stores, containers, stored items and prompts, Google's files and caches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.file_ids import CALLERS_OWN

_MAY_NAME = re.compile(
    rb"vector_store|container|item_reference|[fF]ile_?[uU]ri|cached_?[cC]ontent|pmpt_|prompt|\\u00"
)
"""Looked for before anything is decoded; an escaped letter could hide a name."""
_NAMES = ("vector_store_id", "vector_store_ids", "container", "cachedContent", "cached_content")
"""Fields whose text, or texts, are ids; in an object the id is its `id`."""
_REFERENCES = {"container_reference": "container_id", "item_reference": "id"}
"""By the type of an object, the field that has an id in it."""
_URIS = ("fileUri", "file_uri")
_CALLERS_DATA = frozenset(
    {
        *("input_schema", "parameters", "schema", "json_schema", "parametersJsonSchema"),
        *("functionCall", "function_call", "functionResponse", "function_response"),
    }
)
"""Fields with schemas, and what the caller's own tools are given and answer."""
_GOOGLES_FILE = re.compile(r"(?:https://generativelanguage\.googleapis\.com/(?:\w+/)?)?files/")


def provider_ids(fields: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    """The ids in a body, apart from those of `file_id` and `file_ids`."""
    for name, raw in fields.items():
        data = bytes(raw)
        if name in CALLERS_OWN or not (
            name in _NAMES or name == "prompt" or _MAY_NAME.search(data)
        ):
            continue
        try:
            value = msgspec.json.decode(data)
        except DECODE_ERRORS:
            continue  # what reads the field says so
        if name == "prompt":
            yield from _ids_of(value)
        else:
            yield from _named_in({name: value})


def _named_in(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            kind = each.get("type")
            waiting += [
                below
                for name, below in each.items()
                if name not in _CALLERS_DATA and not (kind == "tool_use" and name == "input")
            ]
            for name in _NAMES:
                yield from _texts(each.get(name))
            if isinstance(kind, str) and kind in _REFERENCES:
                yield from _texts(each.get(_REFERENCES[kind]))
            for name in _URIS:
                yield from filter(_GOOGLES_FILE.match, _texts(each.get(name)))


def _texts(value: object) -> Iterator[str]:
    """The ids of a field."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))
    else:
        yield from _ids_of(value)


def _ids_of(value: object) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(found := value.get("id"), str):
        yield found
