"""The clients' gateway. `make test-clients` installs the clients and runs these tests; otherwise they skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.site import RUN_S, Site, running_site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests outside their target, and give them enough time: the first runs all tasks."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(RUN_S + 60))
            if not os.environ.get("SPANLEDGER_TEST_CLIENTS"):
                item.add_marker(pytest.mark.skip(reason="`make test-clients` runs it"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One gateway for all clients."""
    with running_site(tmp_path_factory.mktemp("clients")) as found:
        yield found
