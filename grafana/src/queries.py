"""Every PromQL and TraceQL string of the dashboards. Names come from the signal registry.

Gateways expose the same ledger, so its gauges are aggregated with `max`, never summed. Calls measured by
both a gateway and an application count once: sums use the gateway's points and those of applications that
bypassed it; percentiles use only the gateway's, because bucket bounds differ.
"""

from __future__ import annotations

from prometheus.src import long
from spanledger.budgets.periods import FOREVER_S
from spanledger.errors import PROVIDER_ERROR_KINDS
from spanledger.telemetry import signals
from spanledger.telemetry.signals import Metric, Scraped, prometheus_name, prometheus_series

_SCRAPED = {scraped.name: scraped for scraped in signals.SCRAPED}
ZERO = " or vector(0)"
"""For figures that are zero while nothing has happened."""

NEWEST = " with (most_recent=true)"
"""Without this, Tempo returns the first spans it finds."""
WINDOW = "[$__rate_interval]"
RANGE = "[$__range]"


def series(metric: Metric | Scraped, suffix: str = "") -> str:
    """A series of a metric, by the suffix of its name."""
    return next(name for name in prometheus_series(metric) if name.endswith(suffix))


def scraped(name: str, suffix: str = "") -> str:
    """A series of `/metrics`; a name that is not registered is an error."""
    return series(_SCRAPED[name], suffix)


COST = prometheus_name(signals.COST)
LIST_COST = prometheus_name(signals.LIST_COST)
CHARGE = prometheus_name(signals.CHARGE)
OVERRUN = prometheus_name(signals.OVERRUN)
UNPRICED = prometheus_name(signals.UNPRICED)
FALLBACKS = prometheus_name(signals.FALLBACKS)
RETRIES = prometheus_name(signals.RETRIES)
DECISIONS = prometheus_name(signals.BUDGET_DECISIONS)
DROPPED = prometheus_name(signals.DROPPED)
REQUESTS = prometheus_name(signals.REQUEST_DURATION)
REQUEST_COST = prometheus_name(signals.REQUEST_COST)
ATTEMPTS = prometheus_name(signals.OPERATION_DURATION)
FIRST_CHUNK = prometheus_name(signals.TIME_TO_FIRST_CHUNK)
PER_CHUNK = prometheus_name(signals.TIME_PER_OUTPUT_CHUNK)
TOKENS = prometheus_name(signals.TOKEN_USAGE)

LIMIT = scraped("spanledger_budget_limit_usd")
SPENT = scraped("spanledger_budget_spent_usd")
HELD = scraped("spanledger_budget_held_usd")
LEFT = scraped("spanledger_budget_remaining_usd")
STARTS = scraped("spanledger_budget_period_start_seconds")
ENDS = scraped("spanledger_budget_period_end_seconds")
ABOUT_BUDGET = scraped("spanledger_budget_info")
EXHAUSTION = scraped("spanledger_budget_exhaustion_seconds")
LEFT_OUT = scraped("spanledger_budgets_left_out")
HOLDS = scraped("spanledger_holds_open")
OLDEST_HOLD = scraped("spanledger_oldest_hold_seconds")
OUTBOX = scraped("spanledger_outbox_rows")
OUTBOX_AGE = scraped("spanledger_outbox_age_seconds")
COMMITS = "spanledger_ledger_commit_seconds"
OVERHEAD = "spanledger_gateway_overhead_seconds"
OPERATIONS = scraped("spanledger_ledger_operations_total")
LEDGER_UP = scraped("spanledger_ledger_up")
DEPLOYMENT_UP = scraped("spanledger_deployment_up")
COOLDOWN = scraped("spanledger_deployment_cooldown_seconds")
IN_FLIGHT = scraped("spanledger_requests_in_flight")
BUILD = scraped("spanledger_build_info")

