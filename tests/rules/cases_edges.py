"""Just under and just over each threshold, and just within and just beyond each window."""

from __future__ import annotations

from prometheus.src.names import COLLECTOR_LOSSES
from tests.rules.cases_machinery import AGE, DROPS, LEDGER, collector, commits, lost
from tests.rules.cases_machinery import slow as slow_disk
from tests.rules.cases_providers import (
    BURN,
    DOWN,
    SLOW,
    STORM,
    attempts,
    burn,
    down,
    fallbacks,
    requests,
    slow,
    storm,
    streams,
    up,
)
from tests.rules.cases_spend import (
    OVERRUN,
    SPIKE,
    UNPRICED,
    beyond,
    cost,
    count,
    overrun,
    spike,
    unpriced,
)
from tests.rules.harness import Case, Fires


def failing(share: float, minutes: int, well: int = 0) -> dict[str, str]:
    """A provider that fails a share of a thousand attempts a minute, after some minutes without failures;
    callers get the errors."""
    bad = round(1000 * share, 3)
    good = f"0+1000x{well} {1000 * well + 1000 - bad:g}+{1000 - bad:g}x{minutes}"
    errors = f"0x{well} {bad:g}+{bad:g}x{minutes}"
    return {
        **attempts(good),
        **attempts(errors, "timeout"),
        **requests(good),
        **requests(errors, error="timeout"),
    }


def rising(*parts: tuple[float, int]) -> str:
    """A counter that grows at one rate a minute for some minutes, then at another."""
    words, total = [], 0.0
    for rate, minutes in parts:
        words.append(f"{total + rate:.6g}+{rate:g}x{minutes - 1}")
        total += rate * minutes
    return " ".join(words)


def turning(*parts: tuple[float, int]) -> dict[str, str]:
    """A provider that fails one share of its attempts for some minutes, then another; callers see the errors."""
    good = rising(*((1000 * (1 - share), minutes) for share, minutes in parts))
    bad = rising(*((1000 * share, minutes) for share, minutes in parts))
    return {
        **attempts(good),
        **attempts(bad, "timeout"),
        **requests(good),
        **requests(bad, error="timeout"),
    }


def seldom(an_hour: float, minutes: int) -> dict[str, str]:
    """A provider with few attempts, two in five of which fail, at a rate per hour; callers see the errors."""
    bad, good = an_hour / 60, an_hour / 40
    return {
        **attempts(f"0+{good:g}x{minutes}"),
        **attempts(f"0+{bad:g}x{minutes}", "timeout"),
        **requests(f"0+{good:g}x{minutes}"),
        **requests(f"0+{bad:g}x{minutes}", error="timeout"),
    }


def both(share: str) -> list[Fires]:
    """The page and the ticket for a provider that has always failed this way."""
    return [burn(share, severity) for severity in ("page", "ticket")]


def quietly(share: float, provider: str = "openai") -> dict[str, str]:
    """Two busy healthy days, then a quiet one on which a share fails."""
    bad = 100 * share
    before = 2_880_000
    return {
        **attempts(f"0+1000x2880 {before + 100 - bad:g}+{100 - bad:g}x1500", "", provider),
        **attempts(f"0x2880 {bad:g}+{bad:g}x1500", "timeout", provider),
    }


def losses(series: str) -> Case:
    """One loss, as a counter's first sample, and some more; no old ones, and none after a gap in scrapes."""
    ours = series == DROPPED
    job, of = ("", "spanledger_drop_reason") if ours else ('job="collector",', "exporter")
    values = {"first": "_x20 1x90", "more": "5x19 9x90", "old": "5x110", "gap": "5x19 _x38 5x60"}
    return Case(
        DROPS,
        f"{series}: each loss, once",
        {f'{series}{{instance="c1",{job}{of}="{who}"}}': text for who, text in values.items()},
        {
            19: [],
            20: [told(series, 1, of, "first"), told(series, 5, of, "more")],
            53: [told(series, 1, of, "first"), told(series, 5, of, "more")],
            54: [told(series, 1, of, "first")],
            55: [],
            63: [],
        },
    )


def told(series: str, count: int, label: str, who: str) -> Fires:
    """The alert for a loss, with its place."""
    job = {} if series == DROPPED else {"job": "collector"}
    return lost(count, series, **job, **{label: who})


def often(up: int, of: int = 24) -> str:
    """A deployment's gauge that is up in some of each twenty-four samples."""
    return " ".join([f"1x{up - 1} 0x{of - up - 1}"] * 20)


DROPPED = "spanledger_telemetry_dropped_total"
LATE = {**requests("0+100x60"), **fallbacks("0+50x60")}

