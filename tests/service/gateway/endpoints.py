"""A whole gateway in front of the simulator, for the endpoints that are not a dialogue."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Gateway, Running
from tests.support.ledgers import store_at

Row = tuple[Any, ...]


class Site(Gateway):
    """The gateway, the provider's bill and the faults on its board."""

    def attempts(self, request_id: str) -> list[Row]:
        """Cost, hold, whether estimated, and error of a request's attempts."""
        query = (
            "SELECT cost_nano, hold_nano, estimated, error_type, ended_ns FROM attempts"
            " WHERE request_id = ? ORDER BY number"
        )
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return list(connection.execute(query, (request_id,)))

    def last_request(self) -> str:
        """The id of the newest request, once it has ended."""
        wait_for(lambda: self.rows("ended_ns")[-1][0] is not None)
        return str(self.rows("request_id")[-1][0])

    def billed(self) -> list[dict[str, Any]]:
        """The calls on the provider's bill."""
        with urllib.request.urlopen(f"{self.sim_url}/sim/bill?entries=1") as answer:
            found: list[dict[str, Any]] = json.load(answer)["entries"]
            return found

    def check(self, request_id: str, before: int, *, exact: bool = True) -> list[dict[str, Any]]:
        """The ledger's cost of this request is what the provider bills since, and was held."""
        wait_for(lambda: all(row[4] for row in self.attempts(request_id)))
        rows = self.attempts(request_id)
        calls = [entry for entry in self.billed()[before:] if entry["billed"]]
        assert all(row[1] >= (row[0] or 0) for row in rows)
        if exact:
            paid = [entry["nano_usd"] for entry in calls if entry["nano_usd"]]
            assert [row[0] for row in rows if row[0]] == paid
        return calls

    def fault(self, fault: str, **more: Any) -> None:
        """Switch a fault on; an empty one switches all off."""
        body = json.dumps({"fault": fault, **more}).encode()
        method = "POST" if fault else "DELETE"
        url = f"{self.sim_url}/sim/faults"
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(url, body if fault else None, headers, method=method)
        urllib.request.urlopen(asked).close()


@contextlib.contextmanager
def running_site(
    folder: Path,
    models: dict[str, str],
    *,
    fallbacks: dict[str, str],
    poor_nano: int = 1,
    endpoints: dict[str, list[str]] | None = None,
) -> Iterator[Site]:
    """A gateway whose routes are these models at the simulator; `poor` has almost no money. Some
    may be said to serve certain endpoints."""
    ledger = folder / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("free", "poor", "rich")}
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", poor_nano, "day"),
            Budget("rich-daily", "customer", "rich", 10**15, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim:
        config = parse_config(
            {
                "model_list": [
                    {
                        "model_name": route,
                        "litellm_params": {
                            "model": model,
                            "api_base": f"{sim.url}/v1",
                            "api_key": "sk-sim",
                        },
                        "model_info": {
                            "id": f"d-{route}",
                            "supported_endpoints": (endpoints or {}).get(route),
                        },
                    }
                    for route, model in models.items()
                ],
                "router_settings": {
                    "num_retries": 0,
                    "cooldown_time": 0,
                    "fallbacks": [{route: [other]} for route, other in fallbacks.items()],
                },
                "gateway": {"port": 0, "total_timeout_s": 20},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, sim.url, ledger, keys)
