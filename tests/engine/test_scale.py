"""The stack with two tiers of collectors, an object store and a long-term store; each of them killed.

Where there is no Tempo, what the object store does for it is asked of the store itself.
"""

from __future__ import annotations

import configparser
import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tests.engine.conftest import installer
from tests.engine.installation import LONG_RUNNING, READY_S, VISIBLE_S, Installation
from tests.engine.test_survival import Load, nothing_is_lost
from tests.stack import boards
from tests.support.processes import poll

SAMPLERS = ("sampler", "sampler-2")
RUNNING = (*LONG_RUNNING, *SAMPLERS, "objects", "victoria-metrics")
WITHOUT_WORKER = tuple(name for name in RUNNING if name != "worker")
SETTINGS = {
    "COMPOSE_FILE": "docker-compose.yml:compose/scale.yml",
    "SAMPLING_PERCENT": "100",
    "SAMPLING_WAIT": "2s",
}
TRACES, PARTS = 60, 3
DECIDED = "otelcol_processor_tail_sampling_new_trace_id_received"
"""Counts a trace once at each sampler that gets any of its spans."""
ACCEPTED = "otelcol_receiver_accepted_spans"
SENT = "otelcol_exporter_sent_spans"
ARRIVES_S = 15
"""Prometheus' newest points have arrived in the long-term store."""
_addresses: dict[str, str] = {}
"""Of containers, as last seen."""
QUIET = 4
"""Equal readings in a row, a second apart, by which nothing is under way any more."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A stack started as documented, whose samplers keep everything after two seconds."""
    with installer(tmp_path_factory) as make:
        installation = make()
        (installation.folder / ".env").write_text(
            "".join(f"{key}={value}\n" for key, value in SETTINGS.items()), "utf-8"
        )
        installation.run("make", "up").well()
        installation.comes_up(RUNNING)
        yield installation


def address(stack: Installation, service: str) -> str:
    """Where a container can be reached from here; empty if it does not run."""
    (network,) = stack.inspect(service)["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def asked(stack: Installation, service: str, place: str, **form: str) -> httpx.Response | None:
    """What a container answers, to a form if there is one; None while it cannot be reached.

    Args:
        place: port and path.
    """
    for known in (_addresses.pop(service, ""), ""):
        where = known or address(stack, service)
        if not where:
            return None
        url = f"http://{where}:{place}"
        try:
            answer = stack.http.post(url, data=form) if form else stack.http.get(url)
        except httpx.TransportError:
            continue
        _addresses[service] = where
        return answer
    return None


def counted(stack: Installation, service: str, metric: str, having: str = "") -> float:
    """The sum of a collector's metric; 0 while it cannot be reached."""
    answer = asked(stack, service, "8888/metrics")
    lines = (
        line
        for line in (answer.text if answer else "").splitlines()
        if re.match(rf"{metric}(?:_total)?[{{ ]", line)
    )
    return sum(float(line.rpartition(" ")[2]) for line in lines if having in line)


def settled(stack: Installation, services: Sequence[str], metric: str) -> list[float]:
    """A metric of collectors once it has stopped moving."""
    seen: list[list[float]] = []

    def stands() -> bool:
        seen.append([counted(stack, name, metric) for name in services])
        return len(seen) >= QUIET and all(one == seen[-1] for one in seen[-QUIET:])

    assert poll(stands, READY_S, every_s=1), seen
    return seen[-1]


def send(stack: Installation, traces: Sequence[str], part: int) -> None:
    """Send one span of each trace in one request."""
    now = time.time_ns()
    spans = [
        {
            "traceId": trace,
            "spanId": secrets.token_hex(8),
            "name": f"part {part}",
            "kind": 1,
            "startTimeUnixNano": str(now - 10**6),
            "endTimeUnixNano": str(now),
        }
        for trace in traces
    ]
    message = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "t"}}]
                },
                "scopeSpans": [{"scope": {"name": "test"}, "spans": spans}],
            }
        ]
    }
    stack.http.post("http://127.0.0.1:4318/v1/traces", json=message).raise_for_status()


def send_all(stack: Installation) -> None:
    """Send traces whose spans arrive in as many requests as each has spans."""
    traces = [secrets.token_hex(16) for _ in range(TRACES)]
    for part in range(PARTS):
        send(stack, traces, part)


def long_term(stack: Installation, expression: str, at: float = 0.0) -> Any:
    """The result of a query in the long-term store, at a time or now; None while it cannot be reached."""
    form = {"query": expression} | ({"time": str(at)} if at else {})
    answer = asked(stack, "victoria-metrics", "8428/api/v1/query", **form)
    if answer is None:
        return None
    assert answer.status_code == 200, (expression, answer.text)
    return answer.json()["data"]["result"]


