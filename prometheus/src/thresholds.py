"""Every number an alert rests on, with the reason for it. Nothing else decides when somebody is woken.

Durations are seconds. Another value is tried with `tools/generate_rules.py --set name=value`, and
against a history with `tools/replay_alerts.py`, before it is written here.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Window:
    """A pair of windows of an error budget's burn rate: the long one proves, the short one ends."""

    long_s: int
    short_s: int
    factor: float
    severity: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the rules are generated from. Reasons stand below each value."""

    # Budgets. The steps of the ladder are each budget's own `thresholds`: 50, 80 and 95 % unless set.
    exhausted_ratio: float = 0.99
    """Not 1: the ledger stops a budget before it is overdrawn, so spent ends just under the limit."""
    refused_ratio: float = 0.75
    """Where a budget is refusing, an account of it this full is taken to be the one. A small budget is
    exhausted for a dear request long before 99 %; one that refuses a dear request and is emptier, is
    not."""
    refused_window_s: int = 5 * MINUTE
    """How recent a refusal must be; five minutes is the longest a caller that retries is silent."""
    exhausted_for_s: int = MINUTE
    """A second evaluation must agree, so that one odd scrape wakes nobody. The ledger has stopped the
    spending by then; a minute loses no money."""
    budget_gap_s: int = 15 * MINUTE
    """A gateway's restart or a lost scrape may hide a budget this long without a second notice."""

    # Forecast
    forecast_min_period_s: int = 6 * DAY
    """A day's pace is no forecast: traffic at noon says nothing of the night. Weeks and months are."""
    forecast_min_elapsed: float = 0.10
    """Before a tenth of the period one busy day decides the pace."""
    forecast_min_used: float = 1 / 3
    """With less spent there is nothing to rescue yet, and a month that begins on a Monday looks 25 %
    too dear in its first week."""
    forecast_most_used: float = 0.95
    """From there on the ladder's last step has spoken, and the end is near enough to be seen."""
    forecast_latest: float = 5 / 6
    """Only if the limit is reached with a sixth of the period to go: workdays and weekends move the
    pace by up to 20 %, and later than that the ladder speaks."""
    forecast_for_s: int = 30 * MINUTE
    """A forecast of weeks does not hurry, and half an hour outlasts a burst at its edge."""
    forecast_gap_s: int = 2 * HOUR
    """A pace that goes to and fro over the edge is one notice."""

    # Spend
    spike_factor: float = 4.0
    """Traffic triples between a usual and a busy hour; fourfold is not rhythm. Runaway loops and
    leaked keys are tenfold and more."""
    spike_floor_usd: float = 5.0
    """In a quarter of an hour: 20 USD an hour. Below it a spike costs less than being woken."""
    spike_busy_quantile: float = 0.9
    """The baseline is the busy hour (a tenth of a week's hours are above it), so that a morning is no
    spike and a spike of a few hours does not become the usual."""
    spike_known_s: int = DAY
    """A customer or model is new until it has a day behind it: nothing to compare with."""
    spike_memory_s: int = 6 * DAY
    """How long before that: with the day, the week of the baseline. A stack that was off over a weekend
    knows on Monday whom it knew on Friday."""
    spike_for_s: int = 5 * MINUTE
    """Outlasts what a late delivery of metrics piles up in one minute."""
    spike_quiet_s: int = 15 * MINUTE
    """A spike that pauses for less is the same one."""
    unpriced_window_s: int = 10 * MINUTE
    """One request is enough: a model without a price has no upper bound on what it costs."""
    unpriced_quiet_s: int = HOUR
    """A model asked for once in a while is one ticket, not one each time."""
    overrun_floor_usd: float = 0.01
    """In an hour. Cents are a provider's rounding of tokens; more is a bound that does not hold."""
    overrun_window_s: int = HOUR
    """Long answers are booked when they end; an hour holds the longest."""

    # Providers
    fallback_ratio: float = 0.2
    """Of a route's requests. A provider's usual bad minute moves under 5 %."""
    fallback_min: int = 10
    """In five minutes, so that two of three requests at night are no storm."""
    fallback_for_s: int = 2 * MINUTE
    """A cooldown cures a hiccup within a minute."""
    fallback_quiet_s: int = 5 * MINUTE
    """A storm that pauses for less, or is not seen for a few scrapes, is the same one."""
    slo_error_ratio: float = 0.01
    """Objective: 99 % of the attempts of a month at a provider do not fail by its fault."""
    burn_windows: tuple[Window, ...] = (
        Window(HOUR, 5 * MINUTE, 14.4, "page"),
        Window(6 * HOUR, 30 * MINUTE, 6.0, "page"),
        Window(DAY, 2 * HOUR, 3.0, "ticket"),
        Window(3 * DAY, 6 * HOUR, 1.0, "ticket"),
    )
    """The Google SRE workbook's: 2 % of the month's budget in an hour, 5 % in six hours page; 10 % in
    a day or in three are a ticket. Those of one severity are one alert."""
    burn_errors: float = 0.01
    """Of a route's requests. Under it retries and fallbacks serve the callers; who fell back is told by
    FallbackStorm, and a provider that fails while callers are served is a ticket."""
    burn_quiet_s: int = 15 * MINUTE
    """An outage that spares the callers for less is the same one."""
    burn_min_failures: int = 10
    """In the long window: one failure of three, or of sixty on the first day of a stack, is no evidence
    against 99 %."""
    down_ratio: float = 0.25
    """Of the last two minutes. A deployment that cools down again and again is up for a moment
    between two attempts, so an exact zero would be missed."""
    down_window_s: int = 2 * MINUTE
    """Twenty-four default cooldowns (5 s): long enough to be no pause."""
    down_for_s: int = MINUTE
    """Callers get errors; no longer wait than one scrape lost."""
    down_quiet_s: int = 5 * MINUTE
    """A route that is back for less is not back, and a gap of scrapes is no end."""
    first_token_s: float = 5.12
    """At the 95th percentile. A bound of the histogram's buckets, so that crossing it is measured and
    not interpolated; people leave a chat that is silent for five seconds."""
    first_token_min: int = 20
    """Streams in ten minutes: under twenty, the 95th percentile is one stream."""
    first_token_for_s: int = 10 * MINUTE
    """A provider's slow minutes pass, and nobody can act in less."""

    # The machinery
    backlog_age_s: float = 120.0
    """Rows are taken within seconds; two minutes is a collector that is away or too slow."""
    late_age_s: float = 600.0
    """Of the oldest row. What was older came in one burst, which is no spike and no storm; three quarters of
    a busy hour in one minute would be a CostSpike."""
    late_window_s: int = 20 * MINUTE
    """The burst is that long ago. A quarter of an hour is the longest that such alerts look back."""
    backlog_for_s: int = 5 * MINUTE
    """A collector's restart takes one."""
    queue_ratio: float = 0.5
    """Of the collector's queue: half of an outage it can bear is gone."""
    dropped_window_s: int = 5 * MINUTE
    """Any span or point that is lost is lost for good, so one is enough."""
    dropped_quiet_s: int = 30 * MINUTE
    """Drops come in bursts; they are one notice."""
    commit_slow_s: float = 0.1
    """A bound of the histogram's buckets. A commit on a disk takes 1 to 10 ms, and all callers of that
    moment wait for it."""
    commit_slow_ratio: float = 0.05
    """Of the commits: at one in twenty, callers see it at their 95th percentile."""
    commit_for_s: int = 10 * MINUTE
    """A backup or a neighbour on the disk passes."""
    commit_quiet_s: int = 5 * MINUTE
    """A disk that is quick for less is slow, and a gap of scrapes is no end."""
    hold_stuck_s: float = 1200.0
    """Twice the default `gateway.total_timeout_s`: no request is under way that long."""
    hold_for_s: int = 5 * MINUTE
    """The sweep runs each lease (30 s), and had ten of them."""
    ledger_for_s: int = MINUTE
    """An unreadable ledger refuses every request; one lost scrape is forgiven."""
    absent_memory_s: int = DAY
    """A signal seen within a day is expected to go on."""
    absent_for_s: int = 10 * MINUTE
    """Longer than a restart of anything, and than the five minutes Prometheus remembers a sample."""


DEFAULT = Thresholds()
