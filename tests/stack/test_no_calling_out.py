"""No component calls out or is reachable from other machines: every known switch and address.

Static on purpose: a switch that is lost in an edit is found without a network to watch. The table says
for each component which switches there are, where ours stand and what they must say.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from prometheus.src.model import REPOSITORY
from spanledger.config import Config
from spanledger.gateway.auth import is_loopback
from spanledger.stack.parts import env_file, parts_of, prepare
from spanledger.stack.ports import DEFAULTS
from spanledger.stack.programs import WANTED, Programs
from spanledger.stack.site import Settings, Site
from tests.stack import composition

ROOT = Path(__file__).resolve().parents[2]
COLLECTOR = ROOT / "otel-collector" / "config.yaml"
TEMPO = ROOT / "tempo" / "tempo.yaml"
PROMETHEUS = ROOT / "prometheus" / "prometheus.yml"
LONG_TERM = "victoria-metrics"
"""A service of compose/scale.yml, which Grafana knows in that layer alone."""


class Switch(NamedTuple):
    """A setting that lets a component call out, or be called, and must be off."""

    component: str
    key: str
    expected: str
    why: str


GRAFANA = [
    Switch("grafana", "GF_ANALYTICS_REPORTING_ENABLED", "false", "usage report once a day"),
    Switch("grafana", "GF_ANALYTICS_CHECK_FOR_UPDATES", "false", "asks for new releases"),
    Switch("grafana", "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false", "asks for new plugins"),
    Switch("grafana", "GF_ANALYTICS_FEEDBACK_LINKS_ENABLED", "false", "links to forms elsewhere"),
    Switch("grafana", "GF_CLOUD_MIGRATION_ENABLED", "false", "offers to move to the cloud"),
    Switch("grafana", "GF_NEWS_NEWS_FEED_ENABLED", "false", "reads a feed"),
    Switch("grafana", "GF_PLUGINS_PLUGIN_ADMIN_ENABLED", "false", "the catalogue is remote"),
    Switch("grafana", "GF_PLUGINS_PREINSTALL_DISABLED", "true", "downloads plugins at the start"),
    Switch("grafana", "GF_PLUGINS_PREINSTALL_AUTO_UPDATE", "false", "replaces bundled plugins"),
    Switch("grafana", "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED", "true", "fetches keys"),
    Switch("grafana", "GF_PUBLIC_DASHBOARDS_ENABLED", "false", "shows dashboards to anybody"),
    Switch("grafana", "GF_SECURITY_DISABLE_GRAVATAR", "true", "fetches pictures of users"),
    Switch("grafana", "GF_SNAPSHOTS_EXTERNAL_ENABLED", "false", "sends dashboards elsewhere"),
    Switch("grafana", "GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer", "who may look may not change"),
    Switch("grafana", "GF_USERS_ALLOW_SIGN_UP", "false", "strangers make themselves users"),
]
GRAFANA_LEFT_UNSET = re.compile(
    r"GF_(?:INSTALL_PLUGINS|PLUGINS_PREINSTALL(?:_SYNC)?$|ANALYTICS_(?:GOOGLE|RUDDERSTACK|APPLICATION)"
    r"|SERVER_CDN_URL|RENDERING_|SMTP_|AUTH_(?!ANONYMOUS))"
)
"""Settings that would allow calls out with any value."""

TEMPO_SWITCHES = [
    Switch("tempo", "usage_report.reporting_enabled", "False", "usage report every four hours"),
]
PROMETHEUS_FLAGS_NOT_GIVEN = (
    "--web.enable-lifecycle",
    "--web.enable-admin-api",
    "--enable-feature=expand-external-labels",
)
"""Prometheus itself does not report anywhere; these would let others stop it or delete data."""

PYTHON_SWITCHES = [
    Switch(
        "providers/litellm.py", 'os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"', "", "prices"
    ),
    Switch("providers/litellm.py", "litellm.telemetry = False", "", "usage report"),
    Switch("worker/tracing.py", "image_uploader=cast(", "", "uploads images of prompts"),
    Switch(
        "worker/tracing.py", "instruments={Instruments.OPENAI}", "", "instruments no other client"
    ),
]


def at(data: Any, key: str) -> Any:
    """The value at a dotted path."""
    for part in key.split("."):
        data = data[part]
    return data


@pytest.mark.parametrize("switch", GRAFANA, ids=lambda switch: switch.key)
def test_grafana_stays_at_home(switch: Switch) -> None:
    """Each of Grafana's switches is off, in compose and natively, from one file."""
    assert env_file(ROOT / "grafana" / "grafana.env").get(switch.key) == switch.expected


def test_grafana_is_given_no_way_out() -> None:
    """No plugin is installed, no tracker or mail server named, and nothing overrides the file."""
    service = composition.load([composition.BASE], composition.sample())["services"]["grafana"]
    stored = env_file(ROOT / "grafana" / "grafana.env")
    set_here = {key for key in service["environment"] if key.startswith("GF_")}

    assert service["env_file"] == ["./grafana/grafana.env"]
    assert set_here & stored.keys() == set()
    assert [key for key in {*set_here, *stored} if GRAFANA_LEFT_UNSET.match(key)] == []
    urls = re.findall(r"\bhttps?://[^\s\"']+", provisioning())
    assert [
        url
        for url in urls
        if not url.startswith(("http://127.0.0.1", "http://localhost", f"http://{LONG_TERM}:"))
        and not url.startswith(f"{REPOSITORY}/blob/main/docs/runbooks/")  # a link for people
    ] == []


