"""The gateway's samples are stored in a real Prometheus, whatever other applications send."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from spanledger.telemetry.signals import SCOPE_NAME
from tests.rules.harness import program
from tests.stack.conftest import put
from tests.stack.stored import CUMULATIVE, DELTA, Message, S, Stack, storing
from tests.support.processes import poll

pytestmark = pytest.mark.skipif(
    program("prometheus") is None, reason="no prometheus: `make toolchain` builds it"
)

FILTERED = "otelcol_processor_filter_datapoints_filtered"


def exponential() -> Message:
    """Exponential histograms, one with an invalid scale."""
    made = Message()
    for scale in (3, -40):
        metric = made.scoped.metrics.add(name="gen_ai.client.operation.duration", unit="s")
        metric.exponential_histogram.aggregation_temporality = CUMULATIVE
        point = metric.exponential_histogram.data_points.add(
            count=2,
            sum=3.0,
            scale=scale,
            zero_count=0,
            start_time_unix_nano=made.now - 60 * S,
            time_unix_nano=made.now,
        )
        point.positive.offset = 1
        point.positive.bucket_counts.extend([1, 1])
        put(point.attributes, {"gen_ai.provider.name": "openai", "scale": str(scale)})
    return made


def many_series() -> Message:
    """Ten thousand series, each with its own model."""
    made = Message()
    metric = made.scoped.metrics.add(name="gen_ai.client.generation.choices", unit="choice")
    metric.sum.aggregation_temporality = CUMULATIVE
    metric.sum.is_monotonic = True
    for number in range(10_000):
        point = metric.sum.data_points.add(
            as_int=1, time_unix_nano=made.now, start_time_unix_nano=made.now - 60 * S
        )
        labels = {"gen_ai.provider.name": "openai", "gen_ai.request.model": f"m{number}"}
        put(point.attributes, labels)
    return made


def summary() -> Message:
    """A summary, as old clients send."""
    made = Message()
    metric = made.scoped.metrics.add(name="latency")
    metric.summary.data_points.add(count=1, sum=1.0, time_unix_nano=made.now)
    return made


def twice() -> Message:
    """A series twice at the same time, with different values."""
    made = Message()
    for value in (5.0, 7.0, 6.0):
        made.counter("repeated", value, labels={"model": "m"})
    return made


def corrupt(text: str, marked: Message) -> bytes:
    """The message with a text replaced by bytes that are not UTF-8."""
    bad = b"\xff\xfe" + b"x" * (len(text) - 2)
    whole: bytes = marked.export.SerializeToString()
    return whole.replace(text.encode(), bad)


ILL: dict[str, Callable[[], Message | bytes]] = {
    "delta counter": lambda: Message().counter("jobs", 1, temporality=DELTA),
    "delta histogram": lambda: Message().histogram("took", 1.0, temporality=DELTA),
    "no temporality": lambda: Message().counter("jobs", 1, temporality=0),
    "5 h late": lambda: Message().counter("late", 1, ago_s=5 * 3600),
    "3 h late": lambda: Message().counter("late", 1, ago_s=3 * 3600),
    "2 h ahead": lambda: Message().counter("ahead", 1, ago_s=-2 * 3600),
    "time zero": lambda: Message().counter("zero", 1, time_ns=0),
    "not a number": lambda: Message().counter("nan", math.nan).gauge("g", math.nan),
    "infinite": lambda: Message().counter("inf", math.inf).histogram("h", -math.inf),
    "negative counter": lambda: Message().counter("negative", -5),
    "the gateway's own series": lambda: Message(
        service__name="spanledger", **{"service.instance.id": "ledger-1"}
    ).counter("spanledger.cost.usd", 9e9, unit="{USD}", labels={"spanledger.customer": "acme"}),
    "its name in Prometheus": lambda: Message(**{"service.instance.id": "ledger-1"}).counter(
        "spanledger_cost_usd", 9e9, labels={"spanledger.customer": "acme"}
    ),
    "the gateway's scope": lambda: Message(scope="gateway-to-be").counter("jobs", 1),
    "another type and unit": lambda: (
        Message()
        .gauge("gen_ai.client.token.usage", -3)
        .counter("gen_ai.client.operation.duration", 5, unit="ms")
        .gauge("gen_ai_client_token_usage_sum", 9e9)
    ),
    "huge names": lambda: Message().counter(
        "n" * 50_000, 1, labels={"k" * 50_000: "v", "gen_ai.request.model": "m" * 100_000}
    ),
    "no name": lambda: Message().counter("", 1).counter("???", 1).counter(" ", 1),
    "a label without a name": lambda: Message().counter("jobs", 1, labels={"": "v"}),
    "no UTF-8 in a name": lambda: corrupt("to-be-broken", Message().counter("to-be-broken", 1)),
    "no UTF-8 in a label": lambda: corrupt(
        "to-be-broken",
        Message().counter("jobs", 1, labels={"gen_ai.request.model": "to-be-broken"}),
    ),
    "no UTF-8 in the resource": lambda: corrupt(
        "to-be-broken", Message(**{"service.instance.id": "to-be-broken"}).counter("jobs", 1)
    ),
    "exponential histograms": exponential,
    "a summary": summary,
    "the same moment twice": twice,
    "back in time": lambda: Message().counter("repeated", 1, ago_s=30),
    "ten thousand series": many_series,
    "labels that collide": lambda: Message().counter(
        "jobs", 1, labels={"gen_ai.request.model": "a", "gen_ai_request_model": "b"}
    ),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prometheus behind the collector."""
    with storing(tmp_path_factory.mktemp("neighbours")) as stack:
        yield stack


