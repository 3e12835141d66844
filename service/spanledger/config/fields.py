"""The types of settings, and the two kinds of section; the sections themselves are elsewhere."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from spanledger.money import parse_price, parse_usd


def _nameable(value: str) -> str:
    if not value or not value.isprintable() or value != value.strip():
        raise ValueError("must be one or more printable characters, without spaces around them")
    if "`" in value:
        raise ValueError("must not contain a backtick: dashboards quote names with backticks")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (
        parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(
            "must be like https://app.example (scheme, host and port, no path), or '*'"
        )
    return value


def not_each(value: str) -> str:
    """Refuse `*` as a name: in budgets it stands for every name."""
    if value == "*":
        raise ValueError("'*' is reserved: it stands for every name")
    return value


Name = Annotated[str, AfterValidator(_nameable), Field(max_length=256)]
"""Safe to print in terminals, labels and answers."""
Owner = Annotated[Name, AfterValidator(partial(unicodedata.normalize, "NFC"))]
"""A customer or team; names that differ only in how accents are encoded are the same."""
Origin = Annotated[str, AfterValidator(_origin)]
"""In the form that browsers send."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,128}$")]
Usd = Annotated[int, BeforeValidator(parse_usd)]
PicoUsd = Annotated[int, BeforeValidator(parse_price)]
Seconds = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]


class Ours(BaseModel):
    """One of spanledger's own sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LiteLLM(BaseModel):
    """One of LiteLLM's sections: unknown keys are kept and reported."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


def nearest(word: str, choices: Sequence[str], *, cutoff: float = 0.5) -> str:
    """`; did you mean 'x'?` for the closest valid choice, or nothing."""
    match = difflib.get_close_matches(word, choices, n=1, cutoff=cutoff)
    return f"; did you mean {match[0]!r}?" if match else ""
