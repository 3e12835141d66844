"""What a budget can be for: its scopes, and the column of an attempt's row that names a subject."""

from __future__ import annotations

from typing import Literal

Scope = Literal["customer", "key", "team", "model", "provider", "global"]
Dimensions = tuple[str, str, str, str, str]
"""The subjects that an attempt counts under, in the order of `SUBJECT_COLUMNS`."""

SUBJECT_COLUMNS: dict[Scope, str] = {
    "customer": "customer",
    "key": "key_id",
    "team": "team",
    "model": "model",
    "provider": "provider",
}
"""Scopes with subjects, and the columns that name these."""
SUBJECT_SCOPES: tuple[Scope, ...] = tuple(SUBJECT_COLUMNS)
SCOPES: tuple[Scope, ...] = (*SUBJECT_SCOPES, "global")
DIMENSIONS = ", ".join(SUBJECT_COLUMNS.values())
"""The columns of `Dimensions`, for a query."""
