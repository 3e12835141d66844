"""How a class turns the errors of its database's driver into ours: once for all its methods."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

T = TypeVar("T")
Translating = Callable[[], AbstractContextManager[None]]
"""While it is open, errors of a driver leave it as ours."""


def translate_methods(cls: type[T], translating: Translating) -> type[T]:
    """The class, whose public methods, also inherited ones, raise the driver's errors as ours."""
    for name, attribute in inspect.getmembers_static(cls):
        if not name.startswith("_") and inspect.isfunction(attribute):
            setattr(cls, name, _translated(attribute, translating))
    return cls


def _translated(method: Callable[..., Any], translating: Translating) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(method):

        @functools.wraps(method)
        def generate(*args: Any, **options: Any) -> Iterator[Any]:
            with translating():
                yield from method(*args, **options)

        return generate

    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        with translating():
            return method(*args, **options)

    return call
