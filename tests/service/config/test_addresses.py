"""Addresses in a file that no gateway could use: the check says so, not the start."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger.config import parse_config
from spanledger.config.addresses import shown_ledger
from spanledger.errors import ConfigError
from tests.service.config.test_litellm_files import problems_of

WRITE_URL = "is not an http(s) URL; write it like http://localhost:4318"
WRITE_LEDGER = (
    "is not supported; write sqlite:///PATH (four slashes for an absolute path) or"
    " postgresql://HOST/DATABASE"
)
WRITE_POSTGRES = (
    "of a Postgres database cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with"
    " the password's special characters percent-encoded (@ as %40, / as %2F)"
)
NO_PARAMETERS = (
    "in the form host=… dbname=… is not supported; write"
    " postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
)
WRITE_HOST = "is not an IPv4 address; write four numbers from 0 to 255, like 127.0.0.1"
BARE_HOST = "is neither an address nor a host name; write it without a scheme or port"

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "another database": (
        {"ledger": {"url": "mysql://x"}},
        f"ledger.url: 'mysql://x' {WRITE_LEDGER}",
    ),
    "two slashes": (
        {"ledger": {"url": "sqlite://ledger.db"}},
        f"ledger.url: 'sqlite://ledger.db' {WRITE_LEDGER}",
    ),
    "password": (
        {"ledger": {"url": "mysql://me:secret@db/x?sslkey=k"}},
        f"ledger.url: 'mysql://db/x' {WRITE_LEDGER}",
    ),
    "password with a slash": (
        {"ledger": {"url": "postgresql://me:sec/ret@db/x"}},
        f"ledger.url: {WRITE_POSTGRES}",
    ),
    "password with a question mark": (
        {"ledger": {"url": "postgresql://me:123?456@db/x"}},
        f"ledger.url: {WRITE_POSTGRES}",
    ),
    "parameters of libpq": (
        {"ledger": {"url": "host=db dbname=x password=secret"}},
        f"ledger.url: {NO_PARAMETERS}",
    ),
    "port of Postgres": (
        {"ledger": {"url": "postgresql://me@db:five/x"}},
        f"ledger.url: {WRITE_POSTGRES}",
    ),
    "collector without scheme": (
        {"telemetry": {"endpoint": "localhost:4318"}},
        f"telemetry.endpoint: 'localhost:4318' {WRITE_URL}",
    ),
    "collector of another scheme": (
        {"telemetry": {"endpoint": "grpc://collector:4317"}},
        f"telemetry.endpoint: 'grpc://collector:4317' {WRITE_URL}",
    ),
    "collector without host": (
        {"telemetry": {"endpoint": "http://:4318"}},
        f"telemetry.endpoint: 'http://:4318' {WRITE_URL}",
    ),
    "collector's port": (
        {"telemetry": {"endpoint": "http://localhost:otlp"}},
        f"telemetry.endpoint: 'http://localhost:otlp' {WRITE_URL}",
    ),
    "empty collector": ({"telemetry": {"endpoint": ""}}, f"telemetry.endpoint: '' {WRITE_URL}"),
    "number too large": (
        {"gateway": {"host": "127.0.0.300"}},
        f"gateway.host: '127.0.0.300' {WRITE_HOST}",
    ),
    "three numbers": ({"gateway": {"host": "10.0.1"}}, f"gateway.host: '10.0.1' {WRITE_HOST}"),
    "host with port": (
        {"gateway": {"host": "127.0.0.1:4000"}},
        f"gateway.host: '127.0.0.1:4000' {BARE_HOST}",
    ),
    "host as URL": (
        {"gateway": {"host": "http://localhost"}},
        f"gateway.host: 'http://localhost' {BARE_HOST}",
    ),
}


@pytest.mark.parametrize(("data", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_an_address_that_cannot_be_used_is_a_mistake(data: dict[str, Any], problem: str) -> None:
    """It is named with its key, and what to write instead."""
    assert problems_of(**data) == [problem]


@pytest.mark.parametrize("host", ["localhost", "gateway.internal", "0.0.0.0", "::1", "[::]", "a1"])
def test_hosts_that_may_resolve_are_allowed(host: str) -> None:
    """Names are not looked up: the check may run on another machine."""
    assert parse_config({"gateway": {"host": host}}, {}, "f").gateway.host == host


@pytest.mark.parametrize(
    "endpoint", ["http://localhost:4318", "https://a.example/otlp/", "http://[::1]:4318"]
)
def test_collectors_are_named_by_url(endpoint: str) -> None:
    """With or without port and path."""
    config = parse_config({"telemetry": {"endpoint": endpoint}}, {}, "f")

    assert config.telemetry.endpoint == endpoint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:5432/x?sslmode=verify-full", "postgresql://db:5432/x"),
        ("postgres://me:sec%40ret@db/x", "postgresql://db/x"),
        ("postgresql://a:5432,b:5433/x?target_session_attrs=any", "postgresql://a:5432,b:5433/x"),
        ("postgresql://[::1]:5432/x", "postgresql://[::1]:5432/x"),
        ("postgresql:///x?host=/run/postgresql&password=secret", "postgresql:///x"),
        ("postgresql://me:sec/ret@db/x", "postgresql://"),
        ("postgresql://me:123?456@db/x", "postgresql://"),
        ("sqlite:///ledger.db", "sqlite:///ledger.db"),
    ],
)
def test_a_ledger_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """User, password and parameters of a database's URL are never shown, not even in part."""
    assert shown_ledger(url) == shown


def test_a_ledger_of_the_environment_is_checked_under_its_own_name() -> None:
    """The variable replaces the file's ledger, whatever that is."""
    wrong = {"ledger": {"url": "mysql://y"}}

    used = parse_config(wrong, {"SPANLEDGER_LEDGER_URL": "sqlite:///l.db"}, "f")
    with pytest.raises(ConfigError) as caught:
        parse_config({}, {"SPANLEDGER_LEDGER_URL": "mysql://x"}, "f")

    assert used.ledger.url == "sqlite:///l.db"
    assert str(caught.value) == f"f: SPANLEDGER_LEDGER_URL: 'mysql://x' {WRITE_LEDGER}"
