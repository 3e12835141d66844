"""The composition root: builds ledger, prices, providers, routes and gateway, and runs them.

The shipper is a separate process: encoding telemetry never delays a request, and a crash of the
gateway loses no telemetry.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spanledger.budgets.diff import summary
from spanledger.clock import Clock
from spanledger.config import Config
from spanledger.config.budgets import budget_of
from spanledger.gateway.app import Application, create_app
from spanledger.gateway.auth import check_exposure
from spanledger.gateway.bodies import room_for_uploads
from spanledger.gateway.server import bind, make_server
from spanledger.ledger import open_ledger, open_store
from spanledger.ledger.authors import by_file
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.ports import Store
from spanledger.ledger.pruning import missing
from spanledger.pricing.book import PriceBook
from spanledger.providers import create_providers
from spanledger.providers.proxies import WayOut
from spanledger.routing.plan import Plan
from spanledger.routing.router import Router
from spanledger.telemetry.exposition import CommitTimes, Exposition
from spanledger.telemetry.shipper import SETTINGS_AT_FAULT

log = logging.getLogger(__name__)

SHIPPER_RESTART_S = (0.5, 30.0)
"""Minimum and maximum pause before a shipper that died is restarted."""
SHIPPER_STOP_S = 10.0
SHIPPER_PREFIXES = ("OTEL_", "SSL_CERT_", "LC_", "PYTHON")
SHIPPER_VARIABLES = frozenset(
    {
        *(
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "LANG",
            "TZ",
            "TMPDIR",
            "VIRTUAL_ENV",
            "LD_LIBRARY_PATH",
        ),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("SYSTEMROOT", "INVOCATION_ID", "JOURNAL_STREAM"),
        *("SPANLEDGER_LEDGER_URL", "SPANLEDGER_LEDGER_DIRECT_URL"),
        *("PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR"),
        *("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGTARGETSESSIONATTRS"),
        *("PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSSLCRLDIR"),
        *("PGCHANNELBINDING", "PGREQUIREAUTH", "PGGSSENCMODE", "PGKRBSRVNAME"),
    }
)
"""The only variables of the gateway's environment that the shipper gets: by name and by prefix."""
SWITCH_INTERVAL_S = 0.001
GC_THRESHOLD = 20_000
FILES_PER_REQUEST = 2
"""Open files per request in flight: the caller's connection and the provider's."""
FILES_BESIDE = 256
"""For the ledger, idle connections and callers that are about to be refused."""


@dataclass(slots=True)
class Gateway:
    """A built gateway."""

    app: Application
    ledger: GroupLedger
    router: Router
    plan: Plan


@asynccontextmanager
async def open_gateway(
    config: Config, clock: Clock | None = None, config_file: Path | None = None
) -> AsyncIterator[Gateway]:
    """Build a gateway from a configuration, and close all of it in order.

    Args:
        config_file: where `config` was read from; the ledger records this as its budgets' source.

    Raises:
        ConfigError: a deployment cannot be resolved, or the ledger's URL is of an unknown kind.
        LedgerUnavailableError: the ledger cannot be opened.
    """
    clock = clock or Clock()
    book = PriceBook.load()
    plan = Plan.from_config(config, os.environ, book)
    store = open_store(config.ledger.url, config.ledger.direct_url)
    commits = CommitTimes()
    ledger = open_ledger(
        store,
        clock,
        lease_s=config.ledger.lease_s,
        max_hold_s=max(3600.0, 2 * config.gateway.total_timeout_s),
        observe_commit=commits.observe,
        journal=Path(config.ledger.journal),
    )
    try:
        _set_up(store, config, clock, config_file)
        providers = create_providers(plan.kinds, way_out=WayOut.from_environ(os.environ))
        # Without a shipper, nothing would ever remove captured content from the ledger.
        content = config.telemetry.content if config.telemetry.enabled else "off"
        router = Router(config, plan, ledger, book, providers, clock, content)
        try:
            exposition = Exposition(
                store, router.health.snapshot, commits, clock, price_book=book.date
            )
            app = create_app(
                config,
                router,
                ledger,
                router.health,
                clock,
                exposition.render,
                exposition.overhead.observe,
            )
            exposition.in_flight = lambda: app.state.edge.in_flight
            exposition.waiting = lambda: router.room.waiting
            exposition.ledger_away = lambda: ledger.away
            if ledger.journal is not None:
                exposition.journal = ledger.journal.figures
            reader = asyncio.create_task(router.unread.run(lambda: store.exclusive("unread")))
            reader.add_done_callback(_report)
            try:
                yield Gateway(app, ledger, router, plan)
            finally:
                reader.cancel()
                await asyncio.wait([reader])
                exposition.close()
        finally:
            await router.close()
            for provider in providers.values():
                await provider.close()
    finally:
        await ledger.close()


def _report(reader: asyncio.Task[None]) -> None:
    if not reader.cancelled() and (error := reader.exception()) is not None:
        log.error("batches and answers that nobody reads are not read any more", exc_info=error)


