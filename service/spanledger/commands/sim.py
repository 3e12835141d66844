"""`spanledger sim`: simulated providers, to try things without a key or a real bill."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from spanledger.commands.common import fail, reporting_errors
from spanledger.errors import ConfigError


def sim(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 4010,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 1,
    speed: Annotated[
        float, typer.Option(help="Times faster than real; 0 removes all waiting.", min=0.0)
    ] = 1.0,
    prices: Annotated[
        Path | None,
        typer.Option(help='JSON of pico-USD per token: {"my-model": {"input": 150000, …}}.'),
    ] = None,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Print one JSON line per call.")
    ] = False,
) -> None:
    """Serve simulated providers with the OpenAI and Anthropic APIs.

    Point an OpenAI client at URL/v1 and an Anthropic client at URL, with any API key; the same
    addresses go into `api_base`. The bill
    is at URL/sim/bill. To inject faults, use a model such as `gpt-4o-mini!429`,
    `gpt-4o-mini!cut:5` or `gpt-4o-mini!timeout`, a header such as
    `x-sim-fault: 429;retry_after=2`, or `POST URL/sim/faults` with
    `{"model": "gpt-4o-mini", "fault": "429", "for_requests": 20}`.
    """
    from spanledger.sim.bill import Entry, Price, read_prices
    from spanledger.sim.host import run_alone
    from spanledger.sim.server import create_sim

    def say(url: str) -> None:
        sys.stdout.write(f"listening on {url}\n")
        sys.stdout.flush()

    def log(entry: Entry) -> None:
        sys.stdout.write(json.dumps(entry.view()) + "\n")
        sys.stdout.flush()

    with reporting_errors():
        own: dict[str, Price] = {}
        if prices is not None:
            try:
                own = read_prices(json.loads(prices.read_text("utf-8")))
            except (OSError, ValueError) as error:
                raise ConfigError(f"{prices}: {error}") from error
        app = create_sim(seed, speed, own)
        if json_logs:
            app.state.sim.bill.on_entry = log
        try:
            run_alone(app, host, port, say)
        except OSError as error:
            raise fail(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with"
                " --host and --port"
            ) from error
