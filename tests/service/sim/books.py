"""Reading the simulator's bill in tests."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.processes import poll


def bill(web: httpx.Client) -> dict[str, Any]:
    """The bill with its entries."""
    data: dict[str, Any] = web.get("/sim/bill?entries=1").raise_for_status().json()
    return data


def only_entry(web: httpx.Client) -> dict[str, Any]:
    """The only entry, once it exists: a broken connection is billed a moment later."""
    entries: list[dict[str, Any]] = poll(lambda: bill(web)["entries"], every_s=0.01)
    assert len(entries) == 1
    return entries[0]
