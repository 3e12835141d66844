"""Where the log and the check say that telemetry goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spanledger.commands.config import examine
from spanledger.telemetry.endpoints import shown_endpoint
from tests.support.processes import clean_environment

OURS = "http://localhost:4318"
GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"
FILE = """
model_list:
  - model_name: a
    litellm_params: {model: openai/gpt-4o-mini, api_key: k}
"""


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, OURS),
        ({GENERAL: ""}, OURS),
        ({GENERAL: "https://me:secret@otlp.example/t"}, "https://otlp.example/t"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/v1/traces"},
            f"traces to http://t:1/v1/traces, metrics to {OURS}",
        ),
        ({"OTEL_TRACES_EXPORTER": "none"}, f"metrics to {OURS}"),
        ({"OTEL_SDK_DISABLED": "true"}, "off"),
    ],
)
def test_the_summary_shows_where_telemetry_goes(environ: dict[str, str], shown: str) -> None:
    """The standard variables override the file, signal by signal."""
    assert shown_endpoint(OURS, environ) == shown


def test_a_variable_without_a_scheme_is_refused(tmp_path: Path) -> None:
    """By the check and at the start, under the variable's name."""
    file = tmp_path / "f.yaml"
    file.write_text(FILE)
    problem = (
        f"{GENERAL}: 'localhost:4318' is not an http(s) URL; write it like http://localhost:4318"
    )

    assert examine(file, {GENERAL: "localhost:4318"})["problems"] == [problem]
    ended = subprocess.run(
        [sys.executable, "-m", "spanledger", "gateway", "-c", str(file), "--port", "0"],
        cwd=tmp_path,
        env={**clean_environment(), GENERAL: "localhost:4318"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, f"error: {problem}\n")
