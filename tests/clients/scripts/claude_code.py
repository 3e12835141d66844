"""Claude Code without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from said import HELLO, run

PACKAGE = Path(os.environ["TRY_ENVIRONMENT"], "node_modules/@anthropic-ai/claude-code")
CALL = {"command": "echo from a tool > made.txt", "description": "Greeting"}


def claude(model: str, prompt: str, *words: str) -> str:
    # The wrapper finds the binary that another package has; the usual script copies it.
    command = ["node", str(PACKAGE / "cli-wrapper.cjs"), "-p", prompt, "--model", model, *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def whole(model: str) -> dict[str, Any]:
    return {"text": json.loads(claude(model, HELLO, "--output-format", "json"))["result"]}


def streamed(model: str) -> dict[str, Any]:
    words = ("--output-format", "stream-json", "--verbose", "--include-partial-messages")
    lines = map(json.loads, claude(model, HELLO, *words).splitlines())
    events = [line["event"] for line in lines if line["type"] == "stream_event"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return {"pieces": [delta["text"] for delta in deltas if delta["type"] == "text_delta"]}


def tool(model: str) -> dict[str, Any]:
    made = Path("made.txt")
    made.unlink(missing_ok=True)
    prompt = f"Call Bash {json.dumps(CALL)}"
    words = ("--allowed-tools", "Bash", "--output-format", "json")
    answer = json.loads(claude(model, prompt, *words))
    assert made.read_text() == "from a tool\n", answer
    return {"text": answer["result"], "calls": [["Bash", CALL]]}


run(whole=whole, streamed=streamed, tool=tool)
