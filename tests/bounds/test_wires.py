"""The proof covers every wire that callers speak."""

from __future__ import annotations

from spanledger.wires import INBOUND
from tests.bounds.site import WIRES


def test_every_wire_is_asked() -> None:
    """A new wire has no proof of its holds before it has random requests."""
    assert {name: WIRES[name].path for name in WIRES} == {
        wire.name: path for path, wire in INBOUND.items()
    }