CUSTOMER = "spanledger_customer"
MODEL = "gen_ai_request_model"
PROVIDER = "gen_ai_provider_name"
OUTCOME = "spanledger_outcome"
DECISION = "spanledger_budget_decision"
SCOPE = "spanledger_budget_scope"
REFUSED_BY = "spanledger_budget_refused_by"
DEPLOYMENT = "spanledger_deployment"
FROM, TO, REASON = (
    "spanledger_fallback_from",
    "spanledger_fallback_to",
    "spanledger_fallback_reason",
)
ACCOUNT = "budget, scope, subject"

ONCE = 'spanledger_source=~"gateway|application|"'
GATEWAY = 'spanledger_source=~"gateway|"'
"""The empty value is for collectors that are not ours, which set no source."""

OUR_KINDS = ("cooldown", "rate_limit_reached")
"""Errors of attempts that were never sent."""
CALLERS_KINDS = ("invalid_request", "content_filtered", "context_window_exceeded", "cancelled")
"""Errors that would have been the same at any provider."""
if unknown := {*OUR_KINDS, *CALLERS_KINDS} - {*PROVIDER_ERROR_KINDS, "cancelled"}:
    raise KeyError(unknown)
NOT_THEIR_FAULT = f'error_type!~"{"|".join((*OUR_KINDS, *CALLERS_KINDS))}"'


def chosen(label: str, variable: str) -> str:
    """A matcher for a variable with one or more values.

    In backticks, because names may contain quotes and backslashes, and not every Grafana version escapes
    them in quoted strings. Names with backticks are refused when they are created.
    """
    return f"{label}=~`${{{variable}:regex}}`"


def being(label: str, variable: str) -> str:
    """A matcher for a variable with one value."""
    return f"{label}=`${{{variable}:raw}}`"


def original(name: str) -> str:
    """A counter's own name or, for ranges beyond a day, that of its copy if there is one."""
    return f"${{long}}{name}" if name in long.COPIED else name


def rate(name: str, by: str = "", where: str = "") -> str:
    """A counter's growth per second."""
    return _summed("rate", name, by, where, WINDOW)


def increase(name: str, by: str = "", where: str = "", window: str = RANGE) -> str:
    """A counter's growth."""
    return _summed("increase", name, by, where, window)


def _summed(function: str, name: str, by: str, where: str, window: str) -> str:
    grouped = f" by ({by})" if by else ""
    matchers = f"{{{where}}}" if where else ""
    if "$" in window:  # it grows with the selected range
        name = original(name)
    return f"sum{grouped} ({function}({name}{matchers}{window}))"


def quantile(q: float, name: str, by: str = "", where: str = "") -> str:
    """A percentile of a histogram over a point's window."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{name}_bucket', grouped, where)})"


def buckets(name: str, where: str = "") -> str:
    """A histogram's growth by bucket, for a heat map."""
    return increase(f"{name}_bucket", "le", where, WINDOW)


def mean(name: str, by: str = "", where: str = "") -> str:
    """A histogram's mean."""
    return f"{rate(f'{name}_sum', by, where)} / {rate(f'{name}_count', by, where)}"


def top(n: int, expr: str) -> str:
    """The n greatest series."""
    return f"topk({n}, {expr})"


def named(expr: str) -> str:
    """An expression of accounts with an extra label `whose`, for display."""
    each = f'label_replace({expr}, "whose", "$1", "subject", "(.+)")'
    return f'label_replace({each}, "whose", "everybody", "scope", "global")'


def account(name: str, where: str = "") -> str:
    """A budget gauge, once per account."""
    matchers = f"{{{where}}}" if where else ""
    return f"max by ({ACCOUNT}) ({name}{matchers})"


def label_values(name: str, label: str, where: str = "") -> str:
    """The values a variable offers."""
    matchers = f"{{{where}}}" if where else ""
    return f"label_values({name}{matchers}, {label})"


