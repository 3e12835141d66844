"""What every Python script shares: the routes to try, and how to report what came back."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from typing import Any

ROUTES: dict[str, str] = json.loads(os.environ["TRY_ROUTES"])
"""Name of a way through the gateway to the model that a caller asks for."""
URL, KEY = os.environ["TRY_URL"], os.environ["TRY_KEY"]
HELLO = "Say hello, please."
WEATHER = "What is the weather in Lima? Use get_weather."


def run(**tasks: Callable[[str], dict[str, Any]]) -> None:
    """Do every task on every route, and print a line about each."""
    for way, model in ROUTES.items():
        for name, task in tasks.items():
            begun = time.time_ns()
            try:
                said = task(model)
            except BaseException:  # noqa: BLE001 - whatever a client raises is its result
                said = {"error": traceback.format_exc()}
            line = {"task": name, "way": way, "begun_ns": begun, "ended_ns": time.time_ns(), **said}
            print(f"said: {json.dumps(line)}", flush=True)