CASES = [
    Case(
        BURN,
        "an hour at 13 %, after five healthy ones",
        failing(0.13, 70, 300),
        {360: [burn("2.107%", "ticket")]},
    ),
    Case(
        BURN,
        "an hour at 16 %, after five healthy ones",
        failing(0.16, 70, 300),
        {360: [burn("15.49%", "page"), burn("2.593%", "ticket")]},
    ),
    Case(
        BURN,
        "an hour of some failures, many of them at the end",
        turning((0, 300), (0.12, 50), (0.2, 10), (0, 60)),
        {358: [burn("2.087%", "ticket")]},
    ),
    Case(
        BURN,
        "an hour of failures, few of them at the end",
        turning((0, 300), (0.25, 50), (0.13, 60)),
        {350: [burn("20.41%", "page"), burn("3.508%", "ticket")], 375: [burn("4.167%", "ticket")]},
    ),
    Case(
        BURN,
        "six hours at 5.5 %",
        failing(0.055, 400),
        {400: [burn("5.5%", "ticket")]},
    ),
    Case(BURN, "six hours at 6.5 %", failing(0.065, 400), {400: both("6.5%")}),
    Case(BURN, "three days at less than 1 %", failing(0.009, 400), {400: []}),
    Case(
        BURN,
        "three days at more than 1 %",
        failing(0.011, 400),
        {400: [burn("1.1%", "ticket")]},
    ),
    Case(BURN, "nine failures in an hour", seldom(9, 59), {59: []}),
    Case(BURN, "eleven failures in an hour", seldom(11, 100), {54: [], 62: both("40%")}),
    Case(BURN, "nine failures in six hours", seldom(1.5, 380), {370: []}),
    Case(BURN, "eleven failures in six hours", seldom(1.85, 380), {320: [], 370: both("40%")}),
    Case(
        BURN,
        "over one in a hundred callers",
        {
            **attempts("0+50x90"),
            **attempts("0+50x90", "rate_limited"),
            **requests("0+988.5x90"),
            **requests("0+11.5x90", error="rate_limited"),
        },
        {10: both("50%")},
    ),
    Case(STORM, "nine in five minutes", {**requests("0+4x60"), **fallbacks("0+1.8x60")}, {20: []}),
    Case(
        STORM,
        "eleven in five minutes",
        {**requests("0+4x60"), **fallbacks("0+2.2x60")},
        {20: [storm("55%")]},
    ),
    Case(STORM, "less than a fifth", {**requests("0+100x60"), **fallbacks("0+18x60")}, {20: []}),
    Case(
        STORM,
        "more than a fifth",
        {**requests("0+100x60"), **fallbacks("0+22x60")},
        {20: [storm("22%")]},
    ),
    Case(STORM, "rows nine minutes old", {**LATE, AGE: "540x60"}, {20: [storm("50%")]}),
    Case(
        STORM,
        "rows eleven minutes old",
        {**LATE, AGE: "660x20 3x60"},
        {20: [], 39: [], 43: [storm("50%")]},
    ),
    Case(OVERRUN, "just under a cent", beyond("0x69 0.0095x100"), {80: []}),
    Case(
        OVERRUN,
        "just over a cent, for an hour",
        beyond("0x69 0.0105x200"),
        {69: [], 80: [overrun("0.0105")], 128: [overrun("0.0105")], 129: []},
    ),
    Case(OVERRUN, "a long gap in scrapes", beyond("3x69 _x85 3x60"), {155: [], 160: []}),
    Case(
        OVERRUN,
        "a Prometheus that has just started sees nothing new",
        {'up{instance="gateway:4000",job="gateway"}': "_x5 1x200", **beyond("_x5 7x200")},
        {5: [], 40: [], 64: [], 70: []},
    ),
    Case(
        UNPRICED,
        "one, as the first sample",
        count("m", "_x20 1x99"),
        {20: [unpriced(1, "m")], 29: [unpriced(1, "m")]},
    ),
    Case(
        SLOW,
        "nineteen streams, and twenty-one",
        {
            **streams({"5.12": "0x90", "10.24": "0+1.9x90", "+Inf": "0+1.9x90"}, "few"),
            **streams({"5.12": "0x90", "10.24": "0+2.1x90", "+Inf": "0+2.1x90"}),
        },
        {30: [slow("9.984s")]},
    ),
    Case(
        BURN,
        "a quiet day at less than 3 %, and at more",
        {**quietly(0.025), **quietly(0.035, "anthropic")},
        {4370: [burn("3.5%", "ticket", "anthropic")]},
    ),
    Case(
        SPIKE,
        "daily peaks, and spend no higher than a busy hour, are not spikes",
        {
            **cost("daily", rising((0.1, 600), (2, 60), (0.1, 1380), (2, 120)), "e1"),
            **cost("often", rising((0.1, 400), (1, 300), (0.1, 1340), (1, 120)), "e2"),
            **cost("never", rising((0.1, 2040), (2, 120)), "e3"),
        },
        {
            2055: [spike(*who, "30.00") for who in (("customer", "never"), ("model", "e3"))],
            2090: [spike(*who, "30.00") for who in (("customer", "never"), ("model", "e3"))],
        },
    ),
    *map(losses, (*COLLECTOR_LOSSES, DROPPED)),
    Case(
        DROPS,
        "a queue less than half full",
        {
            **collector("otelcol_exporter_queue_size", "45x60", exporter="e"),
            **collector("otelcol_exporter_queue_capacity", "100x60", exporter="e"),
        },
        {30: []},
    ),
    Case(
        DOWN,
        "up for a fifth of the time, and for more than a quarter",
        {**up("a", often(5)), **up("b", often(7), route="code")},
        {10: [down()], 20: [down()]},
        step="5s",
    ),
    Case(
        DOWN,
        "a single request that fell back, in five minutes",
        {**up("a", "1x9 0x60"), **fallbacks("0x9 1x60")},
        {12: [], 14: [], 15: [down()]},
    ),
    Case(LEDGER, "less than one commit in twenty", commits("0+95.5x60", "0+100x60"), {30: []}),
    Case(
        LEDGER,
        "more than one commit in twenty",
        commits("0+94.5x60", "0+100x60"),
        {30: [slow_disk("5.5%")]},
    ),
    Case(
        LEDGER,
        "a disk that is fast again for five minutes",
        commits("0+90x30 2800+100x60", "0+100x120"),
        {30: [slow_disk("10%")], 37: [slow_disk("5%")], 38: []},
    ),
    Case(
        SLOW,
        "barely more than one in twenty",
        streams({"5.12": "0+18.95x90", "10.24": "0+20x90", "+Inf": "0+20x90"}),
        {30: [slow("5.364s")]},
    ),
]