def test_every_sample_of_the_gateway_is_stored(stack: Stack) -> None:
    """Between exports of neighbours that are broken in every way, all of the gateway's are stored."""
    for number, ill in enumerate(ILL.values(), start=1):
        stack.send(ill())
        stack.gateway(number)
        stack.send(ill())
    sent = 4 * len(ILL)
    assert poll(lambda: stack.stored() >= sent), f"{stack.stored()} of {sent} stored"
    assert stack.stored() == sent
    cost = stack.values("spanledger_cost_usd_total")
    assert {labels["spanledger_customer"]: value for labels, value in cost} == {
        "acme": float(len(ILL)),
        "globex": float(len(ILL)),
    }
    sent_own = 'otelcol_exporter_send_failed_metric_points{exporter="otlp_http/prometheus_gateway"'
    assert sent_own not in stack.collector.own_metrics()


def test_what_was_dropped_is_counted_by_its_reason(stack: Stack) -> None:
    """The collector's own metric has the reason for each kind that is not stored."""
    for ill in ILL.values():
        stack.send(ill())
    for reason in ("owner", "kind", "name", "time", "value"):
        counted = f'{FILTERED}{{filter="filter/bad_{reason}"'
        assert poll(partial(stack.collector.own_metrics().count, counted)), reason


@pytest.mark.parametrize("kind", sorted(ILL))
def test_other_applications_are_stored_too(stack: Stack, kind: str) -> None:
    """Next to a broken application, a valid one is stored too."""
    name = "sound_" + "".join(letter if letter.isalnum() else "_" for letter in kind)
    stack.send(ILL[kind]())
    stack.send(Message(**{"service.instance.id": "s"}).counter(name, 1))
    assert poll(lambda: stack.samples(f"{name}_total")), stack.collector.log[-2000:]


def test_copies_without_an_id_are_told_apart(stack: Stack) -> None:
    """Two copies of an application without instance names are two series: increases are correct."""
    first, second = time.time_ns() - 300 * S, time.time_ns() - 200 * S
    for round_ in range(14):
        at = time.time_ns() - (14 - round_) * 10 * S
        for started, base, step in ((first, 1000, 5), (second, 10, 5)):
            made = Message()
            value = base + step * round_
            made.counter("copies", value, time_ns=at, started_ns=started)
            stack.send(made)
    assert poll(lambda: len(stack.samples("copies_total")) == 28)
    ((_, grown),) = stack.values("sum(increase(copies_total[10m]))")
    assert 120 < grown < 180, "two counters grew by 65 each"


def test_labels_are_an_allow_list(stack: Stack) -> None:
    """Ten calls with a hidden blob each are one series, with the sum of all."""
    made = Message(**{"service.instance.id": "labels"})
    metric = made.scoped.metrics.add(name="gen_ai.usage.cost", unit="USD")
    metric.sum.aggregation_temporality = CUMULATIVE
    metric.sum.is_monotonic = True
    for number in range(10):
        point = metric.sum.data_points.add(
            as_double=0.5, time_unix_nano=made.now, start_time_unix_nano=made.now - 60 * S
        )
        blob = json.dumps({"call": number, "user": "jane"}) * 20
        labels = {"gen_ai.system": "openai", "hidden_params": blob, "metadata.user": str(number)}
        put(point.attributes, labels)
    stack.send(made)
    assert poll(lambda: stack.samples('{__name__=~"gen_ai_usage_cost.*",instance="labels"}'))
    ((labels, value),) = stack.values('{__name__=~"gen_ai_usage_cost.*",instance="labels"}')
    assert value == 5.0
    assert labels.keys() <= {
        *("__name__", "job", "instance", "service_name", "service_instance_id"),
        *("gen_ai_provider_name", "spanledger_source"),
    }


def test_an_application_does_not_pose_as_the_gateway(stack: Stack) -> None:
    """A scope that happens to be called `spanledger` is an application's, and labelled as one."""
    made = Message()
    made.scoped.scope.name = SCOPE_NAME
    made.counter("gen_ai.client.posed", 1, labels={"spanledger.source": "gateway"})
    made.counter("spanledger.posed", 1)
    stack.send(made)
    assert poll(lambda: stack.values("gen_ai_client_posed_total"))
    ((labels, _),) = stack.values("gen_ai_client_posed_total")
    assert labels["spanledger_source"] == "unknown"
    assert not stack.values("spanledger_posed_total")
