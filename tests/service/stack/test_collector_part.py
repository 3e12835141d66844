"""What the native collector gets of the caller's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.stack.parts import Part, parts_of
from spanledger.stack.ports import DEFAULTS
from spanledger.stack.programs import Programs
from spanledger.stack.site import Settings, Site


def collector(folder: Path) -> Part:
    """The collector's part, as the launcher would start it."""
    settings = Settings(ports=dict(DEFAULTS))
    programs = Programs({"collector": Path("otelcol")}, {})
    return parts_of(Site(folder, folder), settings, programs, {})["collector"]


def test_variables_of_overlays_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traceloop's key and address and the lists' additions arrive; where an application sends does not."""
    monkeypatch.setenv("TRACELOOP_API_KEY", "tl-0")
    monkeypatch.setenv("TRACELOOP_ENDPOINT", "https://traceloop.example.com")
    monkeypatch.setenv("TRACELOOP_BASE_URL", "http://localhost:4318")
    monkeypatch.setenv("OTELCOL_METRIC_LABELS", "tenant")
    monkeypatch.setenv("OTELCOL_HTTP_ENDPOINT", "0.0.0.0:1")

    environ = collector(tmp_path).environ

    assert environ["TRACELOOP_API_KEY"] == "tl-0"
    assert environ["TRACELOOP_ENDPOINT"] == "https://traceloop.example.com"
    assert environ["OTELCOL_METRIC_LABELS"] == "tenant"
    assert "TRACELOOP_BASE_URL" not in environ
    assert environ["OTELCOL_HTTP_ENDPOINT"].startswith("127.0.0.1:")


def test_the_form_of_names_is_for_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard switch for new names reaches the gateway; what else is set of OTEL_ does not."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    settings = Settings(ports=dict(DEFAULTS))

    parts = parts_of(Site(tmp_path, tmp_path), settings, Programs({}, {}), {})

    environ = parts["gateway"].environ
    assert environ["OTEL_SEMCONV_STABILITY_OPT_IN"] == "gen_ai_latest_experimental"
    assert "OTEL_TRACES_EXPORTER" not in environ
    assert "OTEL_SEMCONV_STABILITY_OPT_IN" not in parts["worker"].environ


def test_addresses_of_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's own addresses are known, and those that people add."""
    monkeypatch.delenv("GATEWAY_ADDRESSES", raising=False)
    alone = collector(tmp_path).environ["OTELCOL_GATEWAY_ADDRESSES"]
    monkeypatch.setenv("GATEWAY_ADDRESSES", "https://llm.example.com/v1")
    more = collector(tmp_path).environ["OTELCOL_GATEWAY_ADDRESSES"]
    assert f"localhost:{DEFAULTS['gateway']}" in alone.split("|")
    assert more == f"{alone}|https://llm.example.com/v1"
