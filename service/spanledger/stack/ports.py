"""The ports of the native stack: defaults, how they are chosen, and which process uses a port."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from spanledger.errors import ConfigError, UsageError

HOST = "127.0.0.1"

DEFAULTS: Mapping[str, int] = {
    "gateway": 4000,
    "simulator": 4010,
    "otlp-grpc": 4317,
    "otlp-http": 4318,
    "collector-health": 13133,
    "collector-metrics": 8888,
    "prometheus": 9090,
    "tempo": 3200,
    "tempo-otlp": 4417,
    "tempo-internal": 9095,
    "grafana": 3000,
}
"""By name; the same ports as in docker-compose.yml."""

_FREE_RANGE = range(15_000, 31_000)
"""Below the ephemeral range, so no outgoing connection takes one in the meantime."""
_DRAWS = 200


def choose(base: int | None, given: Sequence[str]) -> dict[str, int]:
    """The ports to use: the defaults, or consecutive ones from `base`; 0 picks free ones.

    Args:
        given: `NAME=NUMBER` for single ports; these take precedence.

    Raises:
        UsageError: an unknown name or an invalid number.
    """
    ports = dict(DEFAULTS) if base is None else _consecutive(base or _free_base())
    for text in given:
        name, _, number = text.partition("=")
        if name not in DEFAULTS:
            raise UsageError(f"--port {text!r}: unknown name; choose from {', '.join(DEFAULTS)}")
        if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
            raise UsageError(f"--port {text!r}: write {name}=NUMBER, with a number from 1 to 65535")
        ports[name] = int(number)
    if len(set(ports.values())) < len(ports):
        twice = sorted(n for n in ports if list(ports.values()).count(ports[n]) > 1)
        raise UsageError(f"the ports of {' and '.join(twice)} are the same; use --port NAME=NUMBER")
    return ports


def check_free(ports: Mapping[str, int]) -> None:
    """Raise ConfigError if a port is taken; names the process that uses it, if visible."""
    problems = []
    for name, port in ports.items():
        if not is_free(port):
            owner = owner_of(port)
            by = f" by {owner}" if owner else ""
            problems.append(f"port {port} for {name} is taken{by}; use --port {name}=NUMBER")
    if problems:
        raise ConfigError("\n".join(problems))


def is_free(port: int) -> bool:
    """Whether a port of the loopback interface is free to listen on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def owner_of(port: int) -> str:
    """`NAME (pid N)` of the process that listens on a port; empty if the system does not show it."""
    inodes = {
        fields[9]
        for table in ("tcp", "tcp6")
        for fields in _sockets(table)
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
    }
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in Path("/proc").glob("[0-9]*") if wanted else ():
        with contextlib.suppress(OSError):
            for link in (folder / "fd").iterdir():
                if str(link.readlink()) in wanted:
                    name = (folder / "comm").read_text().strip()
                    return f"{name} (pid {folder.name})"
    return ""


def _sockets(table: str) -> list[list[str]]:
    try:
        lines = Path("/proc/net", table).read_text().splitlines()
    except OSError:
        return []
    return [line.split() for line in lines[1:]]


def _consecutive(base: int) -> dict[str, int]:
    if not 0 < base <= 65535 - len(DEFAULTS):
        raise UsageError(f"--port-base {base}: {len(DEFAULTS)} ports must fit below 65536")
    return {name: base + number for number, name in enumerate(DEFAULTS)}


def _free_base() -> int:
    for _ in range(_DRAWS):
        base = random.choice(_FREE_RANGE)
        if all(is_free(base + number) for number in range(len(DEFAULTS))):
            return base
    raise ConfigError(f"no {len(DEFAULTS)} consecutive ports are free; use --port-base")
