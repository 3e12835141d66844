"""Alertmanager's configuration, for those who have one: the policy and the words of Grafana's files.

An example to be edited: where messages go is not known here, and Alertmanager reads no variables.
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
"""The file of templates, beside the configuration."""
URL = "http://127.0.0.1:9/"
"""Where nobody listens, until an incoming webhook of Slack's form is put there."""


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
