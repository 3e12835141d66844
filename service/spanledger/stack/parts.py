"""The parts of the native stack: each part's command, environment and readiness check.

The configuration files are those of the compose stack; differences are set through the environment
and the folder of scrape targets. Only `prepare` writes: it lays out the files that Prometheus and
Grafana need in one folder.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spanledger.errors import UsageError
from spanledger.stack.ports import HOST
from spanledger.stack.programs import Programs
from spanledger.stack.site import Settings, Site, write_private

PROMETHEUS_FLAGS = (
    "--web.enable-otlp-receiver",
    "--web.enable-remote-write-receiver",
    "--enable-feature=exemplar-storage",
    "--rules.alert.for-grace-period=1m",
)
"""Settings that prometheus.yml has no key for; compose passes the same."""

TEMPO_FLAGS = ("-config.expand-env=true",)

WITHOUT_TEMPO = (
    "yaml:exporters::debug/no_tempo::verbosity: basic",
    "yaml:service::pipelines::traces/tempo::exporters: [debug/no_tempo]",
)
"""Without Tempo, its spans are dropped here instead of filling a queue that nothing empties."""

ALERT_ADDRESSES = {
    "SPANLEDGER_ALERT_WEBHOOK_URL": "http://127.0.0.1:9/",
    "SPANLEDGER_ALERT_WEBHOOK_FOR": "",
    "SPANLEDGER_ALERT_SLACK_URL": "http://127.0.0.1:9/",
    "SPANLEDGER_ALERT_SLACK_FOR": "",
    "SPANLEDGER_ALERT_EMAIL_TO": "nobody@localhost",
    "SPANLEDGER_ALERT_EMAIL_FOR": "",
}
"""Placeholders for contact points that are not set: Grafana requires an address, and with an empty
`…_FOR` no severity is sent there."""

_FOREIGN = ("OTEL_", "OTELCOL_", "TEMPO_", "GF_", "TRACELOOP_", "SPANLEDGER_")
"""Prefixes of variables in our environment that would change what the parts do."""

_FOR_THE_GATEWAY = ("OTEL_SEMCONV_STABILITY_OPT_IN",)
_FOR_THE_COLLECTOR = (
    "OTELCOL_METRIC_LABELS",
    "OTELCOL_METRIC_SERIES",
    "OTELCOL_VENDOR_ATTRIBUTES",
    "TRACELOOP_API_KEY",
    "TRACELOOP_ENDPOINT",
    "TRACELOOP_INCLUDE_CONTENT",
)
"""Variables with those prefixes that are passed on, each to one part only."""

_LOOPBACK = ("localhost", "127[.]0[.]0[.]1", "[[]?::1[]]?")
"""Patterns for this machine's names. No backslashes: the collector's config treats them as its own
escapes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    ready: str = ""
    """A URL that answers 200 once the part is ready; empty: it is ready once it runs."""
    ports: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Parts that must be ready before it starts."""
    grace_s: float = 15.0
    """Seconds from SIGTERM to SIGKILL."""
    lingers: bool = False
    """Known to ignore SIGTERM, with nothing to lose when it is killed."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """Addresses to show to the user, by name."""


def parts_of(
    site: Site, settings: Settings, programs: Programs, keys: Mapping[str, str]
) -> dict[str, Part]:
    """Every available part, in starting order.

    Args:
        keys: virtual keys of the worker's customers.
    """
    parts = [_simulator(settings)] if not settings.config else []
    for name, build in (
        ("tempo", _tempo),
        ("prometheus", _prometheus),
        ("collector", _collector),
        ("grafana", _grafana),
    ):
        if name in programs.found:
            parts.append(build(site, settings, programs))
    # Without a collector nothing receives telemetry; the rows stay in the ledger.
    sends = "collector" in programs.found
    parts.append(_gateway(site, settings, sends=sends))
    if settings.traffic:
        parts.append(_worker(settings, keys, sends=sends))
    return {part.name: part for part in parts}


def prepare(site: Site, settings: Settings, programs: Programs) -> None:
    """Create the folders, and collect the files that Prometheus and Grafana need in one place."""
    for name in ("logs", "collector", "prometheus", "tempo", "grafana"):
        (site.data / name).mkdir(parents=True, exist_ok=True)
    folder = site.data / "prometheus" / "config"
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    for name in ("prometheus.yml", "rules"):
        _link(folder / name, _chosen(site, settings, f"prometheus/{name}"))
    provisioning = _provisioning(site)
    provisioning.mkdir(exist_ok=True)
    for name in ("alerting", "dashboards", "datasources"):
        _link(provisioning / name, _chosen(site, settings, f"grafana/provisioning/{name}"))
    scraped = {
        "gateway": "gateway",
        "collector": "collector-metrics",
        "tempo": "tempo",
        "prometheus": "prometheus",
    }
    targets = [
        {"labels": {"job": job}, "targets": [settings.address(port)]}
        for job, port in scraped.items()
        if job == "gateway" or job in programs.found
    ]
    (folder / "targets" / "stack.json").write_text(json.dumps(targets, indent=2), "utf-8")
    secret = _grafana_secret(site)
    if "grafana" in programs.found and not secret.exists():
        write_private(secret, secrets.token_urlsafe(24))


def _chosen(site: Site, settings: Settings, name: str) -> Path:
    """A file or folder from the settings' rules, or else from the repository."""
    given = Path(settings.rules, name)
    return given if settings.rules and given.exists() else site.home / name


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def check_rules(rules: str) -> None:
    """Raise UsageError for a folder without rules."""
    if rules and not any(Path(rules, "prometheus", "rules").glob("*.yml")):
        raise UsageError(
            f"--rules {rules!r} has no prometheus/rules/*.yml; write them with"
            " tools/generate_rules.py --out"
        )


