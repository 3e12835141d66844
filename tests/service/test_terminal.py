"""Commands on unusual or broken terminals and pipes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.markup import escape

from spanledger.commands.common import new_table

COMMAND = [sys.executable, "-m", "spanledger"]


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger with a budget whose name is not ASCII."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    subprocess.run(
        [*COMMAND, "budget", "set", "größe", "--limit", "5", "--ledger", url],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return url


def test_no_figure_is_cut_on_a_narrow_terminal() -> None:
    """Names wrap, amounts and ids are complete, and brackets in a name are not markup."""
    screen = io.StringIO()
    table = new_table({"budget": "fold", "spent": "figure", "trace": "keep"})
    table.add_row(escape("[red]" + "x" * 60), "$0.000000001", "073d3d50e254")

    Console(file=screen, width=40).print(table)

    text = screen.getvalue()
    assert "$0.000000001  073d3d50e254" in text
    assert "…" not in text
    assert text.count("x") == 60
    assert "[red]" in text
    assert max(map(len, text.splitlines())) <= 40


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_full_disk_is_one_line(ledger: str, as_json: list[str]) -> None:
    """Output that cannot be written fails the command, without a traceback."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*COMMAND, "budget", "list", "--ledger", ledger, *as_json],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert result.returncode == 1
    assert result.stderr == "error: cannot write the output: No space left on device\n"


def test_a_closed_output_is_silence(ledger: str) -> None:
    """A daemon can lack stdout and stderr."""
    result = subprocess.run(
        [*COMMAND, "budget", "list", "--json", "--ledger", ledger],
        preexec_fn=lambda: os.close(1),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_without_unicode_gets_stand_ins(ledger: str) -> None:
    """Figures are worth more than the letters around them."""
    result = subprocess.run(
        [*COMMAND, "budget", "list", "--ledger", ledger],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "gr??e" in result.stdout
