"""The collector removes secrets and e-mail addresses, and nothing else."""

from __future__ import annotations

import json
import random
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Status

from spanledger.telemetry.redact import redact_text
from tests.stack.conftest import Traces, arrived, attributes_of, made_metrics, plain, put
from tests.support.collector import Backends, Collector
from tests.support.processes import poll

SECRETS = (
    "sk-proj-AbCd_0123456789-efghIJKL",
    "sk-ant-api03-AbCd0123456789efghIJKL",
    "slk_0123456789abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_0123456789abcdefghijABCDEFGHIJ",
    "github_pat_0123456789abcdefghijAB",
    "xoxb-123456789012-abcdef",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "hf_0123456789abcdefghijABCD",
    "glpat-0123456789abcdefghij",
    "sk_live_0123456789abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "Bearer abcdefgh.0123456789",
    "jane.doe+canary@mail.example.com",
    "-----BEGIN PRIVATE KEY-----\nMIIEcanaryAQ==\n-----END PRIVATE KEY-----",
)
INNOCENT: dict[str, Any] = {
    "gen_ai.request.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.response.model": "claude-sonnet-4@20250514",
    "gen_ai.response.id": "chatcmpl-R93lBLHUji8pGUxIP3L0i5VP",
    "spanledger.request.id": "0193a4c1-7b7c-7000-8000-0123456789ab",
    "spanledger.cost.nano_usd": 1234567890123,
    "spanledger.cost.usd": 0.0012345,
    "flag": True,
    "list": ["stop", "length"],
    "text": "react@18.2.0, a desk-lamp-with-a-very-long-name and a task-force-for-everything-else",
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "path": "C:\\nsk\\files https://example.com/v1/chat?x=1",
}


def visible(secret: str) -> str:
    """The part of a secret to look for."""
    return "canary" if "canary" in secret else secret.removeprefix("Bearer ")


def message_with(secret: str) -> Traces:
    """A span with a secret in every place that can contain text."""
    text = f"before {secret} after"
    traces = Traces(resource={"process.command": text})
    put(traces.scope.scope.attributes, {"scope": text})
    span = traces.add(
        {
            "plain": text,
            "json": json.dumps([{"content": f"line\n{secret}\n", "n": 1}, {"é": f"é{secret}"}]),
            "nested": json.dumps({"arguments": json.dumps({"key": f"\t{secret}"})}),
            "list": ["ok", text],
            "map": {"inner": text},
        },
        name=text,
    )
    span.status.message = text
    span.status.code = Status.STATUS_CODE_ERROR
    put(span.events.add(name=text).attributes, {"exception.message": text})
    return traces


def test_everywhere(collector: Collector, backends: Backends) -> None:
    """A secret is removed from every place that can contain text, as it is by the gateway."""
    sent = {secret: message_with(secret) for secret in SECRETS}
    for secret, traces in sent.items():
        text = f"before {secret} after"
        points = made_metrics([{"error.type": text}], resource={"command": text})
        assert collector.send("traces", traces.message) == 200
        assert collector.send("metrics", points) == 200

    for secret, traces in sent.items():
        (span,) = arrived(backends.tempo, traces.ids)
        kept = attributes_of(span)
        assert span.name == span.status.message == span.events[0].name == "before **** after", (
            secret
        )
        assert attributes_of(span.events[0]) == {"exception.message": "before **** after"}
        assert json.loads(kept["json"])[0]["n"] == 1
        assert json.loads(json.loads(kept["nested"])["arguments"])["key"].endswith("****")
        assert not any(name.startswith("spanledger.exposed") for name in kept)
    assert poll(lambda: backends.prometheus.text().count("before **** after") >= 2 * len(SECRETS))
    for secret in SECRETS:
        for sink in (backends.tempo, backends.prometheus):
            assert visible(secret) not in sink.text()
            assert json.dumps(visible(secret))[1:-1] not in sink.text()
        assert visible(secret) not in redact_text(f"before {secret} after")