# For ranges beyond a day, queries read the copies, which have a sample every 15 minutes. Both variables are
# refreshed with the selected range; if the first finds nothing, its value is empty.
LONG_S = 86_400
_IS_LONG = f"vector($__range_s) > {LONG_S}"
LONG = f'query_result(label_replace({_IS_LONG}, "long", "{long.PREFIX}", "", ""))'
STEP = (
    f'query_result(label_replace({_IS_LONG}, "step", "{long.STEP}", "", "")'
    ' or on () label_replace(vector(1), "step", "30s", "", ""))'
)

# Requests.
REQUEST_RATE = rate(f"{REQUESTS}_count")
REQUESTS_BY_OUTCOME = rate(f"{REQUESTS}_count", OUTCOME)
_TO_SERVE = rate(f"{REQUESTS}_count", where=f'{OUTCOME}=~"ok|error"')
_SERVED = rate(f"{REQUESTS}_count", where=f'{OUTCOME}="ok"')
ANSWERED = f"({_SERVED} or 0 * {_TO_SERVE}) / ({_TO_SERVE} > 0)"
"""Of the requests to be served; refused, cancelled and abandoned requests are not failures."""
ERRORS_BY_KIND = rate(
    f"{REQUESTS}_count", "error_type", f'error_type!="",{OUTCOME}=~"error|refused"'
)
REQUEST_QUANTILES = [(q, quantile(q, REQUESTS, where=f'{OUTCOME}="ok"')) for q in (0.5, 0.95, 0.99)]

# Money.
SPEND_AN_HOUR = f"3600 * {rate(COST)}"
SPEND_TODAY = increase(COST, window="[24h]")


def spend_an_hour(by: str, where: str = "") -> str:
    """Spend per hour at the current rate."""
    return f"3600 * {rate(COST, by, where)}"


# Budgets. The gauges report the ledger's figures, in each budget's own period.
USED = f"{account(SPENT)} / ({account(LIMIT)} > 0)"
"""Share of the limit that is spent."""
COMMITTED = f"({account(SPENT)} + {account(HELD)}) / ({account(LIMIT)} > 0)"
NEAREST = named(f"topk(10, {COMMITTED})")
PERIODS = f"max by ({ACCOUNT}, period, timezone) ({ABOUT_BUDGET})"
"""Each account, with its budget's period and time zone as labels."""


def ends_early(where: str = "") -> str:
    """When budgets will be used up, in Unix milliseconds; absent for budgets that last their period."""
    return f"1000 * ((time() + {account(EXHAUSTION, where)}) < {account(ENDS, where)})"


REFUSALS = rate(DECISIONS, f"{SCOPE}, {REFUSED_BY}, {DECISION}", f'{DECISION}=~"deny|throttle"')
REFUSED_REQUESTS = increase(f"{REQUESTS}_count", where=f'{OUTCOME}="refused"')
UNCERTAIN_REQUESTS = increase(UNPRICED)

# Providers.
FALLBACK_RATE = rate(FALLBACKS, f"{FROM}, {TO}, {REASON}")
RETRY_RATE = rate(RETRIES, REASON)
DOWN = f"sum(max by (deployment, route) ({DEPLOYMENT_UP}) == bool 0)"

# Annotations mark beginnings: otherwise a budget that refuses for a day would be a mark a day long. In a long
# range, a point covers the whole time since the previous point, and "before" starts where that ends.
BEFORE = "[15m] offset $__rate_interval"
_REFUSED, _REFUSED_BEFORE = (
    increase(DECISIONS, REFUSED_BY, f'{DECISION}="deny"', window) for window in (WINDOW, BEFORE)
)
WHEN_REFUSED = f"{_REFUSED} > 0 unless on ({REFUSED_BY}) {_REFUSED_BEFORE} > 0"
_STORM, _STORM_BEFORE = (
    f'last_over_time(ALERTS{{alertname="FallbackStorm",alertstate="firing"}}{window})'
    for window in (WINDOW, BEFORE)
)
WHEN_FALLBACK_STORM = f"{_STORM} unless on (spanledger_route) {_STORM_BEFORE}"
"""Prometheus' own series for an alert exists only while it fires, so a month of it is cheap to read."""

