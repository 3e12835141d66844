"""Starts, watches and stops the native stack.

A second start only starts what is not running. If a start fails or is interrupted, the processes
it started are stopped again. Only processes that this stack started are ever signalled.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanledger.errors import SpanledgerError
from spanledger.ledger import open_store
from spanledger.ledger.keys import key_digest
from spanledger.stack.parts import (
    Part,
    check_rules,
    check_vendors,
    collector_queue,
    parts_of,
    prepare,
)
from spanledger.stack.ports import check_free
from spanledger.stack.processes import Running, is_alive, memory_bytes, start, stop
from spanledger.stack.programs import Programs, find_programs
from spanledger.stack.queues import set_aside_broken
from spanledger.stack.site import Settings, Site, StackState, write_private

READY_S = 60.0
KEYED_CUSTOMERS = ("acme", "globex", "initech", "you")
"""Customers with a key; the last one is for the person who runs the stack."""

_PROBE_S = 2.0
_POLL_S = 0.1
_LOG_TAIL_LINES = 5
_LOG_TAIL_BYTES = 8192
_SHOWN_FIRST = {"Grafana": 0, "gateway": 1}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PartStatus:
    """The current state of one part."""

    name: str
    state: str
    """`ready`, `starting`, `ended` or `missing`."""
    pid: int | None = None
    memory_bytes: int = 0
    log: str = ""
    reason: str = ""
    """Why it is missing."""


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The current state of the whole stack."""

    data: Path
    parts: tuple[PartStatus, ...]
    settings: Settings | None = None
    shown: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_up(self) -> bool:
        """Whether every available part is ready."""
        wanted = [part for part in self.parts if part.state != "missing"]
        return bool(wanted) and all(part.state == "ready" for part in wanted)

    @property
    def memory_bytes(self) -> int:
        """Memory of all parts."""
        return sum(part.memory_bytes for part in self.parts)

    def as_json(self) -> dict[str, Any]:
        """The output of `--json`."""
        return {
            "up": self.is_up,
            "folder": str(self.data),
            "memory_bytes": self.memory_bytes,
            "parts": [
                {
                    "name": part.name,
                    "state": part.state,
                    "pid": part.pid,
                    "memory_bytes": part.memory_bytes,
                    "log": part.log or None,
                    "reason": part.reason or None,
                }
                for part in self.parts
            ],
            "urls": dict(self.shown),
            "ports": dict(self.settings.ports) if self.settings else {},
        }


