"""The part of the registry that is scraped: every metric on `/metrics`, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spanledger.telemetry.vocabulary import Stability


@dataclass(frozen=True, slots=True)
class Scraped:
    """A metric on `/metrics`, under its Prometheus name."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    stability: Stability = "stable"


_BUDGET = ("budget", "scope", "subject")
OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)

SCRAPED: tuple[Scraped, ...] = (
    Scraped(
        "spanledger_budget_info",
        "gauge",
        "1 for each budget, with its period and time zone as labels.",
        (*_BUDGET, "period", "timezone"),
    ),
    Scraped("spanledger_budget_limit_usd", "gauge", "Limit per period.", _BUDGET),
    Scraped("spanledger_budget_spent_usd", "gauge", "Spent in the current period.", _BUDGET),
    Scraped("spanledger_budget_held_usd", "gauge", "Held by attempts in progress.", _BUDGET),
    Scraped("spanledger_budget_remaining_usd", "gauge", "Limit minus spent minus held.", _BUDGET),
    Scraped(
        "spanledger_budget_period_start_seconds",
        "gauge",
        "Unix time at which the period began.",
        _BUDGET,
    ),
    Scraped(
        "spanledger_budget_period_end_seconds",
        "gauge",
        "Unix time at which the budget renews.",
        _BUDGET,
    ),
    Scraped(
        "spanledger_budget_exhaustion_seconds",
        "gauge",
        "Seconds until the limit is reached at the period's mean rate so far; 0 = reached, absent ="
        " nothing spent yet.",
        _BUDGET,
    ),
    Scraped(
        "spanledger_budget_blocks",
        "gauge",
        "1 if the budget refuses requests at its limit, 0 if it only warns.",
        _BUDGET,
    ),
    Scraped(
        "spanledger_budget_threshold_ratio",
        "gauge",
        "Share of the limit at which the budget raises an alert; one series for each of its"
        " `thresholds`.",
        (*_BUDGET, "threshold"),
    ),
    Scraped("spanledger_budgets_shown", "gauge", "Accounts exported."),
    Scraped(
        "spanledger_budgets_left_out",
        "gauge",
        "Accounts not exported because they are further from their limit.",
    ),
    Scraped("spanledger_holds_open", "gauge", "Open holds in the whole ledger."),
    Scraped("spanledger_oldest_hold_seconds", "gauge", "Age of the oldest open hold; 0 = none."),
    Scraped(
        "spanledger_outbox_rows",
        "gauge",
        "Ended rows the collector has not accepted yet; approximate above a thousand.",
    ),
    Scraped("spanledger_outbox_age_seconds", "gauge", "Age of the oldest unshipped row; 0 = none."),
    Scraped(
        "spanledger_notices_sent_total",
        "counter",
        "Notices on budgets that a destination has accepted, of the whole ledger.",
        ("destination",),
    ),
    Scraped(
        "spanledger_notices_waiting",
        "gauge",
        "Notices on budgets that a destination has not accepted yet.",
        ("destination",),
    ),
    Scraped(
        "spanledger_notices_waiting_seconds",
        "gauge",
        "Age of the oldest of them; 0 = none.",
        ("destination",),
    ),
    Scraped(
        "spanledger_notices_failed",
        "gauge",
        "Notices on budgets that were given up on after three days of attempts.",
        ("destination",),
    ),
    Scraped(
        "spanledger_ledger_commit_seconds",
        "histogram",
        "Duration of this process's commits.",
        (),
        COMMIT_BUCKETS,
    ),
    Scraped(
        "spanledger_gateway_overhead_seconds",
        "histogram",
        "For requests this process answered completely: their duration minus that of their attempts"
        " at providers. Includes commits and pauses before retries.",
        (),
        OVERHEAD_BUCKETS,
    ),
    Scraped(
        "spanledger_ledger_operations_total",
        "counter",
        "Ledger operations for requests in this process's commits; an idle gateway has none.",
    ),
    Scraped(
        "spanledger_ledger_up",
        "gauge",
        "1 when the ledger could be read for this scrape and this process's last commit succeeded.",
    ),
    Scraped(
        "spanledger_deployment_up",
        "gauge",
        "1 while a deployment is in use, 0 while it is in cooldown or has no API key.",
        ("deployment", "route"),
    ),
    Scraped(
        "spanledger_deployment_cooldown_seconds",
        "gauge",
        "Seconds until a deployment's cooldown ends; 0 = not in cooldown.",
        ("deployment", "route"),
    ),
    Scraped(
        "spanledger_deployment_limit_used_ratio",
        "gauge",
        "Share of a deployment's rpm or tpm limit that this process used in the last minute; absent"
        " if it has no such limit.",
        ("deployment", "route", "limit"),
    ),
    Scraped("spanledger_journal_attempts_total", "counter", "Attempts held in this journal."),
    Scraped("spanledger_journal_rows", "gauge", "Rows in this journal that the ledger lacks."),
    Scraped("spanledger_requests_in_flight", "gauge", "Requests this process is serving."),
    Scraped("spanledger_requests_waiting", "gauge", "Of these, those that wait for others' holds."),
    Scraped("spanledger_build_info", "gauge", "Always 1.", ("version", "python")),
    Scraped("spanledger_price_book_info", "gauge", "Always 1; `book` is its date.", ("book",)),
)