# Cost and budgets.
_CUSTOMERS = chosen(CUSTOMER, "customer")
_MODELS = chosen(MODEL, "model")
_AT = chosen(PROVIDER, "provider")
CHOSEN = f"{_CUSTOMERS},{_MODELS},{_AT}"
OF_BUDGET = being("budget", "budget")
ONE_ACCOUNT = f"{OF_BUDGET},{being('subject', 'subject')}"
SPENT_IN_RANGE = increase(COST, where=CHOSEN)
TOKENS_BY_TYPE = increase(
    f"{TOKENS}_sum",
    "gen_ai_token_type",
    f"{ONCE},{_MODELS},{_AT}",
    "[$bucket]",
)
MEAN_REQUEST_COST = mean(REQUEST_COST, where=_CUSTOMERS)
REQUEST_COST_BUCKETS = buckets(REQUEST_COST, _CUSTOMERS)
OVERRUN_BY_MODEL = increase(OVERRUN, MODEL, CHOSEN) + " > 0"
USED_OF_HOLDS = f"{increase(COST, MODEL, f'{_MODELS},{_AT}')} / ({increase(prometheus_name(signals.HELD), MODEL, f'{_MODELS},{_AT}')} > 0)"
_UNPRICED = increase(UNPRICED, f"{MODEL}, error_type", f"{_MODELS},{_AT}") + " > 0"
UNPRICED_BY_MODEL = f'label_join({_UNPRICED}, "what", " ", "{MODEL}", "error_type")'


def spent_in_bucket(by: str) -> str:
    """Spend in each bar of the chosen length."""
    return f"{increase(COST, by, CHOSEN, '[$bucket]')} > 0"


def spent_in_range(by: str) -> str:
    """Spend in the selected range."""
    return f"{increase(COST, by, CHOSEN)} > 0"


def charged_in_range(by: str) -> str:
    """What customers are charged in the selected range."""
    return f"{increase(CHARGE, by, CHOSEN)} > 0"


def margin_in_range(by: str) -> str:
    """Charge minus cost in the selected range, where anything is charged."""
    return f"({charged_in_range(by)}) - on ({by}) {increase(COST, by, CHOSEN)}"


SAVED_BY_PROVIDER = f"({increase(LIST_COST, PROVIDER, CHOSEN)} > 0) - on ({PROVIDER}) {increase(COST, PROVIDER, CHOSEN)}"

LONGEST_NAME = 44
"""Characters of an account's name that fit into a chart."""
_FULLEST = f"topk(15, {COMMITTED})"


def share_of_limit(name: str) -> str:
    """A gauge of the budgets closest to their limit, as a share of it, with the account's name."""
    share = f"{account(name)} / ({account(LIMIT)} > 0) and on ({ACCOUNT}) {_FULLEST}"
    # The rest of an overspent budget is below zero, and Grafana would stack such bars separately.
    share = f"clamp_min({share}, 0)"
    joined = f'label_join({named(share)}, "account", " · ", "whose", "budget")'
    return f'label_replace({joined}, "account", "$1…", "account", "(.{{{LONGEST_NAME}}}).+")'


def renews(where: str = "") -> str:
    """When budgets renew, in Unix seconds; absent for those whose period does not end."""
    return f"({account(ENDS, where)} < {FOREVER_S})"


def forecast(where: str = "") -> str:
    """Spend at the end of the period, at its average rate so far."""
    length = f"({renews(where)} - {account(STARTS, where)})"
    return f"{account(SPENT, where)} * {length} / clamp_min(time() - {account(STARTS, where)}, 60)"


