"""An example configuration for Alertmanager, with the same policy and texts as Grafana's files.

It has to be edited: we do not know where messages go, and Alertmanager reads no environment variables.
"""

from __future__ import annotations

from typing import Any

from prometheus.src.model import duration
from prometheus.src.notices import (
    LADDER,
    MESSAGE,
    ONCE_S,
    TITLE,
    pace,
)

TEMPLATES = "alertmanager.tmpl"
"""The template file, next to the configuration."""
URL = "http://127.0.0.1:9/"
"""A placeholder where nothing listens, for a Slack-style incoming webhook."""


def document(speed: float = 1) -> dict[str, Any]:
    """The configuration."""
    label, operator, value = LADDER
    return {
        "templates": [TEMPLATES],
        "route": {
            "receiver": "spanledger",
            **pace(speed),
            "routes": [
                {
                    "receiver": "spanledger",
                    "matchers": [f'{label}{operator}"{value}"'],
                    "repeat_interval": duration(ONCE_S / speed),
                }
            ],
        },
        "receivers": [
            {
                "name": "spanledger",
                "slack_configs": [
                    {"api_url": URL, "send_resolved": True, "title": TITLE, "text": MESSAGE}
                ],
            }
        ],
    }
