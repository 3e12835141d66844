"""The end-to-end tests of the stack pass on the one that Docker runs."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.engine.installation import ROOT, Installation
from tests.engine.test_overlays import HOST

SINK_PORT = 4399
TESTS = ("test_stack.py", "test_stack_survival.py", "test_dashboards.py")
"""The tests in `tests/e2e` that use a running stack; the others start what they need."""


def test_the_end_to_end_tests_pass() -> None:
    """Each signal, each query of a dashboard and each survival test, with TARGET=compose."""
    layers = {
        "COMPOSE_FILE": "docker-compose.yml:compose/vendor-otlp.yml",
        "OTLP_ENDPOINT": f"http://{HOST}:{SINK_PORT}",
        "OTLP_INCLUDE_CONTENT": "true",
    }
    stack = Installation(ROOT, layers)
    try:
        stack.run("make", "up").well()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *(f"tests/e2e/{name}" for name in TESTS)],
            cwd=ROOT,
            env={
                **os.environ,
                **layers,
                "SPANLEDGER_E2E": "compose",
                "SPANLEDGER_E2E_OUTAGE_S": "10",
                "SPANLEDGER_E2E_SINK_PORT": str(SINK_PORT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        stack.close()
    assert done.returncode == 0, "\n".join(done.stdout.splitlines()[-60:])
    assert " passed" in done.stdout
