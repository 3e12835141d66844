"""Forms with files at the gateway's edge: limits, mistakes, and what is left of them afterwards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanledger.gateway.bodies import room_for_uploads
from spanledger.gateway.connection import UPLOAD_PACE_BYTES

from .audio_files import wav
from .harness import (
    Edge,
    ScriptedLedger,
    chat,
    config_with,
    read_response,
    request,
    running_edge,
    wait_for,
)

MAX_UPLOAD = 6 * 2**20
TERABYTE = 2**40
PATH = "/v1/audio/transcriptions"
KIND = "multipart/form-data; boundary=frontier"


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with keys, and room for two large uploads of one of them."""
    ledger = ScriptedLedger()
    ledger.add("slk_a", "a")
    ledger.add("slk_b", "b")
    config = config_with(
        max_upload_bytes=MAX_UPLOAD, max_upload_bytes_in_flight=2 * MAX_UPLOAD, body_timeout_s=0.5
    )
    with running_edge(config, ledger) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(edge: Edge) -> Iterator[None]:
    """Whatever happened, all places and bytes are returned, and no file is open."""
    yield
    wait_for(lambda: edge.server.edge.in_flight == 0)
    crowd = edge.server.edge.crowd
    wait_for(lambda: (crowd.body_bytes, crowd.upload_bytes, crowd.keys) == (0, 0, 0))
    wait_for(lambda: not deleted_files() - _OTHERS)


def deleted_files() -> set[str]:
    """Open files of this process that have no name any more."""
    found = set()
    for opened in Path("/proc/self/fd").iterdir():
        try:
            link = str(opened.readlink())
        except OSError:
            continue
        if link.startswith("/") and link.endswith("(deleted)") and "/shm" not in link:
            found.add(link)
    return found


_OTHERS = deleted_files()
"""Those of pytest itself."""


def form(*parts: tuple[str, bytes], model: str = "echo") -> bytes:
    """A form of a model and these parts; names with a dot are files."""
    made = b""
    for name, value in (("model", model.encode()), *parts):
        plain, dot, _ = name.partition(".")
        named = f'; filename="{name}"' if dot else ""
        head = f'--frontier\r\nContent-Disposition: form-data; name="{plain}"{named}\r\n\r\n'
        made += head.encode() + value + b"\r\n"
    return made + b"--frontier--\r\n"


def send(edge: Edge, body: bytes, path: str = PATH, **headers: str) -> Any:
    """POST a form."""
    usual = {"content_type": KIND, "authorization": "Bearer slk_a", "connection": "keep-alive"}
    return edge.post(body, path, **{**usual, **headers})


@pytest.mark.parametrize("seconds", [1, 100], ids=["in memory", "on disk"])
def test_a_form_reaches_the_router(edge: Edge, seconds: int) -> None:
    """With its fields, and the length of its audio."""
    answer = send(edge, form(("file.wav", wav(seconds, fill=b"\x01")), ("language", b"en")))

    assert answer.status == 200
    echo = answer.json()["echo"]
    assert (echo["model"], echo["language"]) == ("echo", "en")
    assert echo["file"]["likely_s"] == seconds


def test_an_upload_has_a_limit_of_its_own(edge: Edge) -> None:
    """Above it the answer is 413, whether the length was announced or not."""
    data = form(("file.wav", bytes(MAX_UPLOAD)))
    answer = send(edge, data)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "gateway.max_upload_bytes" in answer.error["message"]


def test_the_disk_is_shared(edge: Edge) -> None:
    """One key's uploads in flight have a limit; another key still has room."""
    held = form(("file.wav", bytes(MAX_UPLOAD - 2_000)), model="slow")
    with edge.connect() as sock:
        sock.sendall(request(held, PATH, content_type=KIND, authorization="Bearer slk_a"))
        wait_for(lambda: edge.router.running == 1)
        answer = send(edge, form(("file.wav", bytes(MAX_UPLOAD - 2_000))))
        assert (answer.status, answer.error["code"]) == (429, "gateway_overloaded")
        assert "uploads" in answer.error["message"]
        other = send(edge, form(("file.wav", wav(1))), authorization="Bearer slk_b")
        assert other.status == 200
        edge.router.release()
        assert read_response(sock).status == 200
    edge.router.released = False


