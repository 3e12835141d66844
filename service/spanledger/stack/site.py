"""The site of a native stack: the repository's files, a data folder and the settings.

Owns the state file, which keeps the settings and the processes between commands. Nothing is started
here.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spanledger.errors import ConfigError, UsageError
from spanledger.stack.ports import HOST
from spanledger.stack.processes import Running

_MARKS = ("otel-collector/config.yaml", "prometheus/prometheus.yml", "tempo/tempo.yaml")
_STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """How the stack is run; fixed while any part is running."""

    ports: Mapping[str, int]
    config: str = ""
    """The gateway's configuration; empty: the example with simulated providers."""
    traffic: bool = True
    rate: float = 2.0
    """Requests per second of the demo worker at its peak."""
    sim_speed: float = 1.0
    vendors: tuple[str, ...] = ()
    """Overlays of the collector."""
    rules: str = ""
    """A folder of alert rules written by tools/generate_rules.py, used instead of the
    repository's."""

    def url(self, port: str) -> str:
        """The base URL of the server on a port."""
        return f"http://{HOST}:{self.ports[port]}"

    def address(self, port: str) -> str:
        """`host:port`."""
        return f"{HOST}:{self.ports[port]}"


@dataclass(slots=True)
class StackState:
    """The running processes, and the settings they were started with."""

    settings: Settings | None = None
    running: dict[str, Running] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Site:
    """The folders."""

    home: Path
    """The repository."""
    data: Path

    @property
    def logs(self) -> Path:
        """Where every part's output goes."""
        return self.data / "logs"

    @property
    def ledger_url(self) -> str:
        """The ledger of this stack."""
        return f"sqlite:///{self.data / 'ledger.db'}"

    @property
    def keys_file(self) -> Path:
        """The virtual keys, readable by their owner only."""
        return self.data / "keys.json"

    @property
    def _state_file(self) -> Path:
        return self.data / "state.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other `stack` commands off this folder meanwhile. Raises ConfigError."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            file = (self.data / "lock").open("ab")
        except OSError as error:
            raise ConfigError(f"cannot use {str(self.data)!r}: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"another `spanledger stack` command is using {str(self.data)!r}; wait until it"
                    " has finished"
                ) from None
            yield

    def read(self) -> StackState:
        """The recorded state; empty if there is no state file. Raises ConfigError."""
        try:
            data = json.loads(self._state_file.read_text("utf-8"))
        except FileNotFoundError:
            return StackState()
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {str(self._state_file)!r}: {error}") from error
        if data.get("version") != _STATE_VERSION:
            raise ConfigError(
                f"{str(self._state_file)!r} was written by another release; remove it"
            )
        given: dict[str, Any] = data["settings"]
        settings = Settings(**{**given, "vendors": tuple(given["vendors"])})
        running = {name: Running(**process) for name, process in data["running"].items()}
        return StackState(settings, running)

    def write(self, state: StackState) -> None:
        """Record the state; if nothing is running, remove the file."""
        if not state.running or state.settings is None:
            self._state_file.unlink(missing_ok=True)
            return
        data = {
            "version": _STATE_VERSION,
            "settings": {**asdict(state.settings), "ports": dict(state.settings.ports)},
            "running": {name: asdict(process) for name, process in state.running.items()},
        }
        draft = self._state_file.with_name("state.new")
        draft.write_text(json.dumps(data, indent=2), "utf-8")
        draft.replace(self._state_file)


def find_site(
    data: Path | None, environ: Mapping[str, str] = os.environ, start: Path | None = None
) -> Site:
    """Find the repository in `SPANLEDGER_HOME` or from the working directory upwards.

    Raises:
        UsageError: the stack's files were not found.
    """
    if given := environ.get("SPANLEDGER_HOME"):
        candidates = [Path(given)]
    else:
        here = (start or Path.cwd()).resolve()
        candidates = [here, *here.parents]
    for folder in candidates:
        if all((folder / mark).is_file() for mark in _MARKS):
            home = folder.resolve()
            return Site(home, (data or home / ".spanledger" / "stack").absolute())
    raise UsageError(
        f"no {_MARKS[0]} in {candidates[0]}"
        f"{'' if given else ' or above'}; run this in a clone of the repository,"
        " or set SPANLEDGER_HOME to one"
    )


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
