"""Codex without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from said import HELLO, URL, run

BINARY = Path(os.environ["TRY_ENVIRONMENT"], "node_modules/.bin/codex")
CALL = {"cmd": "echo from a tool > made.txt"}

# setup: ~/.codex/config.toml
CONFIG = f"""
{os.environ["TRY_SETTINGS"]}
model_provider = "spanledger"

[model_providers.spanledger]
name = "spanledger"
base_url = "{URL}/v1"
env_key = "SPANLEDGER_API_KEY"
wire_api = "responses"
"""
# end
QUIET = """
[analytics]
enabled = false

[feedback]
enabled = false
"""

home = Path(os.environ["CODEX_HOME"])
home.mkdir(exist_ok=True)
(home / "config.toml").write_text("check_for_update_on_startup = false" + CONFIG + QUIET)


def codex(model: str, prompt: str) -> list[dict[str, Any]]:
    words = ("--json", "--skip-git-repo-check", "--sandbox", "danger-full-access")
    command = [str(BINARY), "exec", "--model", model, *words, prompt]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["item"] for line in lines if line["type"] == "item.completed"]


def text_of(items: list[dict[str, Any]]) -> str:
    return [item["text"] for item in items if item["type"] == "agent_message"][-1]


def whole(model: str) -> dict[str, Any]:
    return {"text": text_of(codex(model, HELLO))}


def tool(model: str) -> dict[str, Any]:
    made = Path("made.txt")
    made.unlink(missing_ok=True)
    items = codex(model, f"Call exec_command {json.dumps(CALL)}")
    assert made.read_text() == "from a tool\n", items
    return {"text": text_of(items), "calls": [["exec_command", CALL]]}


run(whole=whole, tool=tool)