def _set_up(store: Store, config: Config, clock: Clock, config_file: Path | None) -> None:
    """Set the budgets that are new or have changed in the file. Changes made by command since then
    stay, and the log lists where the two differ."""
    source = "" if config_file is None else str(config_file.resolve())
    with store.records("create") as records:
        records.by = by_file(source)
        records.set_ships(ships=config.telemetry.enabled)
        budgets = [budget_of(entry) for entry in config.budgets]
        before = {budget.name: budget for budget in records.budgets()}
        changed = records.apply_file(source, budgets, clock.now_ns())
        for budget in changed:
            log.info("budget %r set from the file: %s", budget.name, summary(budget))
        for difference in records.differences():
            if difference.source == source:
                log.warning("%s", difference.text)
    with store.reports() as reports:
        pruned_ns = reports.pruned_ns()
    for text in missing(before, changed, pruned_ns, clock.now_ns()):
        log.warning("%s", text)


def run_gateway(
    config: Config, config_file: Path | None, *, ship: bool, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config_file: where `config` was read from; the shipper reads it too.
        ship: run the shipper as a child process.
        on_ready: called with the URL once requests are accepted.

    Raises:
        SpanledgerError: it cannot start; the message says what to change.
    """
    with open_store(config.ledger.url).records("create") as records:
        keyed = records.has_keys()
    check_exposure(config.gateway.host, keyed)
    _tune_interpreter()
    raise_file_limit(config.gateway.max_concurrent_requests)
    if warning := room_for_uploads(config.gateway.most_upload_bytes):
        log.warning("%s", warning)
    import uvloop

    shipper = _shipper_command(config, config_file) if ship else None
    uvloop.run(_serve(config, config_file, shipper, on_ready))


def _tune_interpreter() -> None:
    """Process-wide settings, each measured; see docs/performance.md."""
    # The writer thread must not wait the default 5 ms for the interpreter after each commit.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Imported modules live as long as the process: exclude them from collection.
    gc.collect()
    gc.freeze()
    # Requests free their memory by reference counting; cycles are rare.
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def raise_file_limit(requests: int) -> None:
    """Raise the limit on open files to what this many requests in flight need.

    Shells and services often start with 1,024. Without a free file descriptor no provider can be
    reached, which would look as if the provider were down.
    """
    wanted = FILES_PER_REQUEST * requests + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "this process may open %d files, and gateway.max_concurrent_requests needs %d:"
            " raise the limit (ulimit -Hn, LimitNOFILE) or lower the setting",
            allowed,
            wanted,
        )


async def _serve(
    config: Config,
    config_file: Path | None,
    shipper_command: list[str] | None,
    on_ready: Callable[[str], None],
) -> None:
    sock = bind(config.gateway.host, config.gateway.port)
    async with open_gateway(config, config_file=config_file) as gateway:
        server = make_server(gateway.app, config, sock, on_ready)
        shipper = None
        if shipper_command:
            # Not as an option: everybody on the machine can read the arguments of a process.
            environment = {
                **os.environ,
                "SPANLEDGER_LEDGER_URL": config.ledger.url,
                "SPANLEDGER_LEDGER_DIRECT_URL": config.ledger.direct_url,
            }
            shipper = asyncio.create_task(
                _keep_shipping(
                    shipper_command,
                    shipper_environment(environment, config.notices.variables),
                )
            )
        try:
            await server.serve()
        finally:
            if shipper is not None:
                shipper.cancel()
                with suppress(asyncio.CancelledError):
                    await shipper


async def _keep_shipping(command: list[str], environment: Mapping[str, str]) -> None:
    """Run the shipper as a child process and restart it when it dies, unless its settings are at fault.
    It exits by itself if we are killed."""
    pause = SHIPPER_RESTART_S[0]
    while True:
        started = time.monotonic()
        child = await asyncio.create_subprocess_exec(*command, env=environment)
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            await _stop(child)
            raise
        if status == SETTINGS_AT_FAULT:
            log.error(
                "telemetry and notices are not sent: the shipper cannot run with its settings, as it says"
                " above. Change them and restart the gateway, or start it with --no-ship and run `spanledger ship`"
            )
            return
        if time.monotonic() - started > SHIPPER_RESTART_S[1]:
            pause = SHIPPER_RESTART_S[0]
        log.warning("the shipper exited with status %d; restarting it in %.1f s", status, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, SHIPPER_RESTART_S[1])


def shipper_environment(environ: Mapping[str, str], also: Collection[str] = ()) -> dict[str, str]:
    """The part of our environment that the shipper gets. It only talks to a collector, so it must
    not see the providers' keys: variables not known to be needed are left out.

    Args:
        also: the names of variables that the section `notices` refers to.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in SHIPPER_VARIABLES or name in also or name.upper().startswith(SHIPPER_PREFIXES)
    }


def _shipper_command(config: Config, config_file: Path | None) -> list[str] | None:
    """What sends telemetry and notices, as far as they are wanted."""
    if config.telemetry.enabled:
        what = ["ship"]
    elif config.notices.destinations:
        what = ["notices", "run"]
    else:
        return None
    command = [sys.executable, "-m", "spanledger", *what]
    command += ["--parent-pid", str(os.getpid())]
    gateway = config.gateway
    command += ["--log-level", gateway.log_level, "--log-format", gateway.log_format]
    return [*command, "--config", str(config_file)] if config_file else command


async def _stop(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(SHIPPER_STOP_S):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
