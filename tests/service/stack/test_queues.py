"""Corrupt queue files are set aside, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.stack.queues import BROKEN, fault_of, main, set_aside_broken


def test_nothing_to_look_at(tmp_path: Path) -> None:
    """No folder, no files, an empty file, a folder within: nothing is set aside."""
    assert set_aside_broken(tmp_path / "none") == []
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "new").touch()
    (tmp_path / "queue" / "folder").mkdir()
    assert set_aside_broken(tmp_path / "queue") == []


@pytest.mark.parametrize("content", [b"x", b"\0" * 4096, b"\xed\xda\x0c\xed" * 10_000])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    """A file without a valid header is renamed once, with its content."""
    file = tmp_path / "exporter_otlp"
    file.write_bytes(content)
    assert fault_of(file) == "no valid header"
    (moved,) = set_aside_broken(tmp_path)
    assert not file.exists()
    assert moved.name.startswith(f"exporter_otlp{BROKEN}")
    assert moved.read_bytes() == content
    assert set_aside_broken(tmp_path) == []


def test_as_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program reports what it set aside and still exits with 0."""
    (tmp_path / "q").write_bytes(b"x")
    assert main([str(tmp_path)]) == 0
    assert f"corrupt; moved it to {tmp_path / 'q'}{BROKEN}" in capsys.readouterr().err
