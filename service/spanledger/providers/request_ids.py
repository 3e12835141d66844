"""Providers' own ids of requests, read from the headers of their answers."""

from __future__ import annotations

from collections.abc import Mapping

_MAX_ID_CHARS = 256


def provider_request_id(headers: Mapping[str, str], name: str) -> str:
    """A provider's id of a request, as text that every sink accepts; empty without one.

    A header may have any bytes, and those that are not UTF-8 arrive as surrogates.
    """
    value = headers.get(name, "")[:_MAX_ID_CHARS]
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if " " <= c <= "~" else "?" for c in value)