EVEN_PACE = (
    f"{account(LIMIT, ONE_ACCOUNT)} * ({renews(ONE_ACCOUNT)} - time())"
    f" / ({account(ENDS, ONE_ACCOUNT)} - {account(STARTS, ONE_ACCOUNT)})"
)
"""What would be left now if the limit were spent evenly over the period."""
LEFT_AT_END = f"{account(LIMIT, ONE_ACCOUNT)} - {forecast(ONE_ACCOUNT)}"
ENDS_ON = ends_early(ONE_ACCOUNT)
PERIOD_LEFT = f"{renews(ONE_ACCOUNT)} - time()"

PERIOD_FROM = f"query_result(1000 * max({STARTS}{{{ONE_ACCOUNT}}}))"
PERIOD_TO = f"query_result(1000 * max({ENDS}{{{ONE_ACCOUNT}}}))"
BEFORE_FROM = (
    f"query_result(1000 * max(last_over_time({STARTS}{{{ONE_ACCOUNT}}}[2d] @ $began offset 1m)))"
)
BEGAN = f"query_result(max({STARTS}{{{ONE_ACCOUNT}}}))"

DEAR_REQUESTS = (
    "{ span.spanledger.request.cost.usd > $dear && span.spanledger.customer =~ `${customer:regex}` }"
    " | select(name, span.spanledger.request.cost.usd, span.spanledger.customer,"
    " span.spanledger.attempts)" + NEWEST
)
"""Literals need a decimal point: TraceQL does not match a floating-point attribute with an integer."""
ESTIMATED = (
    "{ span.spanledger.estimated = true && span.spanledger.customer =~ `${customer:regex}` }"
    " | select(name, span.spanledger.cost.usd, span.spanledger.customer, span.error.type)" + NEWEST
)

# Providers and fallbacks.
AT_PROVIDER = f"{GATEWAY},{_AT}"
THEIR_SUCCESS = (
    rate(f"{ATTEMPTS}_count", PROVIDER, f'{AT_PROVIDER},error_type=""')
    + " / "
    + rate(f"{ATTEMPTS}_count", PROVIDER, f"{AT_PROVIDER},{NOT_THEIR_FAULT}")
)
ATTEMPTS_BY_DEPLOYMENT = rate(f"{ATTEMPTS}_count", DEPLOYMENT, AT_PROVIDER)
ERRORS_OF_ATTEMPTS = rate(f"{ATTEMPTS}_count", "error_type", f'{AT_PROVIDER},error_type!=""')
ERRORS_BY_DEPLOYMENT = (
    increase(f"{ATTEMPTS}_count", f"{DEPLOYMENT}, error_type", f'{AT_PROVIDER},error_type!=""')
    + " > 0"
)
FROM_ROUTE = chosen(FROM, "route")
_OF_ROUTE = chosen("route", "route")
FALLBACKS_BY_WAY = rate(FALLBACKS, f"{FROM}, {TO}, {REASON}", FROM_ROUTE)
FALLBACKS_COUNTED = increase(FALLBACKS, f"{FROM}, {TO}, {REASON}", FROM_ROUTE) + " > 0"
FALLBACK_SHARE = (
    rate(FALLBACKS, FROM, FROM_ROUTE)
    + f" / on ({FROM}) "
    + f'sum by ({FROM}) (label_replace(rate({original(f"{REQUESTS}_count")}{WINDOW}), "{FROM}", "$1",'
    ' "spanledger_route", "(.+)"))'
)
RETRIES_BY_REASON = rate(RETRIES, f"{DEPLOYMENT}, {REASON}")


def _copied(expr: str, source: str, target: str) -> str:
    return f'label_replace({expr}, "{target}", "$1", "{source}", "(.+)")'


_MOVED = f"increase({FALLBACKS}{{{FROM_ROUTE}}}{RANGE})"


def _counted(expr: str, by: str) -> str:
    """Counts as a label `mainstat`, the only place where a node graph looks for them."""
    return f'count_values by ({by}) ("mainstat", round(sum by ({by}) ({expr})) > 0)'


