"""Builds base images locally under the names that the stack's files pin, so nothing is pulled.

The collector and Prometheus come from `make toolchain`, Tempo and Grafana from this machine. If a
program is missing, a stand-in answers the health check, and the image has a label for that.
"""

from __future__ import annotations

import hashlib
import struct
import tarfile
import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tools.engine.daemon import Engine, EngineError

MADE_OF = "spanledger.made-of"
STAND_IN = "spanledger.stand-in"
STAND_INS = Path(__file__).resolve().parent / "stand_ins"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
NET_BIND_SERVICE = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""The attribute `security.capability` of a file with that capability, permitted and effective."""
CAPABILITY = "SCHILY.xattr.security.capability"
BARE = "bare"
"""The version of a Python image that trusts only the public certificate authorities."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder with its content, a link (`to`), or an empty folder.

    `capabilities` is the file's attribute of that name.
    """

    path: str
    source: Path | None = None
    to: str = ""
    owner: int = 0
    capabilities: bytes = b""


@dataclass(frozen=True, slots=True)
class Image:
    """An image to build.

    Args:
        name: as pinned in the stack's files.
        entries: its content.
        changes: Dockerfile instructions for its configuration.
        base: an archive to start from.
    """

    name: str
    entries: Sequence[Entry]
    changes: Sequence[str]
    base: Path | None = None

    def stamp(self) -> str:
        """A digest of what it is built from."""
        digest = hashlib.sha256(repr((self.name, self.changes)).encode())
        for entry in (*self.entries, Entry("", self.base)):
            digest.update(repr((entry.path, str(entry.source), entry.to, entry.owner)).encode())
            digest.update(entry.capabilities)
            if entry.source is not None:
                told = entry.source.stat()
                digest.update(f"{told.st_size} {told.st_mtime_ns}".encode())
        return digest.hexdigest()[:16]

    def make(self, engine: Engine) -> None:
        """Import it into the engine. Raises EngineError."""
        with tempfile.TemporaryDirectory(prefix="spanledger-image-") as folder:
            archive = Path(folder) / "image.tar"
            with tarfile.open(archive, "w") as tar:
                if self.base is not None:
                    _copy(tar, self.base, {entry.path for entry in self.entries})
                for entry in self.entries:
                    _add(tar, entry)
            changes = (*self.changes, f"LABEL {MADE_OF}={self.stamp()}")
            words = [word for change in changes for word in ("--change", change)]
            engine.docker("import", *words, str(archive), self.name)


@dataclass(frozen=True, slots=True)
class Parts:
    """What images are built from.

    Args:
        base: the archive of a small Debian with Python.
        postgres: the same with a Postgres server.
        programs: paths of `caddy`, `collector`, `prometheus`, `promtool`, `seaweedfs`, `victoria-metrics` and, if
            found, `tempo` and `grafana`.
        grafana_home: Grafana's folder of pages and defaults.
        certificates: the authorities that this machine trusts, including its network's own.
    """

    base: Path
    postgres: Path
    programs: Mapping[str, Path]
    grafana_home: Path | None
    certificates: Path = Path("/") / CERTIFICATES


def ensure(engine: Engine, parts: Parts, versions: Mapping[str, str]) -> list[str]:
    """Build images that are missing or out of date; returns their names. Raises EngineError."""
    made = []
    for image in images(parts, versions):
        try:
            label = "{{index .Config.Labels %r}}" % MADE_OF  # noqa: UP031 - braces are Docker's
            there = engine.docker(
                "image", "inspect", "--format", label.replace("'", '"'), image.name
            )
        except EngineError:
            there = ""
        if there.strip() != image.stamp():
            image.make(engine)
            made.append(image.name)
    return made


def images(parts: Parts, versions: Mapping[str, str]) -> list[Image]:
    """The images that the stack's files use."""
    return [
        _python(parts, versions["PYTHON_VERSION"], Entry(CERTIFICATES, parts.certificates)),
        _python(parts, BARE),
        _collector(parts, versions["COLLECTOR_VERSION"]),
        _prometheus(parts, versions["PROMETHEUS_VERSION"]),
        _tempo(parts, versions["TEMPO_VERSION"]),
        _grafana(parts, versions["GRAFANA_VERSION"]),
        _caddy(parts, versions["CADDY_VERSION"]),
        _postgres(parts, versions["POSTGRES_VERSION"]),
        _seaweedfs(parts, versions["SEAWEEDFS_VERSION"]),
        _victoria_metrics(parts, versions["VICTORIA_METRICS_VERSION"]),
    ]


def _python(parts: Parts, version: str, *more: Entry) -> Image:
    """Debian with its own Python instead of the official image's."""
    links = [
        Entry(f"usr/local/bin/{name}", to="/usr/bin/python3") for name in ("python", "python3")
    ]
    changes = [f"ENV SSL_CERT_FILE=/{CERTIFICATES}", 'CMD ["python3"]'] if more else []
    return Image(f"python:{version}-slim-trixie", [*links, *more], changes, parts.base)


def _collector(parts: Parts, version: str) -> Image:
    entries = [Entry("otelcol-contrib", parts.programs["collector"])]
    return Image(
        f"otel/opentelemetry-collector-contrib:{version}",
        [*entries, Entry(CERTIFICATES, parts.certificates)],
        ["USER 10001:10001", 'ENTRYPOINT ["/otelcol-contrib"]'],
    )


