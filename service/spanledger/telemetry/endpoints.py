"""Where spans and metrics go: the standard variables, or our settings. Imports no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from spanledger.config.addresses import collector_url, without_secrets

Signal = Literal["traces", "metrics"]
GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"


def variable_of(signal: Signal, environ: Mapping[str, str]) -> str | None:
    """The variable that sets a signal's endpoint; None if our settings do."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", GENERAL)
    return next((name for name in names if environ.get(name)), None)


def exports(signal: Signal, environ: Mapping[str, str]) -> bool:
    """Whether a signal is exported at all, by the standard variables."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").strip().lower() != "none"


def wrong_endpoints(environ: Mapping[str, str]) -> list[str]:
    """A problem for each variable in use that is not a collector's URL."""
    signals: tuple[Signal, ...] = ("traces", "metrics")
    found = [variable_of(signal, environ) for signal in signals if exports(signal, environ)]
    problems = []
    for name in dict.fromkeys(name for name in found if name):
        try:
            collector_url(environ[name].strip())
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return problems


def shown_endpoint(endpoint: str, environ: Mapping[str, str]) -> str:
    """The collector's address for the log; one for each signal if they differ, or `off`."""
    shown: dict[str, str] = {}
    signals: tuple[Signal, ...] = ("traces", "metrics")
    for signal in signals:
        if exports(signal, environ):
            name = variable_of(signal, environ)
            shown[signal] = without_secrets(environ[name].strip() if name else endpoint)
    if len(set(shown.values())) == 1 and len(shown) == len(signals):
        return shown["traces"]
    return ", ".join(f"{signal} to {address}" for signal, address in shown.items()) or "off"