GRAPH_EDGES = _counted(
    f"label_join({_copied(_copied(_MOVED, FROM, 'source'), TO, 'target')},"
    f' "id", " → ", "{FROM}", "{TO}")',
    "id, source, target",
)
_NODES = f"sum by (id) ({_copied(_MOVED, TO, 'id')}) or sum by (id) ({_copied(_MOVED, FROM, 'id')})"
GRAPH_NODES = _counted(_copied(f"({_NODES})", "id", "title"), "id, title")
IN_USE = f"min by (deployment, route) ({DEPLOYMENT_UP}{{{_OF_ROUTE}}})"
RESTS_FOR = f"max by (deployment, route) ({COOLDOWN}{{{_OF_ROUTE}}}) > 0"
LIMIT_USED = (
    f"max by (deployment, limit) ({scraped('spanledger_deployment_limit_used_ratio')}"
    f"{{{_OF_ROUTE}}})"
)
THROTTLED = rate(
    f"{ATTEMPTS}_count",
    f"{DEPLOYMENT}, error_type",
    f'{AT_PROVIDER},error_type=~"rate_limited|overloaded|rate_limit_reached"',
)
FAILED_AND_BILLED = (
    "{ span.spanledger.cost.usd > 0.0 && status = error && span.gen_ai.provider.name =~ `${provider:regex}` }"
    " | select(name, span.spanledger.cost.usd, span.error.type, span.spanledger.deployment,"
    " span.spanledger.customer)" + NEWEST
)
FELL_BACK = (
    "{ span.spanledger.fallback.from =~ `${route:regex}` && span.spanledger.fallback.reason != nil }"
    " | select(name, span.spanledger.fallback.from, span.spanledger.deployment,"
    " span.spanledger.fallback.reason, span.spanledger.cost.usd)" + NEWEST
)

# Latency and streaming.
OF_MODEL = f"{GATEWAY},{_MODELS}"
OVERHEAD_QUANTILES = [(q, quantile(q, OVERHEAD)) for q in (0.5, 0.95, 0.99)]
MEAN_BY_SOURCE = mean(ATTEMPTS, "spanledger_source", _MODELS)
OUTPUT_RATE = rate(f"{TOKENS}_sum", MODEL, f'{ONCE},{_MODELS},gen_ai_token_type="output"')
SLOW_TRIES = (
    "{ duration > $slow && span.spanledger.deployment != nil && span.gen_ai.request.model =~ `${model:regex}` }"
    " | select(name, span.gen_ai.request.model, span.gen_ai.response.time_to_first_chunk,"
    " span.gen_ai.usage.output_tokens, span.spanledger.customer)" + NEWEST
)
IN_FLIGHT_NOW = f"sum by (instance) ({IN_FLIGHT})"

# Customer.
THIS_CUSTOMER = being(CUSTOMER, "customer")
CUSTOMERS = (
    f'query_result(count by ({CUSTOMER}) ({COST}) or count by ({CUSTOMER}) (label_replace({LIMIT}{{scope="customer"}},'
    f' "{CUSTOMER}", "$1", "subject", "(.+)")))'
)
ITS_BUDGET = f'scope="customer",{being("subject", "customer")}'
ITS_END = ends_early(ITS_BUDGET)
ITS_REQUESTS = rate(f"{REQUEST_COST}_count", where=THIS_CUSTOMER)
ITS_COST_QUANTILES = [(q, quantile(q, REQUEST_COST, where=THIS_CUSTOMER)) for q in (0.5, 0.95)]
_OF_CUSTOMER = "span.spanledger.customer = `${customer:raw}`"
_REQUEST_COLUMNS = (
    " | select(name, span.spanledger.outcome, span.spanledger.request.cost.usd,"
    " span.spanledger.attempts, span.error.type)" + NEWEST
)
ITS_TRACES = f"{{ {_OF_CUSTOMER} && span.spanledger.outcome != nil }}{_REQUEST_COLUMNS}"
ITS_FAILURES = (
    f"{{ {_OF_CUSTOMER} && span.spanledger.outcome =~ `error|refused` }}{_REQUEST_COLUMNS}"
)
ITS_DEAREST = f"{{ {_OF_CUSTOMER} && span.spanledger.request.cost.usd > $dear }}{_REQUEST_COLUMNS}"