def _prometheus(parts: Parts, version: str) -> Image:
    entries = [Entry(f"bin/{name}", parts.programs[name]) for name in ("prometheus", "promtool")]
    return Image(
        f"prom/prometheus:v{version}",
        [*entries, Entry("prometheus", owner=65534)],
        ["USER nobody", "ENV PATH=/bin", "WORKDIR /prometheus", 'ENTRYPOINT ["/bin/prometheus"]'],
    )


def _tempo(parts: Parts, version: str) -> Image:
    name, data = f"grafana/tempo:{version}", Entry("var/tempo", owner=10001)
    changes = ["USER 10001:10001", 'ENTRYPOINT ["/tempo"]']
    if "tempo" in parts.programs:
        return Image(name, [Entry("tempo", parts.programs["tempo"]), data], changes, parts.base)
    entries = [
        Entry("tempo", STAND_INS / "tempo.py"),
        Entry("otelcol", parts.programs["collector"]),
        Entry("otelcol.yaml", STAND_INS / "tempo.yaml"),
    ]
    return Image(name, [*entries, data], [*changes, f"LABEL {STAND_IN}=tempo"], parts.base)


def _grafana(parts: Parts, version: str) -> Image:
    """Includes busybox's `wget`, as in the official image: the stack's health check uses it."""
    name = f"grafana/grafana:{version}"
    entries = [Entry("usr/bin/wget", to="busybox"), Entry("var/lib/grafana", owner=472)]
    changes = ["USER 472:0", "ENV GF_PATHS_DATA=/var/lib/grafana"]
    if "grafana" in parts.programs and parts.grafana_home is not None:
        home = Entry("usr/share/grafana", parts.grafana_home)
        program = Entry("usr/bin/grafana", parts.programs["grafana"])
        changes += [
            "ENV GF_PATHS_PROVISIONING=/etc/grafana/provisioning",
            'ENTRYPOINT ["grafana", "server", "--homepath=/usr/share/grafana"]',
        ]
        return Image(name, [*entries, home, program], changes, parts.base)
    entries.append(Entry("grafana", STAND_INS / "grafana.py"))
    changes += ['ENTRYPOINT ["/grafana"]', f"LABEL {STAND_IN}=grafana"]
    return Image(name, entries, changes, parts.base)


def _caddy(parts: Parts, version: str) -> Image:
    """Like the official image, its program has a capability in its file, and `wget` is busybox's."""
    program = Entry("usr/bin/caddy", parts.programs["caddy"], capabilities=NET_BIND_SERVICE)
    changes = [
        "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data",
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
    ]
    return Image(
        f"caddy:{version}", [Entry("usr/bin/wget", to="busybox"), program], changes, parts.base
    )


def _seaweedfs(parts: Parts, version: str) -> Image:
    program = Entry("usr/bin/weed", parts.programs["seaweedfs"])
    entries = [Entry("usr/bin/wget", to="busybox"), program, Entry("data", owner=1000)]
    return Image(
        f"chrislusf/seaweedfs:{version}", entries, ['ENTRYPOINT ["/entrypoint.sh"]'], parts.base
    )


def _victoria_metrics(parts: Parts, version: str) -> Image:
    program = Entry("victoria-metrics-prod", parts.programs["victoria-metrics"])
    return Image(
        f"victoriametrics/victoria-metrics:v{version}",
        [Entry("usr/bin/wget", to="busybox"), program],
        ['ENTRYPOINT ["/victoria-metrics-prod"]'],
        parts.base,
    )


def _postgres(parts: Parts, version: str) -> Image:
    """Debian's server of the same version, started as in the official image."""
    major = version.partition(".")[0]
    programs = f"/usr/lib/postgresql/{major}/bin"
    return Image(
        f"postgres:{version}-trixie",
        [
            Entry("usr/local/bin/docker-entrypoint.sh", STAND_INS / "postgres.py"),
            Entry("var/lib/postgresql/data", owner=999),
        ],
        [
            f"ENV PATH=/usr/local/bin:/usr/bin:/bin:{programs}",
            "ENV PGDATA=/var/lib/postgresql/data",
            "STOPSIGNAL SIGINT",
            'ENTRYPOINT ["docker-entrypoint.sh"]',
            'CMD ["postgres"]',
        ],
        parts.postgres,
    )


def _copy(tar: tarfile.TarFile, base: Path, without: Set[str]) -> None:
    """Copy an archive's content, except for the replaced entries."""
    with tarfile.open(base) as source:
        for info in source:
            if info.name.removeprefix("./") not in without:
                tar.addfile(info, source.extractfile(info) if info.isreg() else None)


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    """Add an entry to an archive, readable by everybody, as in official images."""

    def readable(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = entry.owner
        info.uname = info.gname = ""
        info.mode |= 0o755 if info.isdir() else 0o444
        if entry.capabilities:
            info.pax_headers = {CAPABILITY: entry.capabilities.decode("latin-1")}
        return info

    if entry.source is not None:
        tar.add(entry.source.resolve(), arcname=entry.path, filter=readable)
        return
    info = tarfile.TarInfo(entry.path)
    info.type, info.linkname = (tarfile.SYMTYPE, entry.to) if entry.to else (tarfile.DIRTYPE, "")
    info.mode = 0o755
    tar.addfile(readable(info))
