"""How spans travel: what the standard variables of the OTLP exporter do to our own bytes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.sdk.resources import Resource

from spanledger.ledger.lanes import START
from spanledger.ledger.rows import EndedRow
from spanledger.telemetry.delivery import Delivery, SpanSender
from tests.service.telemetry.conftest import Book
from tests.support.ledgers import store_at
from tests.support.otlp_sink import OtlpSink

VARIABLE = "OTEL_EXPORTER_OTLP_"


def rows_of(book: Book) -> list[EndedRow]:
    """Two rows."""
    book.call()
    outbox = store_at(book.path).outbox()
    try:
        return outbox.read_after(START, 10)
    finally:
        outbox.close()


def send(url: str, rows: list[EndedRow]) -> Delivery:
    """Send rows once, as the environment says."""
    sender = SpanSender(url, Resource({}), os.environ)
    try:
        return sender.send(rows)
    finally:
        sender.shutdown()


@pytest.mark.parametrize("signal", ["", "TRACES_"])
@pytest.mark.parametrize(
    ("value", "coding"), [("gzip", "gzip"), ("deflate", "deflate"), ("none", None), ("", "gzip")]
)
def test_spans_are_compressed_as_the_variable_says(
    book: Book,
    sink: OtlpSink,
    monkeypatch: pytest.MonkeyPatch,
    signal: str,
    value: str,
    coding: str | None,
) -> None:
    """The header says how the body is compressed, and it is; gzip is the default."""
    monkeypatch.setenv(f"{VARIABLE}{signal}COMPRESSION", value)

    assert send(sink.endpoint, rows_of(book)) == Delivery("accepted")

    assert len(sink.spans) == 2
    assert [r.headers.get("content-encoding") for r in sink.requests] == [coding]


def test_the_headers_of_the_variables_are_sent(
    book: Book, sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those for traces replace those for all signals, as the specification has it."""
    monkeypatch.setenv(f"{VARIABLE}HEADERS", "x-for=all")
    monkeypatch.setenv(f"{VARIABLE}TRACES_HEADERS", "x-api-key=a%20b,x-other=2")

    send(sink.endpoint, rows_of(book))

    headers = sink.requests[0].headers
    assert (headers["x-api-key"], headers["x-other"]) == ("a b", "2")
    assert "x-for" not in headers
    assert headers["content-type"] == "application/x-protobuf"


def test_a_retry_sends_the_same_spans_again(
    book: Book, sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overloaded collector is asked again within the variable's timeout, with the whole batch."""
    monkeypatch.setenv(f"{VARIABLE}TIMEOUT", "30")
    answers = itertools.chain([503], itertools.repeat(200))
    sink.answer = lambda _: next(answers)

    assert send(sink.endpoint, rows_of(book)) == Delivery("accepted")

    first, second = sink.requests
    assert first.spans == second.spans
    assert len(second.spans) == 2


def test_the_timeout_of_the_variable_ends_the_attempts(
    book: Book, sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time too short for a second attempt means one."""
    monkeypatch.setenv(f"{VARIABLE}TRACES_TIMEOUT", "0.2")
    sink.answer = lambda _: 503

    assert send(sink.endpoint, rows_of(book)) == Delivery("away", "HTTP 503")

    assert len(sink.requests) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_the_certificates_of_the_variables_are_used(
    book: Book, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector with a certificate of its own, which wants one of ours, gets the spans only once
    both variables are set."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    rows = rows_of(book)
    with OtlpSink(tls=context) as sink:
        unknown = send(sink.endpoint, rows)
        monkeypatch.setenv(f"{VARIABLE}CERTIFICATE", str(certificate))
        anonymous = send(sink.endpoint, rows)
        monkeypatch.setenv(f"{VARIABLE}CLIENT_CERTIFICATE", str(certificate))
        monkeypatch.setenv(f"{VARIABLE}CLIENT_KEY", str(certificate))
        monkeypatch.setenv(f"{VARIABLE}TIMEOUT", "30")
        known = send(sink.endpoint, rows)

    assert (unknown.verdict, anonymous.verdict, known) == ("away", "away", Delivery("accepted"))
    assert len(sink.spans) == 2
