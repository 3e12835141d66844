"""The stack on a real Docker engine: `make test-engine` starts one; without it, these tests skip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.installation import KEEPER, Installation, clone

REASON = os.environ.get("SPANLEDGER_NO_ENGINE", "`make test-engine` starts it for these tests")
Install = Callable[..., Installation]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests without an engine, and give them enough time."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if not KEEPER:
                item.add_marker(pytest.mark.skip(reason=f"no Docker engine: {REASON}"))


@contextmanager
def installer(factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Creates installations, and removes everything they started."""
    made: list[Installation] = []

    def make(env: Mapping[str, str] | None = None, umask: int = 0o022) -> Installation:
        made.append(Installation(clone(factory.mktemp("clone"), umask), env))
        return made[-1]

    try:
        yield make
    finally:
        for installation in made:
            installation.close()


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """The installations of one test."""
    with installer(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A stack started from a fresh clone, with the documented command."""
    with installer(tmp_path_factory) as make:
        installation = make()
        installation.compose("up", "--detach", "--wait").well()
        yield installation
