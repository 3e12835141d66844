"""Runs the engine in its own namespaces: starts, restarts and stops it, and leaves nothing behind.

Network, mounts and processes each have a namespace that lives as long as one process, the keeper.
The keeper ends when the tool that started it ends, in whatever way; the kernel then removes
everything in the namespaces: engine, containers, network and mounts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.engine.needs import NAMESPACES, search_path

START_S = 60.0
STOP_S = 60.0
MTU = 65520
KEEPER = "SPANLEDGER_ENGINE"
"""The variable with the pid of the process that keeps the engine's namespaces."""
PID_FILE = "dockerd.pid"


class EngineError(Exception):
    """The engine failed; the message has the details."""


class Engine:
    """One engine.

    Args:
        programs: the folder with the engine's unpacked packages.
        data: the folder for images and volumes; nothing else may use it meanwhile.
        keeper: the host's pid of the process that keeps the namespaces.
        runtime: a folder for sockets and logs, deleted afterwards.
    """

    def __init__(self, programs: Path, data: Path, keeper: int, runtime: Path) -> None:
        self._programs = programs
        self._data = data
        self._keeper = keeper
        self._runtime = runtime
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.log = runtime / "dockerd.log"
        plugins = runtime / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        for plugin in (programs / "usr/libexec/docker/cli-plugins").iterdir():
            (plugins / plugin.name).symlink_to(plugin)

    @property
    def environ(self) -> dict[str, str]:
        """The environment for clients: `docker` on PATH, its plugins, the engine's address."""
        folders = (self._programs / "usr" / "bin", self._programs / "usr" / "sbin")
        return {
            **os.environ,
            "PATH": ":".join((*map(str, folders), search_path())),
            "DOCKER_CONFIG": str(self._runtime / "config"),
            "DOCKER_HOST": f"unix://{self._runtime / 'docker.sock'}",
            KEEPER: str(self._keeper),
        }

    def inside(self, command: Sequence[str]) -> list[str]:
        """A command line that runs the command in the engine's network namespace."""
        return ["nsenter", f"--net=/proc/{self._keeper}/ns/net", *command]

    def docker(self, *words: str) -> str:
        """The output of a `docker` command. Raises EngineError."""
        done = subprocess.run(
            self.inside(["docker", *words]),
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EngineError(f"`docker {' '.join(words[:2])}` failed: {done.stderr.strip()}")
        return done.stdout

    def start(self) -> None:
        """Start the engine and wait until it answers. Raises EngineError."""
        self._launch()
        deadline = time.monotonic() + START_S
        while self._process and self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.docker("version")
            except EngineError:
                time.sleep(0.1)
            else:
                self._watcher.start()
                return
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
        raise EngineError(f"the engine did not start:\n{tail}")

    def _watch(self) -> None:
        """Restart the engine when it ends, as a service manager does."""
        while not self._stopping.wait(0.2):
            if self._process is not None and self._process.poll() is not None:
                self._launch()

    def _launch(self) -> None:
        enter = ["nsenter", f"--target={self._keeper}", "--net", "--mount", "--pid"]
        command = [
            "dockerd",
            f"--data-root={self._data}",
            f"--exec-root={self._runtime / 'exec'}",
            f"--pidfile={self._runtime / PID_FILE}",
            f"--host=unix://{self._runtime / 'docker.sock'}",
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*enter, *command], env=self.environ, stdout=log, stderr=log
            )

    def stop(self) -> None:
        """Stop the engine and every container."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        pid = (self._runtime / PID_FILE).read_text(encoding="utf-8")
        # The pid is the one in its own namespace.
        enter = ["nsenter", f"--target={self._keeper}", "--mount", "--pid"]
        subprocess.run([*enter, "kill", "-TERM", pid], check=False)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            subprocess.run([*enter, "kill", "-KILL", pid], check=False)
            process.wait()

    def sweep(self) -> None:
        """Remove the containers, volumes and networks of an earlier run."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        if volumes := self.docker("volume", "ls", "--quiet").split():
            self.docker("volume", "rm", "--force", *volumes)
        self.docker("network", "prune", "--force")


@contextmanager
def engine(programs: Path, data: Path) -> Iterator[Engine]:
    """A running engine that is removed at the end of the block. Raises EngineError."""
    data.mkdir(parents=True, exist_ok=True)
    # The path of a socket must be short.
    runtime = Path(tempfile.mkdtemp(prefix="spanledger-engine-", dir="/tmp"))
    try:
        with (
            _alone(data.with_suffix(".lock")),
            _keeper(programs) as keeper,
            _network(keeper, runtime / "network.log"),
        ):
            made = Engine(programs, data, keeper, runtime)
            try:
                made.start()
                made.sweep()
                yield made
            finally:
                made.stop()
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait for other runs that use the same data."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _keeper(programs: Path) -> Iterator[int]:
    """Start the process that keeps the namespaces; yields its pid."""
    init = str(programs / "usr" / "bin" / "tini-static")
    flags = [*NAMESPACES, "--kill-child", "--mount-proc", "--propagation=private"]
    process = subprocess.Popen(
        ["unshare", *flags, init, "-g", "--", "sh", "-c", "echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise EngineError("cannot create namespaces on this machine")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield int(children.read_text(encoding="utf-8").split()[0])
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextmanager
def _network(keeper: int, log: Path) -> Iterator[None]:
    """Outgoing network access for the namespace, without access to services of this machine."""
    read_ready, write_ready = os.pipe()
    read_exit, write_exit = os.pipe()
    flags = ["--configure", "--disable-host-loopback", f"--mtu={MTU}"]
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    "slirp4netns",
                    *flags,
                    f"--ready-fd={write_ready}",
                    f"--exit-fd={read_exit}",
                    str(keeper),
                    "tap0",
                ],
                env={**os.environ, "PATH": search_path()},
                stdout=output,
                stderr=output,
                pass_fds=(write_ready, read_exit),
            )
        os.close(write_ready)
        os.close(read_exit)
        try:
            if not os.read(read_ready, 1):
                said = log.read_text(errors="replace").strip()
                raise EngineError(f"slirp4netns did not start: {said}")
            yield
        finally:
            os.close(write_exit)
            process.wait()
    finally:
        os.close(read_ready)