def check_vendors(site: Site, vendors: tuple[str, ...]) -> None:
    """Raise UsageError for a vendor without an overlay."""
    known = sorted(p.stem for p in (site.home / "otel-collector" / "overlays").glob("*.yaml"))
    for vendor in vendors:
        if vendor not in known:
            raise UsageError(f"--vendor {vendor!r}: choose from {', '.join(known) or 'none'}")


def _environment(**extra: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    loopback = ",".join(filter(None, (kept.get("NO_PROXY"), HOST, "localhost")))
    return {**kept, "NO_PROXY": loopback, "no_proxy": loopback, **extra}


def _given(names: Iterable[str]) -> dict[str, str]:
    """The variables of these names that are set in our environment."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _ours(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "spanledger", *arguments)


def _simulator(settings: Settings) -> Part:
    port = str(settings.ports["simulator"])
    return Part(
        "simulator",
        _ours("sim", "--host", HOST, "--port", port, "--speed", str(settings.sim_speed)),
        _environment(),
        ready=f"{settings.url('simulator')}/healthz",
        ports=("simulator",),
        shown={"simulator": settings.url("simulator")},
    )


def _gateway(site: Site, settings: Settings, *, sends: bool) -> Part:
    config = settings.config or str(site.home / "examples" / "stack.yaml")
    return Part(
        "gateway",
        _ours(
            *("gateway", "--config", config, "--host", HOST),
            *("--port", str(settings.ports["gateway"])),
            "--ship" if sends else "--no-ship",
        ),
        _environment(
            SPANLEDGER_LEDGER_URL=site.ledger_url,
            OTEL_EXPORTER_OTLP_ENDPOINT=settings.url("otlp-http"),
            SIM_OPENAI_URL=f"{settings.url('simulator')}/v1",
            SIM_ANTHROPIC_URL=settings.url("simulator"),
            **_given(_FOR_THE_GATEWAY),
        ),
        ready=f"{settings.url('gateway')}/readyz",
        ports=("gateway",),
        # Requests in flight may finish, then the shipper sends the remaining rows.
        grace_s=45.0,
        shown={"gateway": f"{settings.url('gateway')}/v1"},
    )


def _worker(settings: Settings, keys: Mapping[str, str], *, sends: bool) -> Part:
    return Part(
        "worker",
        _ours(
            *("worker", "serve", "--quiet", "--rate", str(settings.rate)),
            "--telemetry" if sends else "--no-telemetry",
        ),
        _environment(
            OPENAI_BASE_URL=f"{settings.url('gateway')}/v1",
            SPANLEDGER_WORKER_CUSTOMERS=",".join(f"{name}={key}" for name, key in keys.items()),
            OTEL_EXPORTER_OTLP_ENDPOINT=settings.url("otlp-http"),
            OTEL_METRIC_EXPORT_INTERVAL="5000",
        ),
        after=("gateway",),
    )


def _collector(site: Site, settings: Settings, programs: Programs) -> Part:
    folder = site.home / "otel-collector"
    files = [folder / "config.yaml", *(folder / "overlays" / f"{v}.yaml" for v in settings.vendors)]
    without = () if "tempo" in programs.found else WITHOUT_TEMPO
    return Part(
        "collector",
        (str(programs.found["collector"]), *(f"--config={file}" for file in (*files, *without))),
        _environment(
            OTELCOL_GRPC_ENDPOINT=settings.address("otlp-grpc"),
            OTELCOL_HTTP_ENDPOINT=settings.address("otlp-http"),
            OTELCOL_HEALTH_ENDPOINT=settings.address("collector-health"),
            OTELCOL_METRICS_HOST=HOST,
            OTELCOL_METRICS_PORT=str(settings.ports["collector-metrics"]),
            # Applications' calls to these addresses are already counted by the gateway.
            OTELCOL_GATEWAY_ADDRESSES="|".join(
                (
                    *(f"{host}:{settings.ports['gateway']}" for host in _LOOPBACK),
                    *filter(None, (os.environ.get("GATEWAY_ADDRESSES"),)),
                )
            ),
            OTELCOL_QUEUE_DIR=str(collector_queue(site)),
            TEMPO_OTLP_ENDPOINT=settings.address("tempo-otlp"),
            OTELCOL_LOG_LEVEL="warn",
            PROMETHEUS_URL=settings.url("prometheus"),
            **_given(_FOR_THE_COLLECTOR),
        ),
        ready=f"{settings.url('collector-health')}/",
        ports=("otlp-grpc", "otlp-http", "collector-health", "collector-metrics"),
        shown={"OTLP/HTTP": settings.url("otlp-http"), "OTLP/gRPC": settings.address("otlp-grpc")},
    )


def collector_queue(site: Site) -> Path:
    """Where the collector stores telemetry that it has not delivered yet."""
    return site.data / "collector" / "queue"


def _prometheus(site: Site, settings: Settings, programs: Programs) -> Part:
    folder = site.data / "prometheus"
    return Part(
        "prometheus",
        (
            str(programs.found["prometheus"]),
            f"--config.file={folder / 'config' / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={settings.address('prometheus')}",
            "--log.level=warn",
            *PROMETHEUS_FLAGS,
        ),
        _environment(GRAFANA_PUBLIC_URL=_grafana_public_url(settings)),
        ready=f"{settings.url('prometheus')}/-/ready",
        ports=("prometheus",),
        grace_s=30.0,
        shown={"Prometheus": settings.url("prometheus")},
    )


def _tempo(site: Site, settings: Settings, programs: Programs) -> Part:
    return Part(
        "tempo",
        (
            str(programs.found["tempo"]),
            f"-config.file={site.home / 'tempo' / 'tempo.yaml'}",
            *TEMPO_FLAGS,
        ),
        _environment(
            TEMPO_HTTP_HOST=HOST,
            TEMPO_HTTP_PORT=str(settings.ports["tempo"]),
            TEMPO_GRPC_PORT=str(settings.ports["tempo-internal"]),
            TEMPO_OTLP_LISTEN=settings.address("tempo-otlp"),
            TEMPO_DATA=str(site.data / "tempo"),
            PROMETHEUS_URL=settings.url("prometheus"),
        ),
        ready=f"{settings.url('tempo')}/ready",
        ports=("tempo", "tempo-otlp", "tempo-internal"),
        # Spans are on disk within a second or two. Tempo 3.0 then waits forever for its query queue
        # to empty, if it has answered a query.
        grace_s=8.0,
        lingers=True,
        shown={"Tempo": settings.url("tempo")},
    )


def _grafana(site: Site, settings: Settings, programs: Programs) -> Part:
    program = programs.found["grafana"]
    folder = site.home / "grafana"
    data = site.data / "grafana"
    homepath = os.environ.get("SPANLEDGER_GRAFANA_HOME") or str(program.resolve().parent.parent)
    server = () if program.name == "grafana-server" else ("server",)
    password = os.environ.get("GRAFANA_ADMIN_PASSWORD")
    url = settings.url("grafana")
    return Part(
        "grafana",
        (str(program), *server, "--homepath", homepath),
        _environment(
            **env_file(folder / "grafana.env"),
            GF_SERVER_HTTP_ADDR=HOST,
            GF_SERVER_HTTP_PORT=str(settings.ports["grafana"]),
            GF_PATHS_DATA=str(data),
            GF_PATHS_LOGS=str(data / "log"),
            GF_PATHS_PLUGINS=str(data / "plugins"),
            GF_PATHS_PROVISIONING=str(_provisioning(site)),
            GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH=str(folder / "dashboards" / "overview.json"),
            # It listens on loopback only. Without a password, nobody can log in and change anything.
            GF_AUTH_ANONYMOUS_ENABLED="true",
            GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION="false" if password else "true",
            **({"GF_SECURITY_ADMIN_PASSWORD": password} if password else {}),
            **{name: os.environ.get(name, unset) for name, unset in ALERT_ADDRESSES.items()},
            # The base of all links, including those in alerts.
            GF_SERVER_ROOT_URL=_grafana_public_url(settings),
            # Grafana's default secret is the same in every installation.
            GF_SECURITY_SECRET_KEY__FILE=str(_grafana_secret(site)),
            SPANLEDGER_DASHBOARDS=str(folder / "dashboards"),
            PROMETHEUS_URL=settings.url("prometheus"),
            TEMPO_URL=settings.url("tempo"),
        ),
        ready=f"{url}/api/health",
        ports=("grafana",),
        shown={"Grafana": url},
    )


def _grafana_public_url(settings: Settings) -> str:
    """The base URL of links in alerts."""
    return os.environ.get("GRAFANA_PUBLIC_URL") or settings.url("grafana")


def _provisioning(site: Site) -> Path:
    return site.data / "grafana" / "provisioning"


def _grafana_secret(site: Site) -> Path:
    return site.data / "grafana" / "secret"


def env_file(path: Path) -> dict[str, str]:
    """The variables of a file of `NAME=value` lines."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
