"""`spanledger worker`: run a file of jobs, or generate traffic for demonstrations.

Options in, exit code out; heavy modules are imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spanledger.commands.common import AsJson, print_json, reporting_errors

app = typer.Typer(help="Run jobs through the gateway with the openai client.", no_args_is_help=True)

DEFAULT_BASE_URL = "http://127.0.0.1:4000/v1"

BaseUrl = Annotated[
    str,
    typer.Option(envvar="OPENAI_BASE_URL", help="The gateway, or any OpenAI-compatible server."),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="OPENAI_API_KEY",
        show_envvar=True,
        help="A virtual key; not needed while the gateway has no keys.",
    ),
]
Telemetry = Annotated[
    bool,
    typer.Option(
        "--telemetry/--no-telemetry",
        help="Send OpenLLMetry spans to OTEL_EXPORTER_OTLP_ENDPOINT (http://localhost:4318).",
    ),
]


@app.command()
def run(
    jobs: Annotated[str, typer.Argument(help="Jobs in OpenAI's Batch format; - for stdin.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Results file; jobs already finished in it are skipped."
        ),
    ],
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_key: ApiKey = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Jobs in parallel.")] = 8,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Timeout of one call, in seconds.")
    ] = 600.0,
    retries: Annotated[
        int, typer.Option(min=0, max=20, help="Retries after a 429, 5xx or lost connection.")
    ] = 2,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Rerun jobs that failed in an earlier run.")
    ] = False,
    json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
    telemetry: Telemetry = True,
    trace_content: Annotated[
        bool, typer.Option("--trace-content", help="Include prompts and answers in the spans.")
    ] = False,
) -> None:
    """Run the jobs in a file and append one result line for each.

    Run the same command again to continue after an interruption or a budget stop. Exit codes: 0 all
    jobs succeeded, 1 some failed or the gateway accepts none, 2 usage, 3 stopped by a budget,
    130 interrupted.
    """
    from rich.console import Console

    from spanledger.worker.app import RunOptions, run_jobs
    from spanledger.worker.progress import reporter
    from spanledger.worker.report import closing_lines

    options = RunOptions(
        jobs=None if jobs == "-" else Path(jobs),
        results=output,
        base_url=base_url,
        api_key=api_key,
        concurrency=concurrency,
        timeout_s=timeout,
        retries=retries,
        retry_failed=retry_failed,
        telemetry=telemetry,
        trace_content=trace_content,
    )
    try:
        with reporting_errors():
            summary = run_jobs(options, reporter(Console(stderr=True), quiet=quiet))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if json:
        print_json(summary.as_json())
    elif not quiet or summary.exit_code:
        for line in closing_lines(summary, options.results):
            typer.echo(line, err=True)
    raise typer.Exit(summary.exit_code)


@app.command()
def serve(
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_key: ApiKey = None,
    customers: Annotated[
        str,
        typer.Option(
            envvar="SPANLEDGER_WORKER_CUSTOMERS",
            help="Customers with their keys, NAME=KEY,NAME=KEY; the first sends the most.",
        ),
    ] = "",
    rate: Annotated[float, typer.Option(min=0.01, help="Requests per second at the peak.")] = 2.0,
    models: Annotated[
        str, typer.Option(help="Routes to use, separated by commas; default: all.")
    ] = "",
    day: Annotated[
        float, typer.Option(min=1, help="Length of the daily traffic cycle, in seconds.")
    ] = 86400.0,
    for_seconds: Annotated[
        float | None, typer.Option("--for", min=0, help="Stop after this many seconds.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat the same random traffic.")] = None,
    json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
    telemetry: Telemetry = True,
) -> None:
    """Keep sending a realistic mix (chat, streams, tools, embeddings) until SIGTERM or Ctrl-C."""
    from rich.console import Console

    from spanledger.worker.app import serve as run_server
    from spanledger.worker.progress import reporter
    from spanledger.worker.serve import ServeOptions, parse_customers

    with reporting_errors():
        options = ServeOptions(
            base_url=base_url,
            customers=parse_customers(customers, api_key),
            rate=rate,
            day_s=day,
            for_s=for_seconds,
            seed=seed,
            models=tuple(filter(None, (name.strip() for name in models.split(",")))),
        )
        served = run_server(
            options, reporter(Console(stderr=True), quiet=quiet), telemetry=telemetry
        )
    if json:
        print_json(served.as_json())
