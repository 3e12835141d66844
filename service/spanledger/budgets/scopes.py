"""What a budget can be for: one table of scopes, from which everything else that names them follows.

Options of commands, keys of files, the grouping of reports, the SQL that reads subjects from rows and
the index of budgets are made of this table. A budget may also be for a combination of scopes: its scope
is then their names, and its subject their subjects, both with commas between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from operator import attrgetter
from typing import NamedTuple, cast


class Scope(NamedTuple):
    """A kind of thing that a budget can be for.

    Attributes:
        name: in options, files, JSON and reports.
        column: of the attempt `a` or its request `r` whose row names the subject, as SQL.
        of: where a reservation has the subject.
        attribute: of a span that names it.
        meaning: the subject, for help texts.
        owner: people choose its names, so two that differ only in how accents are encoded are one.
        several: a request may have more than one; the column is a JSON array.
    """

    name: str
    column: str
    of: str
    attribute: str
    meaning: str
    owner: bool = False
    several: bool = False


SCOPES: tuple[Scope, ...] = (
    Scope(
        "customer",
        column="a.customer",
        of="request.customer",
        attribute="spanledger.customer",
        meaning="Customer that the request's key belongs to",
        owner=True,
    ),
    Scope(
        "key",
        column="a.key_id",
        of="request.key_id",
        attribute="spanledger.key.id",
        meaning="Id of a key (`key_…`)",
    ),
    Scope(
        "team",
        column="a.team",
        of="request.team",
        attribute="spanledger.team",
        meaning="Team that the key belongs to",
        owner=True,
    ),
    Scope(
        "model",
        column="a.model",
        of="model",
        attribute="gen_ai.request.model",
        meaning="A provider's model",
    ),
    Scope(
        "provider",
        column="a.provider",
        of="provider",
        attribute="gen_ai.provider.name",
        meaning="Provider",
    ),
    Scope(
        "user",
        column="r.user_id",
        of="request.user",
        attribute="user.id",
        meaning="User that the key or the request names",
        owner=True,
    ),
    Scope(
        "project",
        column="r.project",
        of="request.project",
        attribute="spanledger.project",
        meaning="Project that the key or the request names",
        owner=True,
    ),
    Scope(
        "route",
        column="r.route",
        of="request.route",
        attribute="spanledger.route",
        meaning="Route that the caller asked for",
    ),
    Scope(
        "tag",
        column="r.tags",
        of="request.tags",
        attribute="spanledger.tags",
        meaning="Tag of the key or the request, which may have several",
        owner=True,
        several=True,
    ),
)
"""All scopes that have subjects."""
SCOPE_NAMES: tuple[str, ...] = tuple(scope.name for scope in SCOPES)
EVERYBODY = "global"
"""The scope of a budget for all requests together; its only subject is `EACH`."""
EACH = "*"
"""As a subject: each subject of the scope has its own limit."""

Dimensions = tuple["str | tuple[str, ...]", ...]
"""The subjects that an attempt counts under, in the order of `SCOPES`; empty where it has none."""
dimensions_of = cast("Callable[[object], Dimensions]", attrgetter(*(scope.of for scope in SCOPES)))
"""The dimensions of a reservation."""
_PLACES = {scope.name: place for place, scope in enumerate(SCOPES)}


# combinations -------------------------------------------------------------------------------


def named(subjects: Mapping[str, str]) -> tuple[str, str]:
    """The scope and the subject of a budget that names these, by scope; both as text."""
    if not subjects:
        return EVERYBODY, EACH
    names = sorted(subjects, key=_PLACES.__getitem__)
    return ",".join(names), subject_text([subjects[name] for name in names])


def subject_text(parts: Sequence[str]) -> str:
    """The subjects of one budget or account as one text, from which `subject_parts` gets them back."""
    if len(parts) == 1:
        return parts[0]
    return ",".join([part.replace("\\", "\\\\").replace(",", "\\,") for part in parts])


def subject_parts(scope: str, subject: str) -> tuple[str, ...]:
    """The subjects in a text, in the order of the scope's names."""
    if "," not in scope:
        return (subject,)
    parts, part, escaped = [], "", False
    for character in subject:
        if escaped or character not in ",\\":
            part, escaped = part + character, False
        elif character == "\\":
            escaped = True
        else:
            parts.append(part)
            part = ""
    return (*parts, part)


def subjects_by_scope(scope: str, subject: str) -> dict[str, str]:
    """The subjects of a budget or an account, by scope; none for everybody together."""
    if scope == EVERYBODY:
        return {}
    return dict(zip(scope.split(","), subject_parts(scope, subject), strict=True))


def covers(scope: str, pattern: str, subject: str) -> bool:
    """Whether a budget with this subject counts an account of its scope."""
    if pattern in (EACH, subject):
        return True
    pairs = zip(subject_parts(scope, pattern), subject_parts(scope, subject), strict=True)
    return all(wanted in (EACH, part) for wanted, part in pairs)


# dimensions ---------------------------------------------------------------------------------


@cache
def places_of(scope: str) -> tuple[int, ...]:
    """Where dimensions have the subjects of a scope; nowhere for everybody together."""
    return () if scope == EVERYBODY else tuple(_PLACES[name] for name in scope.split(","))


def subjects_in(scope: str, dimensions: Dimensions) -> list[tuple[str, ...]]:
    """The subjects of a scope under which an attempt counts, each as its parts; none if it lacks one.
    Only a scope with tags may have several."""
    if scope == EVERYBODY:
        return [(EACH,)]
    found = [dimensions[place] for place in places_of(scope)]
    if not all(found):
        return []
    return list(product(*[(part,) if isinstance(part, str) else part for part in found]))


def account_subjects(scope: str, dimensions: Dimensions) -> list[str]:
    """The same as the text of accounts."""
    return [subject_text(parts) for parts in subjects_in(scope, dimensions)]


# rows ---------------------------------------------------------------------------------------


class SubjectColumns(NamedTuple):
    """How a query reads the dimensions of attempts, as far as some scopes need them.

    Attributes:
        select: the columns of an attempt `a` and its request `r`; what is not needed is empty.
        of_request: whether `r` is among them.
    """

    select: str
    of_request: bool


SUBJECT_PLACES = ", ".join(str(place) for place in range(1, len(SCOPES) + 1))
"""The columns of `SubjectColumns.select` if they come first, to group by them."""


def columns_for(scopes: Iterable[str]) -> SubjectColumns:
    """How to read what budgets of these scopes count by."""
    used = {place for scope in scopes for place in places_of(scope)}
    read = [scope.column if place in used else "''" for place, scope in enumerate(SCOPES)]
    return SubjectColumns(", ".join(read), any(column.startswith("r.") for column in read))


def dimensions_in(row: Sequence[str | None]) -> Dimensions:
    """The dimensions that `SubjectColumns.select` has read."""
    return tuple(
        tuple(tags_in(text)) if scope.several else text or ""
        for scope, text in zip(SCOPES, row, strict=True)
    )


def tags_text(tags: Collection[str]) -> str:
    """Tags as a request's row has them: a JSON array, or nothing."""
    return json.dumps(tags, ensure_ascii=False) if tags else ""


def tags_in(text: str | None) -> list[str]:
    """The tags of a row."""
    return list(json.loads(text)) if text else []