def test_everything_runs_and_the_demo_is_seen(stack: Installation) -> None:
    """A request's cost is counted once in Prometheus, and no service has been restarted."""
    answer = stack.ask(stack.key("seen"))
    assert answer.status_code == 200, answer.text

    assert poll(lambda: stack.spend("seen") > 0, VISIBLE_S)
    nothing_is_lost(stack, "seen", 1)
    assert {name: stack.inspect(name)["RestartCount"] for name in RUNNING} == dict.fromkeys(
        RUNNING, 0
    )


def test_every_query_of_the_dashboards_is_answered_for_years(stack: Installation) -> None:
    """The long-term store takes each, and finds series of the same labels as Prometheus wherever that finds any."""
    assert poll(lambda: stack.query("spanledger_request_duration_seconds_count") > 50, READY_S)
    assert poll(lambda: long_term(stack, "spanledger_cost_usd_total"), READY_S)
    at = time.time() - ARRIVES_S
    chosen = {"__from": "0", "__to": "0", "__interval": "30s", "__interval_ms": "30000"}

    def ask(path: str, /, **params: Any) -> Any:
        answer = stack.http.get(f"http://127.0.0.1:9090{path}", params=params)
        return answer.json()["data"]

    different, sent, answered = [], 0, 0
    for uid, board in boards.dashboards().items():
        values = boards.choose(board, ask, chosen)
        for query in boards.queries():
            if query.board != uid or query.language != "promql":
                continue
            try:
                text = boards.filled(query.text, values, query.step)
            except KeyError:
                continue  # for a variable that nothing is offered for yet
            sent += 1
            # The long-term store leaves out what has no number, such as a share of nothing.
            found = [
                row
                for row in ask("/api/v1/query", query=text, time=at)["result"]
                if row["value"][1] != "NaN"
            ]
            answered += bool(found)
            kept = long_term(stack, text, at)
            labels = [{frozenset(row["metric"]) for row in rows} for rows in (found, kept)]
            if not labels[0] <= labels[1]:
                different.append((query.board, query.place, query.ref, text, labels))

    assert sent > 100
    assert answered > 30
    assert different == []


def test_all_spans_of_a_trace_meet_at_one_sampler(stack: Installation) -> None:
    """Both samplers get traces, none gets a part of the other's, and every span goes on to Tempo."""
    stack.compose("stop", "worker").well()  # its traces would be counted, too
    before = settled(stack, SAMPLERS, DECIDED)
    spans = settled(stack, SAMPLERS, SENT)

    send_all(stack)

    def more(metric: str, since: Sequence[float]) -> list[float]:
        return [
            counted(stack, name, metric) - old for name, old in zip(SAMPLERS, since, strict=True)
        ]

    assert poll(lambda: sum(more(SENT, spans)) >= TRACES * PARTS, READY_S, every_s=0.5)
    parts = more(DECIDED, before)
    assert sum(parts) == TRACES
    assert min(parts) > 0
    assert more(SENT, spans) == [PARTS * part for part in parts]


def test_a_killed_sampler_loses_nothing_that_is_sent_afterwards(stack: Installation) -> None:
    """Spans for it wait in the first tier, which refuses none; it comes back and gets them."""
    load = Load(stack, "sampler")
    restarts = stack.inspect("sampler")["RestartCount"]
    with load.running():
        load.goes_on()
        stack.kill("sampler")
        send_all(stack)
        assert poll(lambda: stack.inspect("sampler")["RestartCount"] > restarts, READY_S)
        stack.comes_up(WITHOUT_WORKER)
        load.goes_on()

    waiting = ("otelcol_exporter_queue_size", "load_balancing/second_tier")
    assert poll(lambda: counted(stack, "collector", *waiting) == 0, READY_S, every_s=0.5)
    for lost in ("enqueue_failed", "send_failed"):
        assert counted(stack, "collector", f"otelcol_exporter_{lost}_spans") == 0
    (accepted,) = settled(stack, ["collector"], ACCEPTED)
    assert counted(stack, "collector", SENT, waiting[1]) == accepted
    nothing_is_lost(stack, load.customer, load.answered)