class Stack:
    """The stack of one folder."""

    def __init__(self, site: Site, say: Say, programs: Programs | None = None) -> None:
        self._site = site
        self._say = say
        self._programs = programs or find_programs()
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """Make `up` clean up and raise KeyboardInterrupt, at its next safe point.

        For signal handlers: if they raised, a process could be started but not yet recorded.
        """
        self._interrupted.set()

    def up(self, wanted: Settings, ready_s: float = READY_S) -> StackStatus:
        """Start the parts that are not running and wait until they are ready.

        Raises:
            SpanledgerError: a port is taken, or a part did not become ready. The parts that this
                call started are stopped again.
            KeyboardInterrupt: `interrupt` was called; they are stopped as well.
        """
        with self._site.locked():
            check_vendors(self._site, wanted.vendors)
            check_rules(wanted.rules)
            state = self._living()
            if state.settings is not None and state.settings != wanted:
                self._say(
                    "already running with other settings; run `spanledger stack down` to change them"
                )
            settings = state.settings or wanted
            check_rules(settings.rules)
            parts = parts_of(self._site, settings, self._programs, self._keys())
            fresh = [part for name, part in parts.items() if name not in state.running]
            check_free({port: settings.ports[port] for part in fresh for port in part.ports})
            prepare(self._site, settings, self._programs)
            if any(part.name == "collector" for part in fresh):
                for file in set_aside_broken(collector_queue(self._site)):
                    self._say(f"a queue file of the collector is corrupt; moved it to {file}")
            state.settings = settings
            try:
                self._start(fresh, state, time.monotonic() + ready_s)
            except BaseException:
                self._stop([part.name for part in fresh], state, parts)
                raise
            return self._status(state, parts)

    def down(self) -> list[str]:
        """Stop everything this stack started; returns the names of the parts that were running."""
        with self._site.locked():
            state = self._site.read()
            ran = [name for name, process in state.running.items() if is_alive(process)]
            parts = self._parts(state)
            self._stop(list(state.running), state, parts)
            return ran

    def status(self) -> StackStatus:
        """The current state."""
        state = self._site.read()
        return self._status(state, self._parts(state))

    def _parts(self, state: StackState) -> dict[str, Part]:
        if state.settings is None:
            return {}
        return parts_of(self._site, state.settings, self._programs, {})

    def _living(self) -> StackState:
        state = self._site.read()
        running = {name: p for name, p in state.running.items() if is_alive(p)}
        return StackState(state.settings if running else None, running)

    def _start(self, fresh: list[Part], state: StackState, deadline: float) -> None:
        waves = ([p for p in fresh if not p.after], [p for p in fresh if p.after])
        for wave in waves:
            for part in wave:
                self._check_interrupted()
                log = self._site.logs / f"{part.name}.log"
                state.running[part.name] = start(part.command, part.environ, self._site.data, log)
                self._site.write(state)
            if not wave:
                continue
            failed = threading.Event()
            with ThreadPoolExecutor(len(wave)) as pool:
                for waiting in as_completed(
                    [pool.submit(self._wait, p, state, deadline, failed) for p in wave]
                ):
                    if waiting.exception() is not None:
                        failed.set()
                    waiting.result()
        self._check_interrupted()

    def _check_interrupted(self) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt

    def _wait(
        self, part: Part, state: StackState, deadline: float, failed: threading.Event
    ) -> None:
        """Wait until a part is ready, or another has failed."""
        process = state.running[part.name]
        started = time.monotonic()
        while not (part.ready and _answers(part.ready)):
            self._check_interrupted()
            if failed.is_set():
                return
            if not is_alive(process):
                raise SpanledgerError(f"{part.name} exited while starting: {self._tail(part.name)}")
            if not part.ready:
                break
            if time.monotonic() > deadline:
                raise SpanledgerError(
                    f"{part.name} is not ready after {time.monotonic() - started:.0f} s:"
                    f" {self._tail(part.name)}"
                )
            time.sleep(_POLL_S)
        self._say(f"{part.name} ready in {time.monotonic() - started:.1f} s")

    def _stop(self, names: list[str], state: StackState, parts: Mapping[str, Part]) -> None:
        """Stop parts, senders before receivers."""
        stages = (("worker",), ("gateway",), ("collector",))
        later = tuple(n for n in names if all(n not in stage for stage in stages))
        for stage in (*stages, later):
            ending = [name for name in stage if name in names and name in state.running]
            if not ending:
                continue
            with ThreadPoolExecutor(len(ending)) as pool:
                for name, heeded in zip(
                    ending, pool.map(lambda n: self._end(n, state, parts), ending), strict=True
                ):
                    if not heeded and not (name in parts and parts[name].lingers):
                        self._say(f"{name} did not stop on SIGTERM and was killed")
            for name in ending:
                del state.running[name]
            self._site.write(state)

    def _end(self, name: str, state: StackState, parts: Mapping[str, Part]) -> bool:
        grace_s = parts[name].grace_s if name in parts else Part(name, (), {}).grace_s
        return stop(state.running[name], grace_s)

    def _status(self, state: StackState, parts: Mapping[str, Part]) -> StackStatus:
        memory = memory_bytes(list(state.running.values()))
        names = dict.fromkeys((*parts, *state.running))
        found = [self._part_status(name, state.running.get(name), parts, memory) for name in names]
        missing = [
            PartStatus(name, "missing", reason=reason)
            for name, reason in self._programs.missing.items()
            if name not in state.running
        ]
        shown = {name: url for part in parts.values() for name, url in part.shown.items()}
        shown = dict(sorted(shown.items(), key=lambda item: _SHOWN_FIRST.get(item[0], 9)))
        return StackStatus(self._site.data, (*found, *missing), state.settings, shown)

    def _part_status(
        self,
        name: str,
        process: Running | None,
        parts: Mapping[str, Part],
        memory: Mapping[int, int],
    ) -> PartStatus:
        log = str(self._site.logs / f"{name}.log")
        if process is None or process.pid not in memory:
            return PartStatus(name, "ended", log=log)
        ready = parts[name].ready if name in parts else ""
        is_ready = not ready or _answers(ready)
        return PartStatus(
            name, "ready" if is_ready else "starting", process.pid, memory[process.pid], log
        )

    def _tail(self, name: str) -> str:
        """The end of a part's log, in one line."""
        try:
            data = (self._site.logs / f"{name}.log").read_bytes()[-_LOG_TAIL_BYTES:]
        except OSError:
            return "no log"
        lines = data.decode("utf-8", "replace").strip().splitlines()[-_LOG_TAIL_LINES:]
        return " ".join(line.strip() for line in lines) or "no message"

    def _keys(self) -> dict[str, str]:
        """The keys of the worker's customers; keys that the ledger does not know are recreated."""
        path = self._site.keys_file
        known: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        keys: dict[str, str] = {}
        with open_store(self._site.ledger_url).records("create") as records:
            for customer in KEYED_CUSTOMERS:
                key = known.get(customer, "")
                found = records.find_key(key_digest(key))
                if found is None or found.key.revoked_ns is not None:
                    key, _ = records.create_key(customer, "", [], time.time_ns())
                keys[customer] = key
        if keys != known:
            write_private(path, json.dumps(keys, indent=2))
        return {customer: keys[customer] for customer in KEYED_CUSTOMERS[:-1]}


def _answers(url: str) -> bool:
    # Without the environment's proxies: everything is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_S) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
