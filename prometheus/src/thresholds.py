"""Every number that alerts use, with its reason. Nothing else decides when somebody is woken.

Durations are seconds. Before changing a value here, try it with `tools/generate_rules.py --set name=value`
and replay it over a history with `tools/replay_alerts.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Window:
    """A pair of burn-rate windows: the long one proves the problem, the short one ends the alert."""

    long_s: int
    short_s: int
    factor: float
    severity: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The values that rules are generated from. The reason is below each value."""

    # Budgets. Each budget has its own `thresholds`: 50, 80 and 95 % unless set.
    exhausted_ratio: float = 0.99
    """Not 1: the ledger stops a budget before it is overdrawn, so spending ends just under the limit."""
    refused_ratio: float = 0.75
    """If a budget refuses requests, an account this full is assumed to be the cause. A small budget has no
    room for an expensive request long before 99 %, but one that is emptier than this is not exhausted."""
    refused_window_s: int = 5 * MINUTE
    """How recent a refusal must be; a caller that retries is silent for five minutes at most."""
    exhausted_for_s: int = MINUTE
    """A second evaluation must agree, so that one odd scrape wakes nobody. The ledger has already stopped
    the spending, so a minute costs nothing."""
    budget_gap_s: int = 15 * MINUTE
    """A gateway's restart or a lost scrape may hide a budget this long without a second message."""

    # Forecast
    forecast_min_period_s: int = 6 * DAY
    """The pace within a day predicts nothing: traffic at noon says nothing about the night. Weeks and months do."""
    forecast_min_elapsed: float = 0.10
    """In the first tenth of a period, one busy day decides the pace."""
    forecast_min_used: float = 1 / 3
    """With less spent, there is nothing to rescue yet, and a month that begins on a Monday looks 25 %
    too expensive in its first week."""
    forecast_most_used: float = 0.95
    """From there on, the last threshold has fired, and the end is near enough to be seen."""
    forecast_latest: float = 5 / 6
    """Only if the limit is reached with a sixth of the period left: workdays and weekends move the
    pace by up to 20 %, and after that the thresholds fire."""
    forecast_for_s: int = 30 * MINUTE
    """A forecast over weeks is not urgent, and half an hour outlasts a burst at the edge."""
    forecast_gap_s: int = 2 * HOUR
    """A pace that fluctuates around the edge sends one message."""

    # Spend
    spike_factor: float = 4.0
    """Traffic triples between a normal and a busy hour, so fourfold is unusual. Runaway loops and
    leaked keys are tenfold and more."""
    spike_floor_usd: float = 5.0
    """In 15 minutes, that is 20 USD an hour. Below this, a spike costs less than being woken."""
    spike_busy_quantile: float = 0.9
    """The baseline is the busy hour (a tenth of a week's hours are above it), so that mornings are not
    spikes and a spike of a few hours does not become the baseline."""
    spike_known_s: int = DAY
    """A customer or model seen for less than a day has nothing to compare with."""
    spike_memory_s: int = 6 * DAY
    """How long before that it may have been seen: with the day above, this is the baseline's week. After a
    weekend off, a stack still knows on Monday whom it knew on Friday."""
    spike_for_s: int = 5 * MINUTE
    """Outlasts a late delivery of metrics, which piles up in one minute."""
    spike_quiet_s: int = 15 * MINUTE
    """A spike that pauses for less is the same spike."""
    unpriced_window_s: int = 10 * MINUTE
    """One request is enough: a model without a price has no upper bound on what it costs."""
    unpriced_quiet_s: int = HOUR
    """A model requested once in a while is one ticket, not one each time."""
    overrun_floor_usd: float = 0.01
    """In an hour. Cents are a provider's rounding of tokens; more means that a cost bound is wrong."""
    overrun_window_s: int = HOUR
    """Long answers are charged when they end; an hour covers the longest."""

    # Providers
    fallback_ratio: float = 0.2
    """Of a route's requests. A provider's usual bad minute moves under 5 %."""
    fallback_min: int = 10
    """In five minutes, so that two of three requests at night are not a storm."""
    fallback_for_s: int = 2 * MINUTE
    """A cooldown resolves a hiccup within a minute."""
    fallback_quiet_s: int = 5 * MINUTE
    """A storm that pauses for less, or is not seen for a few scrapes, is the same storm."""
    slo_error_ratio: float = 0.01
    """Objective: 99 % of a month's attempts at a provider do not fail through its fault."""
    burn_windows: tuple[Window, ...] = (
        Window(HOUR, 5 * MINUTE, 14.4, "page"),
        Window(6 * HOUR, 30 * MINUTE, 6.0, "page"),
        Window(DAY, 2 * HOUR, 3.0, "ticket"),
        Window(3 * DAY, 6 * HOUR, 1.0, "ticket"),
    )
    """From the Google SRE workbook: 2 % of the month's budget in an hour or 5 % in six hours page; 10 % in
    a day or in three days are a ticket. The windows of one severity are one alert."""
    burn_errors: float = 0.01
    """Of a route's requests. Below this, retries and fallbacks serve the callers; FallbackStorm reports
    fallbacks, and a provider that fails while callers are served is a ticket."""
    burn_quiet_s: int = 15 * MINUTE
    """An outage that spares callers for less is the same outage."""
    burn_min_failures: int = 10
    """In the long window: one failure of three, or of sixty on a stack's first day, does not disprove
    99 %."""
    down_ratio: float = 0.25
    """Of the last two minutes. A deployment that keeps cooling down is up for a moment
    between two attempts, so it is never exactly zero."""
    down_window_s: int = 2 * MINUTE
    """Twenty-four default cooldowns (5 s): more than a pause."""
    down_for_s: int = MINUTE
    """Callers get errors, so wait no longer than one lost scrape."""
    down_quiet_s: int = 5 * MINUTE
    """A route that is back for less is not back, and missed scrapes do not resolve the alert."""
    first_token_s: float = 5.12
    """At the 95th percentile. A bucket bound of the histogram, so that crossing it is measured instead of
    interpolated; people leave a chat that is silent for five seconds."""
    first_token_min: int = 20
    """Streams in ten minutes: below twenty, the 95th percentile is a single stream."""
    first_token_for_s: int = 10 * MINUTE
    """A provider's slow minutes pass, and nobody can act faster."""

    # The machinery
    backlog_age_s: float = 120.0
    """Rows are accepted within seconds; two minutes means that the collector is down or too slow."""
    late_age_s: float = 600.0
    """Of the oldest row. An older backlog arrives in one burst, which must not look like a spike or a storm;
    three quarters of a busy hour in one minute would be a CostSpike."""
    late_window_s: int = 20 * MINUTE
    """How long after the burst alerts stay silent; they look back 15 minutes at most."""
    backlog_for_s: int = 5 * MINUTE
    """A collector's restart takes one minute."""
    queue_ratio: float = 0.5
    """Of the collector's queue: half of the outage it can survive is used up."""
    dropped_window_s: int = 5 * MINUTE
    """A lost span or point is lost for good, so one is enough."""
    dropped_quiet_s: int = 30 * MINUTE
    """Drops come in bursts, which should send one message."""
    commit_slow_s: float = 0.1
    """A bucket bound of the histogram. A commit on a disk takes 1 to 10 ms, and all callers of that
    moment wait for it."""
    commit_slow_ratio: float = 0.05
    """Of the commits: at one in twenty, it shows in callers' 95th percentile."""
    commit_for_s: int = 10 * MINUTE
    """A backup or another program on the disk passes."""
    commit_quiet_s: int = 5 * MINUTE
    """A disk that is fast for less is still slow, and missed scrapes do not resolve the alert."""
    hold_stuck_s: float = 1200.0
    """Twice the default `gateway.total_timeout_s`: no request runs that long."""
    hold_for_s: int = 5 * MINUTE
    """The sweep runs once per lease (30 s), so it has run ten times."""
    ledger_for_s: int = MINUTE
    """With an unreadable ledger every request is refused; this forgives one lost scrape."""
    absent_memory_s: int = DAY
    """A signal seen within a day is expected to continue."""
    absent_for_s: int = 10 * MINUTE
    """Longer than any restart, and than the five minutes for which Prometheus remembers a sample."""


DEFAULT = Thresholds()