def test_a_client_that_leaves_leaves_nothing(edge: Edge) -> None:
    """Neither a place nor a file."""
    data = request(
        form(("file.wav", bytes(3 * 2**20))), PATH, content_type=KIND, authorization="Bearer slk_a"
    )
    with edge.connect() as sock:
        sock.sendall(data[: 2 * 2**20])
        wait_for(lambda: edge.server.edge.crowd.upload_bytes > 0)
        wait_for(lambda: bool(deleted_files() - _OTHERS))


def test_a_slow_upload_that_goes_on_is_awaited(edge: Edge) -> None:
    """As long as enough of it arrives; one that stops is refused."""
    data = request(
        form(("file.wav", wav(200, fill=b"\x02"))),
        PATH,
        content_type=KIND,
        authorization="Bearer slk_a",
    )
    with edge.connect() as sock:
        for at in range(0, len(data), UPLOAD_PACE_BYTES):
            sock.sendall(data[at : at + UPLOAD_PACE_BYTES])
            wait_for(_soon(0.2))
        assert read_response(sock).status == 200
    with edge.connect() as sock:
        sock.sendall(data[:100_000])
        assert read_response(sock).status == 408


def _soon(seconds: float) -> Any:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b'{"model": "echo"}', "application/json", 415, "multipart/form-data"),
        (form(("file.wav", wav(1))), "multipart/form-data", 400, "no usable boundary"),
        (form(("file.wav", wav(1)), ("model", b"x")), KIND, 400, "a single field"),
        (form(("language", b"en")), KIND, 400, "'file' is missing"),
        (form(("file", b"text")), KIND, 400, "'file' is missing"),
        (form(("file.wav", b"")), KIND, 400, "one audio file"),
        (form(("file.wav", wav(1)), ("file.mp3", wav(1))), KIND, 400, "one audio file"),
        (form(("file.wav", wav(1)))[:-20], KIND, 400, "ends before its last boundary"),
        (form(("file.wav", wav(1)), model="nobody"), KIND, 404, "does not exist"),
    ],
)  # fmt: skip
def test_mistakes_are_told(edge: Edge, body: bytes, kind: str, status: int, message: str) -> None:
    """What to change, in OpenAI's shape of an error."""
    answer = send(edge, body, content_type=kind)
    assert answer.status == status
    assert (answer.error["code"] == "unsupported_media_type") == (status == 415)
    assert message in answer.error["message"]


def test_a_form_is_not_json(edge: Edge) -> None:
    """An endpoint that wants JSON says so, and does not read the form first."""
    answer = send(edge, form(("file.wav", wav(1))), "/v1/chat/completions")
    assert answer.status == 415
    assert edge.post(chat(), authorization="Bearer slk_a").status == 200


def test_a_full_disk_is_the_gateways_fault(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may retry, or another gateway may have room."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = send(edge, form(("file.wav", wav(100))))
    assert (answer.status, answer.error["code"]) == (429, "gateway_overloaded")
    assert "No space left" in answer.error["message"]


def test_nothing_is_written_where_files_are_seen(edge: Edge, tmp_path: Path) -> None:
    """A file on disk has no name, so nothing is left of it even if the process is killed."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        held = form(("file.wav", wav(100, fill=b"\x03")), model="slow")
        with edge.connect() as sock:
            sock.sendall(request(held, PATH, content_type=KIND, authorization="Bearer slk_a"))
            wait_for(lambda: edge.router.running == 1)
            assert deleted_files() - _OTHERS
            assert list(tmp_path.iterdir()) == []
            edge.router.release()
            assert read_response(sock).status == 200
    finally:
        monkeypatch.undo()
        edge.router.released = False


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that has less room than uploads may take is named at start, with what to change; one
    with enough is not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert room_for_uploads(1) == ""
    warning = room_for_uploads(1_000_000 * TERABYTE)
    assert str(tmp_path) in warning
    assert "TMPDIR" in warning
    assert "max_upload_bytes_in_flight" in warning
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    assert "TMPDIR" in room_for_uploads(1)
