"""Runs the engine in namespaces of its own: started, restarted, stopped, and nothing left behind.

Network, mounts and processes each have a namespace that lives as long as one process, the keeper.
It ends when the tool that started it ends, however that happens, and the kernel then ends
everything in there: engine, containers, network and mounts.
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
"""The variable that tells a command which process keeps the engine's namespaces."""
PID_FILE = "dockerd.pid"


class EngineError(Exception):
    """The engine does not do what it should; the message says what was seen."""


class Engine:
    """One engine.

    Args:
        programs: the folder that the engine's packages were unpacked to.
        data: where images and volumes are kept; nobody else may use it meanwhile.
        keeper: the host's id of the process that keeps the namespaces.
        runtime: a folder for sockets and logs, gone afterwards.
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
        """What a client needs: its program on PATH, its plugins, the engine's address."""
        folders = (self._programs / "usr" / "bin", self._programs / "usr" / "sbin")
        return {
            **os.environ,
            "PATH": ":".join((*map(str, folders), search_path())),
            "DOCKER_CONFIG": str(self._runtime / "config"),
            "DOCKER_HOST": f"unix://{self._runtime / 'docker.sock'}",
            KEEPER: str(self._keeper),
        }

    def inside(self, command: Sequence[str]) -> list[str]:
        """A command line that runs the command where the stack's ports are published."""
        return ["nsenter", f"--net=/proc/{self._keeper}/ns/net", *command]

    def docker(self, *words: str) -> str:
        """What a command of `docker` prints. Raises EngineError."""
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
        raise EngineError(f"the engine does not start:\n{tail}")

    def _watch(self) -> None:
        """Start the engine again when it ends, as the service manager of a machine does."""
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
        """Stop the engine, and with it every container."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        pid = (self._runtime / PID_FILE).read_text(encoding="utf-8")
        # The number is that of its own namespace.
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
    """A running engine that is gone when the block is left. Raises EngineError."""
    data.mkdir(parents=True, exist_ok=True)
    # Sockets have short names at most.
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
    """The process that keeps the namespaces; its id."""
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
            raise EngineError("no namespaces can be made here")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield int(children.read_text(encoding="utf-8").split()[0])
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextmanager
def _network(keeper: int, log: Path) -> Iterator[None]:
    """A way out of the namespace, which leads to no service of this machine."""
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
                raise EngineError(f"slirp4netns does not start: {said}")
            yield
        finally:
            os.close(write_exit)
            process.wait()
    finally:
        os.close(read_ready)