def provisioning() -> str:
    """All of Grafana's provisioning files, comments left out."""
    files = sorted((ROOT / "grafana" / "provisioning").rglob("*.yaml"))
    return re.sub(r"(?m)^\s*#.*$", "", "\n".join(file.read_text("utf-8") for file in files))


@pytest.mark.parametrize("switch", TEMPO_SWITCHES, ids=lambda switch: switch.key)
def test_tempo_reports_to_nobody(switch: Switch) -> None:
    """Tempo's switches are off."""
    assert str(at(yaml.safe_load(TEMPO.read_text("utf-8")), switch.key)) == switch.expected


def test_prometheus_asks_only_who_it_is_told_to() -> None:
    """It finds targets in files, writes to nobody, takes no orders over HTTP, and alerts go where a
    file says that does not ship."""
    data = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    services = composition.load([composition.BASE], composition.sample())["services"]
    commands = [*services["prometheus"]["command"], *native_words("prometheus")]

    assert set(data) & {"remote_write", "remote_read"} == set()
    for job in data["scrape_configs"]:
        assert {key for key in job if key.endswith("_sd_configs")} == {"file_sd_configs"}
        assert "static_configs" not in job
    (told,) = data["alerting"]["alertmanagers"]
    assert set(told) == {"file_sd_configs"}
    assert told["file_sd_configs"][0]["files"] == ["targets/alertmanagers.yml"]
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert "prometheus/targets/compose/alertmanagers.yml" in ignored
    assert [word for word in commands if word.startswith(PROMETHEUS_FLAGS_NOT_GIVEN)] == []


@pytest.mark.parametrize("switch", PYTHON_SWITCHES, ids=lambda switch: switch.key)
def test_libraries_of_ours_are_kept_quiet(switch: Switch) -> None:
    """A library's own reporting is switched off where the library is loaded."""
    text = (ROOT / "service" / "spanledger" / switch.component).read_text("utf-8")

    assert switch.key in text


def test_no_library_for_reporting_is_installed_with_us() -> None:
    """Neither we nor OpenLLMetry depend on a tracker."""
    for package in ("spanledger", "traceloop-sdk"):
        needs = " ".join(importlib.metadata.requires(package) or ()).lower()
        assert not re.search(r"posthog|segment|sentry|mixpanel|amplitude|rudder", needs), package


def test_the_collector_sends_only_to_the_stack() -> None:
    """Without an overlay every exporter goes to an address of the stack, and metrics are pulled."""
    data = yaml.safe_load(filled(COLLECTOR.read_text("utf-8")))
    endpoints = [value for _, value in addresses(data["exporters"])]

    assert endpoints
    assert [value for value in endpoints if not is_local(value)] == []
    assert set(at(data, "service.telemetry")) <= {"logs", "metrics", "resource"}
    for reader in at(data, "service.telemetry.metrics.readers"):
        assert list(reader) == ["pull"]
        assert is_loopback(reader["pull"]["exporter"]["prometheus"]["host"])
    assert "processors" not in at(data, "service.telemetry.logs")


def filled(text: str) -> str:
    """A configuration with each variable's default, comments left out."""
    text = re.sub(r"(?m)^\s*#.*$", "", text)
    return re.sub(r"\$\{(?:env:)?\w+(?::-([^{}]*))?\}", lambda match: match[1] or "", text)


