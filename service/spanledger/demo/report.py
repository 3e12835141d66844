"""The final report: the same figures as text for people and as JSON for scripts."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spanledger.demo.figures import REPORT_QUANTILES, Percentiles
from spanledger.demo.promises import Money, Promise
from spanledger.ledger.rows import SpendRow, Totals
from spanledger.money import format_usd


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of the final report."""

    seconds: float
    totals: Totals
    money: Money
    promises: list[Promise]
    spend: list[SpendRow]
    fallbacks: list[tuple[str, str, str, int]]
    refusals: list[tuple[str, str, int]]
    latencies: list[Percentiles]
    kept: Path | None = None

    @property
    def broken(self) -> list[Promise]:
        """Promises that were broken."""
        return [promise for promise in self.promises if not promise.kept]

    def as_json(self) -> dict[str, object]:
        """The output of `spanledger demo --json`."""
        return {
            "seconds": round(self.seconds, 1),
            "requests": self.totals.requests,
            "attempts": self.totals.attempts,
            "fallbacks": self.totals.fallbacks,
            "refused": self.totals.refused,
            "bill_usd": format_usd(self.money.bill),
            "ledger_usd": format_usd(self.money.ledger),
            "spans_usd": format_usd(self.money.spans),
            "promises": {promise.name: promise.kept for promise in self.promises},
            "shown": {promise.name: promise.shown for promise in self.promises},
            "spend": [
                {
                    "customer": row.group[0],
                    "model": row.group[1],
                    "usd": format_usd(row.cost_nano),
                    "attempts": row.attempts,
                    "input_tokens": row.input_tokens,
                    "output_tokens": row.output_tokens,
                }
                for row in self.spend
            ],
            "fallback_reasons": [
                {"from": left, "to": to, "reason": reason, "count": count}
                for left, to, reason, count in self.fallbacks
            ],
            "refusals": [
                {"customer": customer, "budget": budget, "count": count}
                for customer, budget, count in self.refusals
            ],
            "latency": [
                {
                    "model": item.model,
                    "count": item.count,
                    "seconds": _named(item.whole),
                    "first_token_seconds": _named(item.first),
                }
                for item in self.latencies
            ],
            "kept": str(self.kept) if self.kept else None,
        }

    def show(self, console: Console) -> None:
        """Print it for people."""
        console.rule("[bold]spanledger demo")
        console.print(_spend(self.spend, self.totals))
        console.print(_latencies(self.latencies))
        console.print(_events(self.fallbacks, self.refusals))
        console.print(_promises(self.promises))
        equal = self.money.bill == self.money.ledger == self.money.spans
        console.print(
            f"[bold {'green' if equal else 'red'}]bill ${format_usd(self.money.bill)}"
            f" {'=' if equal else '≠'} ledger ${format_usd(self.money.ledger)}"
            f" {'=' if equal else '≠'} spans ${format_usd(self.money.spans)}[/]"
            f"   {self.totals.requests} requests in {self.seconds:.0f} s",
            highlight=False,
        )
        command = own_command()
        if self.kept:
            url = f"sqlite:///{self.kept.resolve() / 'ledger.db'}"
            console.print(
                f"\nkept in {self.kept}: spanledger.yaml, the ledger, jobs and results. To explore:"
                f"\n  {command} spend --by customer,model --ledger {url}"
                f"\n  {command} requests --ledger {url}"
                f"\n  {command} budget list --ledger {url}"
                f"\n  {command} top --once --window 600 --ledger {url}",
                highlight=False,
                soft_wrap=True,
            )
        console.print(next_steps(command), highlight=False, soft_wrap=True)


_NEXT_STEPS = {
    "config example > spanledger.yaml": "routes, a fallback and two budgets to start from",
    "gateway": "prints the base URL to set in your client",
    "top": "watch requests, spend and budgets as they happen",
}


def next_steps(command: str) -> str:
    """What to do after the demo, with the command as the reader can type it."""
    lines = {f"{command} {arguments}": what for arguments, what in _NEXT_STEPS.items()}
    width = max(map(len, lines))
    steps = "\n".join(f"  {line:<{width}}    {what}" for line, what in lines.items())
    return (
        f"\nNext, with your own provider key:\n{steps}\nOr see everything in Grafana:"
        " `make up` with Docker, `make toolchain && make stack` without."
    )


def own_command() -> str:
    """`spanledger` if it is on PATH; otherwise the path of the running program."""
    program = Path(sys.argv[0]).absolute()
    path = os.environ.get("PATH", os.defpath)
    if "UV" in os.environ:  # `uv run` puts the environment first, on the PATH of this program only
        path = path.partition(os.pathsep)[2]
    if program.name != "spanledger" or shutil.which("spanledger", path=path):
        return "spanledger"
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column.strip(">"), justify="right" if column.endswith(">") else "left")
    return table


def _spend(rows: list[SpendRow], totals: Totals) -> Table:
    table = _table(
        "Spend by customer and model",
        "customer",
        "model",
        "USD>",
        "attempts>",
        "tokens in>",
        "out>",
    )
    customers: dict[str, list[SpendRow]] = {}
    for row in rows:
        customers.setdefault(row.group[0], []).append(row)
    for customer, own in customers.items():
        cost = format_usd(sum(row.cost_nano for row in own))
        attempts = sum(row.attempts for row in own)
        table.add_row(f"[bold]{customer}", "", f"[bold]{cost}", str(attempts))
        for row in own:
            table.add_row(
                "",
                row.group[1],
                format_usd(row.cost_nano),
                str(row.attempts),
                str(row.input_tokens),
                str(row.output_tokens),
            )
    table.add_row("[bold]all", "", f"[bold]{format_usd(totals.cost_nano)}", str(totals.attempts))
    return table


def _latencies(items: list[Percentiles]) -> Table:
    names = [f"p{q}>" for q in REPORT_QUANTILES]
    table = _table(
        "\nSeconds to the complete answer, and to the first token of a stream",
        *("model", "served>", *names, f"first {names[0]}", *names[1:]),
    )
    for item in items:
        firsts = [f"{value:.3f}" for value in item.first] or ["-"] * len(REPORT_QUANTILES)
        table.add_row(item.model, str(item.count), *(f"{v:.3f}" for v in item.whole), *firsts)
    return table


def _events(
    fallbacks: list[tuple[str, str, str, int]], refusals: list[tuple[str, str, int]]
) -> Table:
    table = _table("\nFallbacks and refusals", "what", "which", "why", "count>")
    for left, to, reason, count in fallbacks:
        table.add_row("[yellow]fallback", f"{left} → {to}", reason, str(count))
    for customer, budget, count in refusals:
        table.add_row("[red]refused", customer, f"budget {budget}", str(count))
    return table


def _promises(promises: list[Promise]) -> Table:
    table = _table("\nPromises", "", "promise", "shown by")
    for promise in promises:
        mark = "[green]kept" if promise.kept else "[red]broken"
        table.add_row(mark, promise.name.replace("_", " "), promise.shown)
    return table


def _named(values: tuple[float, ...]) -> dict[str, float]:
    return {f"p{q}": round(v, 4) for q, v in zip(REPORT_QUANTILES, values, strict=False)}