def test_without_one_sampler_the_other_gets_all(stack: Installation) -> None:
    """The first tier notices by itself that one is gone, and that it is back."""
    stack.compose("stop", "sampler").well()
    (before,) = settled(stack, SAMPLERS[1:], DECIDED)

    send_all(stack)

    wanted = before + TRACES
    assert poll(lambda: counted(stack, "sampler-2", DECIDED) == wanted, READY_S, every_s=0.5)
    stack.compose("start", "sampler").well()

    def gets_some() -> bool:
        send(stack, [secrets.token_hex(16) for _ in range(10)], 0)
        return counted(stack, "sampler", ACCEPTED) > 0

    assert poll(gets_some, READY_S, every_s=1)


def spent(stack: Installation, customer: str, at: float = 0.0) -> float:
    """A customer's spend according to the long-term store."""
    rows = long_term(stack, f'spanledger_cost_usd_total{{spanledger_customer="{customer}"}}', at)
    return sum(float(row["value"][1]) for row in rows or ())


def test_the_long_term_store_gets_every_series_also_those_of_its_absence(
    stack: Installation,
) -> None:
    """What Prometheus recorded while the store could not be reached is written afterwards, at its own time."""
    key = stack.key("years")
    assert stack.ask(key).status_code == 200
    assert poll(lambda: spent(stack, "years") > 0, READY_S, every_s=0.5)
    first = spent(stack, "years")

    stack.compose("stop", "victoria-metrics").well()
    assert stack.ask(key).status_code == 200
    assert poll(lambda: stack.spend("years") > first, READY_S)
    during, second = time.time(), stack.spend("years")
    stack.compose("start", "victoria-metrics").well()

    assert poll(lambda: spent(stack, "years", during) == second, READY_S, every_s=0.5)
    stores = ("127.0.0.1:9090", f"{address(stack, 'victoria-metrics')}:8428")
    ours, kept = (
        set(stack.http.get(f"http://{store}/api/v1/label/__name__/values").json()["data"])
        for store in stores
    )
    assert {name for name in ours if name.startswith(("spanledger_", "gen_ai_"))} <= kept
    assert long_term(stack, '{grafana_url!=""}') == []


def test_the_rules_are_evaluated_as_before(stack: Installation) -> None:
    """No rule of Prometheus fails."""
    groups = stack.http.get("http://127.0.0.1:9090/api/v1/rules").json()["data"]["groups"]

    assert len(groups) > 5
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule.get("lastError")] == []


def test_the_object_store_keeps_what_tempo_gives_it(stack: Installation) -> None:
    """With its keys, blocks can be written in parts and read after a kill; without them, nothing."""
    boto3 = pytest.importorskip("boto3", reason="LiteLLM's extra brings the client of S3")
    config = pytest.importorskip("botocore.config").Config

    read = ("exec", "-T", "objects", "cat", "/run/objects/credentials")
    found = configparser.ConfigParser()
    found.read_string(stack.compose(*read).well())
    keys = dict(found["default"])

    def client(**other: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://{address(stack, 'objects')}:8333",
            region_name="us-east-1",
            config=config(s3={"addressing_style": "path"}, proxies={}),
            **{**keys, **other},
        )

    block, parts = secrets.token_bytes(6 * 2**20), []
    store = client()
    started = store.create_multipart_upload(Bucket="tempo", Key="single-tenant/block/data")
    upload = {"Bucket": "tempo", "Key": started["Key"], "UploadId": started["UploadId"]}
    for number in (1, 2):
        part = store.upload_part(**upload, PartNumber=number, Body=block)
        parts.append({"ETag": part["ETag"], "PartNumber": number})
    store.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    stack.kill("objects")
    stack.comes_up(WITHOUT_WORKER)

    def kept() -> bool:
        try:
            return bool(
                client().get_object(Bucket="tempo", Key=started["Key"])["Body"].read() == block * 2
            )
        except Exception:  # noqa: BLE001 - any error of a store that starts
            return False

    assert poll(kept, READY_S, every_s=0.5)
    listed = client().list_objects_v2(Bucket="tempo", Delimiter="/")
    assert [one["Prefix"] for one in listed["CommonPrefixes"]] == ["single-tenant/"]
    url = f"http://{address(stack, 'objects')}:8333/tempo/{started['Key']}"
    assert stack.http.get(url).status_code == 403
    with pytest.raises(Exception, match=r"InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden"):
        client(aws_secret_access_key="another").get_object(Bucket="tempo", Key=started["Key"])
    for port in (8888, 8080, 9333):
        with pytest.raises(httpx.TransportError):
            stack.http.get(f"http://{address(stack, 'objects')}:{port}/")
    assert keys["aws_secret_access_key"] not in json.dumps(stack.inspect("tempo"))
    assert keys["aws_secret_access_key"] not in stack.logs()
