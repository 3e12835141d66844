"""What a budget can be for: one table of scopes, from which everything else that names them follows.

Options of commands, keys of files, the grouping of reports, the SQL that reads subjects from rows and
the index of budgets are made of this table.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, cast


class Scope(NamedTuple):
    """A kind of thing that a budget can be for.

    Attributes:
        name: in options, files, JSON and reports.
        column: of the attempt `a` whose row names the subject, as SQL.
        of: where a reservation has the subject.
        meaning: the subject, for help texts.
        owner: people choose its names, so two that differ only in how accents are encoded are one.
    """

    name: str
    column: str
    of: str
    meaning: str
    owner: bool = False


SCOPES: tuple[Scope, ...] = (
    Scope(
        "customer",
        column="a.customer",
        of="request.customer",
        meaning="Customer that the request's key belongs to",
        owner=True,
    ),
    Scope("key", column="a.key_id", of="request.key_id", meaning="Id of a key (`key_…`)"),
    Scope(
        "team",
        column="a.team",
        of="request.team",
        meaning="Team that the key belongs to",
        owner=True,
    ),
    Scope("model", column="a.model", of="model", meaning="A provider's model"),
    Scope("provider", column="a.provider", of="provider", meaning="Provider"),
)
"""All scopes that have subjects. New ones come last: stored rows are read in this order."""
SCOPE_NAMES: tuple[str, ...] = tuple(scope.name for scope in SCOPES)
EVERYBODY = "global"
"""The scope of a budget for all requests together; its only subject is `EACH`."""
EACH = "*"
"""As a subject: each subject of the scope has its own limit."""

Dimensions = tuple[str, ...]
"""The subjects that an attempt counts under, in the order of `SCOPES`."""
DIMENSIONS = ", ".join(scope.column for scope in SCOPES)
"""The columns of `Dimensions` of an attempt `a`, for a query."""
dimensions_of = cast("Callable[[object], Dimensions]", attrgetter(*(scope.of for scope in SCOPES)))
"""The dimensions of a reservation."""
