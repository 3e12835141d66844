"""Everything the collector accepted is delivered, whatever is killed or unreachable."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from spanledger.stack.queues import set_aside_broken
from tests.stack.conftest import Traces, arrived, made_metrics
from tests.support.collector import BASE, Backends, Collector, in_thread
from tests.support.processes import poll

SPANS_A_REQUEST = 20


class Load:
    """A sender that retries until a request is accepted, as the shipper does."""

    def __init__(self, collector: Collector) -> None:
        self.sent: list[bytes] = []
        self.requests = 0
        self._collector = collector
        self._over = threading.Event()
        self._thread = in_thread(self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            traces = Traces(scope="spanledger")
            for _ in range(SPANS_A_REQUEST):
                traces.add({"gen_ai.provider.name": "openai", "text": "x" * 200})
            while self._send(traces) != 200 and not self._over.wait(0.02):
                pass
            self.sent += traces.ids
            self.requests += 1
            self._over.wait(0.005)

    def _send(self, traces: Traces) -> int:
        with contextlib.suppress(httpx.TransportError):
            return self._collector.send("traces", traces.message)
        return 0

    def more(self, requests: int) -> None:
        """Wait until this many more requests are accepted."""
        goal = self.requests + requests
        assert poll(lambda: self.requests >= goal), self._collector.log

    def end(self) -> list[bytes]:
        """Stop; returns the ids of all accepted spans."""
        taken = self.sent.copy()
        self._over.set()
        self._thread.join(30)
        return taken


def test_no_span_is_lost(tmp_path: Path) -> None:
    """Tempo down and the collector killed twice under load: every accepted span arrives in the end."""
    with Backends() as backends, Collector(tmp_path, env=backends.env) as collector:
        load = Load(collector)
        load.more(10)
        backends.tempo.go_away()
        load.more(20)
        collector.kill()
        collector.start()
        load.more(20)
        collector.kill()
        collector.start()
        backends.tempo.come_back()
        load.more(10)
        taken = load.end()
        assert len(taken) >= 60 * SPANS_A_REQUEST
        arrived(backends.tempo, taken)
        assert not backends.prometheus.spans


def test_metrics_wait_for_prometheus(tmp_path: Path) -> None:
    """Points sent while Prometheus refuses arrive complete and once, even if the collector is killed.

    What was under way when the collector was killed queues up again behind the rest, which
    Prometheus' `out_of_order_time_window` is for.
    """
    with Backends() as backends, Collector(tmp_path, env=backends.env) as collector:
        sink = backends.prometheus
        sink.answer = lambda _request: 503
        for number in range(5):
            metrics = made_metrics([{"server.port": number}])
            assert collector.send("metrics", metrics) == 200
        assert poll(lambda: sink.requests)
        collector.kill()
        sink.answer = lambda _request: 200
        collector.start()
        assert poll(lambda: len({p.attributes["server.port"] for p in sink.points}) == 5)
        came = [p.attributes["server.port"] for p in sink.points]
        assert sorted(map(int, came)) == list(range(5))


def test_no_message_is_too_large_for_tempo(tmp_path: Path) -> None:
    """Spans with much content arrive in messages within a gRPC server's default limit."""
    with Backends() as backends, Collector(tmp_path, env=backends.env) as collector:
        traces = Traces(scope="spanledger")
        for _ in range(100):
            traces.add({"gen_ai.input.messages": "word " * 20_000})
        assert collector.send("traces", traces.message) == 200
        arrived(backends.tempo, traces.ids)
        assert len(backends.tempo.messages) >= 3


def test_limits(tmp_path: Path) -> None:
    """A request over the size limit is refused for good; later ones are accepted."""
    with Backends() as backends, Collector(tmp_path, env=backends.env) as collector:
        large = Traces()
        large.add({"text": "x" * (33 * 2**20)})
        assert 400 <= collector.send("traces", large.message) < 500
        small = Traces()
        small.add({"text": "x"})
        assert collector.send("traces", small.message) == 200
        arrived(backends.tempo, small.ids)
        assert all(span.span_id not in large.ids for span in backends.tempo.whole_spans())


def test_watched(tmp_path: Path) -> None:
    """The health check answers, and metrics show what was accepted, sent and queued."""
    with Backends() as backends, Collector(tmp_path, env=backends.env) as collector:
        traces = Traces()
        traces.add({"text": "x"})
        assert collector.send("traces", traces.message) == 200
        arrived(backends.tempo, traces.ids)
        assert poll(lambda: "otelcol_exporter_sent_spans{" in collector.own_metrics())
        own = collector.own_metrics()
        for name in ("otelcol_receiver_accepted_spans", "otelcol_exporter_queue_size"):
            assert f"{name}{{" in own
        assert (tmp_path / "queue").is_dir()


def test_nothing_but_loopback() -> None:
    """By default all endpoints, including targets, are on loopback; there is no log pipeline."""
    text = BASE.read_text(encoding="utf-8")
    base = yaml.safe_load(text)
    protocols = base["receivers"]["otlp"]["protocols"]
    addresses = [
        protocols["grpc"]["endpoint"],
        protocols["http"]["endpoint"],
        base["extensions"]["health_check"]["endpoint"],
        base["exporters"]["otlp_grpc/tempo"]["endpoint"],
        base["exporters"]["otlp_http/prometheus"]["endpoint"],
    ]
    (reader,) = base["service"]["telemetry"]["metrics"]["readers"]
    addresses.append(reader["pull"]["exporter"]["prometheus"]["host"])
    assert all(":-127.0.0.1" in a or ":-http://127.0.0.1" in a for a in addresses)
    assert base["receivers"].keys() == {"otlp"}
    assert {name.split("/")[0] for name in base["service"]["pipelines"]} == {"traces", "metrics"}


def _fill(folder: Path, backends: Backends) -> Path:
    """A killed collector with a queue for an unreachable Tempo; returns the queue's file."""
    backends.tempo.go_away()
    with Collector(folder, env=backends.env) as collector:
        for _ in range(60):
            traces = Traces()
            for _ in range(SPANS_A_REQUEST):
                traces.add({"text": "x" * 2_000})
            assert collector.send("traces", traces.message) == 200
        collector.kill()
    (file,) = (folder / "queue").glob("*tempo*")
    return file


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros_inside(data: bytes) -> bytes:
    return data[:8192] + bytes(len(data) // 3) + data[8192 + len(data) // 3 :]


def _no_headers(data: bytes) -> bytes:
    return bytes(8192) + data[8192:]


@pytest.mark.parametrize("spoil", [_half, _zeros_inside, _no_headers])
def test_a_spoiled_queue_is_set_aside(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """A queue file that would crash the collector at each start is set aside; it starts and delivers."""
    with Backends() as backends:
        file = _fill(tmp_path, backends)
        assert set_aside_broken(tmp_path / "queue") == [], "a sound file is left alone"
        spoiled = spoil(file.read_bytes())
        file.write_bytes(spoiled)

        (moved,) = set_aside_broken(tmp_path / "queue")

        assert moved.read_bytes() == spoiled
        backends.tempo.come_back()
        with Collector(tmp_path, env=backends.env) as collector:
            traces = Traces()
            traces.add({"text": "x"})
            assert collector.send("traces", traces.message) == 200
            arrived(backends.tempo, traces.ids)
