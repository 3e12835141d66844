"""The layer with the ledger in Postgres: alike gateways, no password in a file, and what it does not go with."""

from __future__ import annotations

import re

import pytest

from spanledger.config import GatewaySettings
from tests.stack import composition
from tests.stack.composition import LAYERS, ROOT, source_of, stack, target_of

POSTGRES = ROOT / "compose" / "postgres.yml"


def test_the_two_gateways_are_alike() -> None:
    """A request is served the same by either: they differ in what they keep on their own disk."""
    services = stack(POSTGRES)["services"]
    first, second = dict(services["gateway"]), dict(services["gateway-2"])
    for one in (first, second):
        one["volumes"] = {target_of(m): source_of(m) for m in one["volumes"]}
    assert first["volumes"].pop("/var/lib/spanledger") == "ledger"
    assert second["volumes"].pop("/var/lib/spanledger") == "gateway-2"
    # Only the second one says what layer it needs: the one with a simulator.
    for one in (first, second):
        one.pop("depends_on")
    assert first.pop("ports") == ["127.0.0.1:4000:4000"]

    assert first == second


@pytest.mark.parametrize("proxy", ["compose/Caddyfile", "examples/Caddyfile"])
def test_the_proxy_lets_through_what_the_gateway_takes(proxy: str) -> None:
    """A large upload is not refused before the gateway, whose own limits and errors apply."""
    sizes = re.findall(r"max_size (\d+)MiB", (ROOT / proxy).read_text())
    usual = GatewaySettings()
    most = max(usual.max_body_bytes, usual.max_upload_bytes)
    assert [int(size) * 2**20 for size in sizes] == [most]


def test_postgres_and_real_providers_do_not_go_together() -> None:
    """Compose refuses them, because the second gateway would go on serving the demo."""
    real = next(layer for layer in LAYERS if layer.stem == "real-providers")
    with pytest.raises(composition.CompositionError, match=r"sim, which does not run"):
        stack(POSTGRES, real)


def test_no_password_of_the_database_is_in_a_file() -> None:
    """Postgres reads it from a volume, and so do those who connect; nothing is passed by environment."""
    services = stack(POSTGRES)["services"]
    given = services["postgres"]["environment"]
    urls = {
        s["environment"]["SPANLEDGER_LEDGER_URL"]
        for s in services.values()
        if "environment" in s and "SPANLEDGER_LEDGER_URL" in s["environment"]
    }

    assert {n: v for n, v in given.items() if "PASSWORD" in n} == {
        "POSTGRES_PASSWORD_FILE": "/run/database/password"
    }
    assert urls == {
        "postgresql://spanledger@postgres:5432/spanledger?passfile=/run/database/pgpass"
    }
