"""Validates a section, and says what is wrong with it in our words instead of the library's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from spanledger.config import litellm
from spanledger.config.fields import nearest
from spanledger.config.litellm import Problems

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], data: Any, place: str, problems: Problems) -> M | None:
    """The valid part of a section, so that later checks can see it; None if there is none. Its
    problems are collected."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_input=True)
        problems.extend(
            _describe(model, item, place) for item in found if not _misspelt(item, found)
        )
    try:
        return model.model_validate(_without([item["loc"] for item in found], data))
    except ValidationError:
        return None


def _without(places: Sequence[tuple[int | str, ...]], data: Any) -> Any:
    """A copy of the data without the values at these places."""
    if not isinstance(data, dict) or not places:
        return data
    kept = {}
    for key, value in data.items():
        below = [place[1:] for place in places if place[0] == key]
        if () in below or (below and not isinstance(value, dict)):
            continue  # of a list, the other items alone would mean something else
        kept[key] = _without(below, value)
    return kept


def _describe(model: type[BaseModel], item: Any, prefix: str) -> str:
    """One validation problem as `place: what is wrong; what to write instead`."""
    place = ".".join([prefix, *(str(part) for part in item["loc"])])
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        return f"unknown key {place!r}{nearest(str(key), _fields_at(model, parents))}"
    if item["type"] in ("model_type", "model_attributes_type"):
        return f"{place}: expected a mapping, got {type(item['input']).__name__}"
    message = item["msg"].removeprefix("Value error, ")
    if expected := _EXPECTED.get(item["type"]):
        limit = next(iter(item.get("ctx", {}).values()), "")
        return f"{place}: {expected.format(limit)}, got {_shown(item['input'])}"
    if item["type"] == "missing":
        given = item["input"] if isinstance(item["input"], dict) else {}
        missing = str(item["loc"][-1])
        slip = next((key for key in given if litellm.is_slip(str(key), missing, given)), None)
        hint = f"; is {str(slip)!r} a typo of it?" if slip is not None else ""
        return f"{place}: required, but missing{hint}"
    if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
        shown = str(item["input"]).lower()
        quotes = "YAML reads yes, no, on and off as true and false; " if shown in _BOOLEANS else ""
        return f"{place}: expected a string, got {shown}; {quotes}put it in quotes"
    return f"{place}: {message[:1].lower()}{message[1:]}"


_BOOLEANS = ("true", "false")


_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "expected a list"),
    "dict_type": "expected a mapping",
    "finite_number": "expected a finite number",
    "greater_than": "must be greater than {}",
    "greater_than_equal": "must be at least {}",
    "less_than": "must be less than {}",
    "less_than_equal": "must be at most {}",
    "literal_error": "expected {}",
}
"""What each kind of validation problem says, in our words instead of the library's."""


def _shown(value: Any) -> str:
    """A wrong value for a message: scalars as they are, anything larger by its kind only."""
    return repr(value)[:64] if isinstance(value, str | int | float) else type(value).__name__


def _misspelt(item: Any, found: Sequence[Any]) -> bool:
    """Whether an unknown key is the misspelt name of a missing one, which is reported already."""
    if item["type"] != "extra_forbidden":
        return False
    *parents, key = item["loc"]
    return any(
        litellm.is_slip(str(key), str(other["loc"][-1]), other["input"])
        for other in found
        if other["type"] == "missing" and [*other["loc"][:-1]] == parents
    )


def _fields_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """The valid keys of the section that `path` leads to."""
    current = model
    for part in path:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        current = next(
            kind
            for kind in (annotation, *getattr(annotation, "__args__", ()))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return list(current.model_fields)