def addresses(data: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every address to listen on or connect to, with its place."""
    if isinstance(data, dict):
        for key, value in data.items():
            here = f"{place}.{key}" if place else str(key)
            if isinstance(value, dict | list):
                yield from addresses(value, here)
            elif re.search(r"(?:endpoint|address|_addr|host|url)$", str(key)):
                yield here, str(value)
    elif isinstance(data, list):
        for item in data:
            yield from addresses(item, place)


def is_local(address: str) -> bool:
    """Whether `host`, `host:port` or a URL names only this machine."""
    host = address.partition("://")[2] or address
    return is_loopback(re.sub(r":\d+$", "", host.partition("/")[0]))


@pytest.mark.parametrize("path", [COLLECTOR, TEMPO], ids=lambda path: path.name)
def test_configurations_listen_on_loopback_unless_told_otherwise(path: Path) -> None:
    """With no variable set, every address of the collector and of Tempo is this machine's."""
    data = yaml.safe_load(filled(path.read_text("utf-8")))
    found = dict(addresses(data))

    assert len(found) >= 5
    assert {place: value for place, value in found.items() if not is_local(value)} == {}
    assert "0.0.0.0" not in filled(path.read_text("utf-8"))


def test_what_has_no_file_is_told_by_its_default() -> None:
    """The gateway and the simulator listen on loopback, and telemetry stays on this machine."""
    config = Config()
    sim = (ROOT / "service" / "spanledger" / "commands" / "sim.py").read_text("utf-8")

    assert is_loopback(config.gateway.host)
    assert is_local(config.telemetry.endpoint)
    assert re.search(r'host: .* = "127\.0\.0\.1"', sim)


def native_parts(folder: Path) -> dict[str, Any]:
    """Every part of the native stack, as if every program were here."""
    site = Site(ROOT, folder)
    programs = Programs({name: Path("/bin") / name for name in WANTED}, {})
    settings = Settings(dict(DEFAULTS))
    return {"site": site, "parts": parts_of(site, settings, programs, {"acme": "slk_x"})}


def native_words(name: str) -> tuple[str, ...]:
    """The command of one part."""
    command: tuple[str, ...] = native_parts(Path("unused"))["parts"][name].command
    return command


def test_the_native_stack_listens_on_loopback(tmp_path: Path, monkeypatch: Any) -> None:
    """Every address in a command or in the environment of a part is this machine's."""
    monkeypatch.setattr("os.environ", {"PATH": "/bin"})
    parts = native_parts(tmp_path)["parts"]
    with_address = re.compile(r"(?<![\w.])((?:[\w-]+\.)*[\w-]+):(\d{2,5})\b")
    ports = {str(port) for port in DEFAULTS.values()}
    seen, wrong = set(), []
    for name, part in parts.items():
        for text in (*part.command, *part.environ.values(), part.ready):
            for host, port in with_address.findall(text):
                if port in ports:
                    seen.add(port)
                    is_ours = host in ("127.0.0.1", "localhost") or "[.]" in text
                    wrong += [] if is_ours else [f"{name}: {text}"]
            wrong += [f"{name}: {text}"] if "0.0.0.0" in text else []
        hosts = [part.command[n + 1] for n, word in enumerate(part.command) if word == "--host"]
        wrong += [f"{name} --host {host}" for host in hosts if host != "127.0.0.1"]

    assert wrong == []
    assert {"9090", "4317", "4318", "13133", "4417"} <= seen
    assert any(word.startswith("--web.listen-address=127") for word in parts["prometheus"].command)
    assert parts["grafana"].environ["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert parts["tempo"].environ["TEMPO_HTTP_HOST"] == "127.0.0.1"
    assert parts["collector"].environ["OTELCOL_METRICS_HOST"] == "127.0.0.1"
    assert {"--host"} <= set(parts["gateway"].command) & set(parts["simulator"].command)


def test_the_native_stack_scrapes_loopback(tmp_path: Path) -> None:
    """The targets written for Prometheus are this machine's."""
    site = Site(ROOT, tmp_path)
    prepare(site, Settings(dict(DEFAULTS)), Programs({n: Path("/bin") / n for n in WANTED}, {}))
    text = "".join(p.read_text("utf-8") for p in tmp_path.rglob("targets/*.json"))
    hosts = re.findall(r'"([\w.-]+):\d+"', text)

    assert hosts
    assert set(hosts) == {"127.0.0.1"}


def test_only_vendors_are_told_of_the_world() -> None:
    """External addresses are only in the vendors' overlays, in no other file that configures the stack."""
    files = [composition.BASE, COLLECTOR, TEMPO, PROMETHEUS, ROOT / "examples" / "stack.yaml"]
    files += [ROOT / "grafana" / "grafana.env", *composition.LAYERS]
    files += [ROOT / "prometheus" / "scale.yml", *(ROOT / "otel-collector" / "tiers").iterdir()]
    outside = {
        f"{file.name}: {host}"
        for file in files
        for host in re.findall(
            r"https?://([\w.-]*[a-z][\w.-]*)", re.sub(r"(?m)^\s*#.*$", "", file.read_text("utf-8"))
        )
        if host
        not in {
            *("collector", "prometheus", "tempo", "sim", "gateway", "proxy", "localhost"),
            *("objects", LONG_TERM),
        }
        and host != "host.docker.internal"
    }

    assert outside == set()


def test_the_object_store_reports_to_nobody() -> None:
    """SeaweedFS would send figures about itself; its switch is off."""
    layer = ROOT / "compose" / "scale.yml"

    assert "-master.telemetry=false" in composition.stack(layer)["services"]["objects"]["command"]


def test_the_build_of_the_image_names_no_frontend() -> None:
    """A `# syntax=` line would fetch a program by a moving tag."""
    text = (ROOT / "service" / "Dockerfile").read_text("utf-8")

    assert not re.search(r"(?im)^#\s*syntax\s*=", text)


def test_the_rules_see_an_open_address() -> None:
    """The checks above distinguish this machine from others."""
    good = ("127.0.0.1:4317", "http://127.0.0.1:9090/api", "localhost", "[::1]:1")
    bad = ("0.0.0.0:4317", "tempo:4317", "https://api.honeycomb.io", ":4317", "10.0.0.1")

    assert [is_local(address) for address in good] == [True] * len(good)
    assert [is_local(address) for address in bad] == [False] * len(bad)