def test_keys_that_name_a_secret(collector: Collector, backends: Backends) -> None:
    """An attribute that is called a password is masked whatever it looks like."""
    traces = Traces()
    traces.add({"http.request.header.authorization": "plain words", "db.password": "hunter2"})
    assert collector.send("traces", traces.message) == 200
    (span,) = arrived(backends.tempo, traces.ids)
    assert set(attributes_of(span).values()) == {"****"}


def test_innocent(collector: Collector, backends: Backends) -> None:
    """Ids, models, numbers, lists and words that only resemble a secret stay as they are."""
    traces = Traces(scope="spanledger")
    traces.add(INNOCENT, name="chat gpt-4o-mini")
    assert collector.send("traces", traces.message) == 200
    (span,) = arrived(backends.tempo, traces.ids)
    assert attributes_of(span) == INNOCENT
    assert span.name == "chat gpt-4o-mini"


def test_json_stays_json(collector: Collector, backends: Backends) -> None:
    """Whatever surrounds a secret in JSON, escaped once or twice, it goes and the JSON stays."""
    chance = random.Random(1)  # a seeded draw, not a secret
    pieces = [
        "\n",
        "\t",
        "\\",
        '"',
        "/",
        "é",
        "\u2028",
        " ",
        "@",
        ".",
        "a",
        "u00e9",
        "nrt",
        "-",
        "=",
    ]
    traces = Traces()
    for number in range(300):
        around = ["".join(chance.choices(pieces, k=chance.randrange(8))) for _ in range(3)]
        # A key is one only where a word does not run into it; an address begins anywhere.
        first, second = chance.sample(SECRETS, 2)
        text = f"{around[0]} {first} {around[1]}\n{second}\n{around[2]}"
        value: Any = [{"n": number, "content": text}]
        if number % 2:
            value = {"n": number, "arguments": json.dumps(value)}
        traces.add({"json": json.dumps(value, ensure_ascii=number % 3 == 0)})
    assert collector.send("traces", traces.message) == 200
    for number, span in enumerate(arrived(backends.tempo, traces.ids)):
        kept = plain(span.attributes[0].value)
        decoded = json.loads(kept)
        inner = json.loads(decoded["arguments"]) if number % 2 else decoded
        assert inner[0]["n"] == number
        assert not [s for s in SECRETS if visible(s) in inner[0]["content"]], kept


def test_private_keys(collector: Collector, backends: Backends) -> None:
    """A private key is removed with its header lines, even if its end was truncated."""
    begin, end = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
    body = "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\nMIIEcanary0/+==\n"
    traces = Traces()
    traces.add({"whole": f"a {begin}{body}{end} z", "cut": json.dumps([f"a {begin}{body}", "z"])})
    assert collector.send("traces", traces.message) == 200
    (span,) = arrived(backends.tempo, traces.ids)
    kept = attributes_of(span)
    assert kept["whole"] == "a **** z"
    assert json.loads(kept["cut"]) == ["a ****", "z"]


def test_exemplars(collector: Collector, backends: Backends) -> None:
    """What a view left out of a series does not leave in its exemplars; their trace does."""
    metrics = made_metrics([{"error.type": "exemplars"}])
    histogram = metrics.resource_metrics[0].scope_metrics[0].metrics[0].histogram
    exemplar = histogram.data_points[0].exemplars.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    put(exemplar.filtered_attributes, {"user.question": "canary-filtered"})
    assert collector.send("metrics", metrics) == 200
    sink = backends.prometheus
    assert poll(lambda: sink.count("gen_ai.client.token.usage", error__type="exemplars"))
    (point,) = [p for p in sink.latest().values() if p.attributes.get("error.type") == "exemplars"]
    assert point.exemplars == ((b"t".hex() * 16, b"s".hex() * 8, 0.0),)
    assert "canary-filtered" not in sink.text()


def test_long_text(collector: Collector, backends: Backends) -> None:
    """A secret deep in a megabyte of text is found, and the rest arrives complete."""
    words = "the quick brown fox " * 25_000
    traces = Traces()
    traces.add({"gen_ai.input.messages": json.dumps([words, SECRETS[0], words])})
    assert collector.send("traces", traces.message) == 200
    (span,) = arrived(backends.tempo, traces.ids)
    assert json.loads(attributes_of(span)["gen_ai.input.messages"]) == [words, "****", words]