# Find traces, and Trace.
ANY_REQUEST = "{ span.spanledger.outcome != nil }"
FOUND = (
    "$query | select(name, span.spanledger.customer, span.spanledger.outcome,"
    " span.spanledger.request.cost.usd, span.spanledger.deployment, span.spanledger.cost.usd,"
    " span.error.type)" + NEWEST
)
TRACE_ID = "${trace_id:raw}"
_OF_TRACE = f"trace:id = `{TRACE_ID}`"
REQUESTS_OF_TRACE = (
    f"{{ {_OF_TRACE} && span.spanledger.outcome != nil }}"
    " | select(name, span.spanledger.customer, span.spanledger.outcome,"
    " span.spanledger.request.cost.usd, span.spanledger.attempts, span.error.type)"
)
ATTEMPTS_OF_TRACE = (
    f"{{ {_OF_TRACE} && span.spanledger.deployment != nil }}"
    " | select(name, span.spanledger.deployment, span.spanledger.cost.usd, span.error.type,"
    " span.spanledger.fallback.reason, span.gen_ai.usage.output_tokens)"
)

# Stack health.
COMMIT_QUANTILES = [(q, quantile(q, COMMITS)) for q in (0.5, 0.95, 0.99)]
COMMIT_RATE = rate(f"{COMMITS}_count")
OPERATION_RATE = rate(OPERATIONS)
DROPPED_SPANS = increase(DROPPED, "spanledger_drop_reason")
UP = "min by (job) (up)"
SCRAPE_SECONDS = "max by (job) (scrape_duration_seconds)"
VERSIONS = f"count by (version, python) ({BUILD})"
BOOKS = f"count by (book) ({scraped('spanledger_price_book_info')})"
QUEUE_USED = (
    "max by (exporter, data_type) (otelcol_exporter_queue_size"
    " / (otelcol_exporter_queue_capacity > 0))"
)
TAKEN_SPANS = rate("otelcol_receiver_accepted_spans")
TAKEN_POINTS = rate("otelcol_receiver_accepted_metric_points")
SENT_SPANS = rate("otelcol_exporter_sent_spans")
SENT_POINTS = rate("otelcol_exporter_sent_metric_points")
REFUSED_SPANS = rate("otelcol_receiver_refused_spans")
REFUSED_POINTS = rate("otelcol_receiver_refused_metric_points")
UNSENT_SPANS = rate("otelcol_exporter_send_failed_spans")
UNSENT_POINTS = rate("otelcol_exporter_send_failed_metric_points")
HEAD_SERIES = "max(prometheus_tsdb_head_series)"
SAMPLES = rate("prometheus_tsdb_head_samples_appended_total")
EXEMPLARS = rate("prometheus_tsdb_exemplar_exemplars_appended_total")
LATE_SAMPLES = rate("prometheus_tsdb_too_old_samples_total")
TEMPO_SPANS = rate("tempo_distributor_spans_received_total")
TEMPO_DISCARDED = increase("tempo_discarded_spans_total")
TRUNCATED = increase("tempo_distributor_attributes_truncated_total")
MEMORY = "sum by (job) (process_resident_memory_bytes)"
COLLECTOR_MEMORY = "sum by (job) (otelcol_process_memory_rss)"

_BOOK = f"max by (book) ({scraped('spanledger_price_book_info')})"
_BOOKS_BEFORE = (
    f"last_over_time({scraped('spanledger_price_book_info')}[1d] offset $__rate_interval)"
)
WHEN_PRICES_CHANGED = (
    f"{_BOOK} unless on (book) max by (book) ({_BOOKS_BEFORE}) and on () count({_BOOKS_BEFORE})"
)
