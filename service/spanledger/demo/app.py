"""Runs the demo from start to report: the composition root of this package."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from spanledger.demo.figures import Figures
from spanledger.demo.promises import judge, reckon
from spanledger.demo.report import Report
from spanledger.demo.stage import check_folder, open_stage
from spanledger.demo.view import Board
from spanledger.errors import SpanledgerError

DEADLINE_S = 300.0
"""The demo fails with an error if a slow machine takes longer than this."""


def run_demo(board: Board, *, seed: int, keep: Path | None) -> Report:
    """Run the incident.

    Raises:
        UsageError: the folder to keep is not empty.
        SpanledgerError: a process did not start, or died.
        KeyboardInterrupt: the demo was interrupted; everything has been stopped.
    """
    if keep is not None:
        check_folder(keep)
        return asyncio.run(_interruptible(_play(board, seed, keep.resolve(), keep)))
    with tempfile.TemporaryDirectory(prefix="spanledger-demo-") as folder:
        return asyncio.run(_interruptible(_play(board, seed, Path(folder), None)))


async def _interruptible(playing: Coroutine[Any, Any, Report]) -> Report:
    """Cancel the run on Ctrl-C and SIGTERM, so its child processes are stopped in order."""
    task = asyncio.ensure_future(playing)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await task
    except TimeoutError:
        raise SpanledgerError(f"the demo took longer than {DEADLINE_S:.0f} s") from None
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _play(board: Board, seed: int, folder: Path, kept: Path | None) -> Report:
    async with open_stage(folder, seed) as stage:
        # Imports the openai client, which is slow; the child processes are already running.
        from spanledger.demo.crowd import Applications
        from spanledger.demo.scenario import Scenario

        crowd = Applications(stage.gateway_url, stage.keys, seed)
        try:
            async with board.watching(stage.ledger):
                story = await Scenario(stage, crowd, board).play()
        finally:
            await crowd.close()
        seconds = board.seconds
        await stage.gateway.stop()
        spans = stage.sink.snapshot()
    figures = Figures(stage.ledger.reports())
    try:
        totals = figures.totals()
        money = reckon(story, totals, spans)
        return Report(
            seconds=seconds,
            totals=totals,
            money=money,
            promises=judge(story, figures, spans, money),
            spend=figures.spend(),
            fallbacks=figures.fallbacks(),
            refusals=figures.refusals(),
            latencies=figures.latencies(),
            kept=kept,
        )
    finally:
        figures.close()
