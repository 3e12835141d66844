"""Grafana's own alerting, for stacks without an Alertmanager: the same rules, contact points and policies.

Addresses come from the environment: provisioning files expand `${NAME}`, except in annotations, where
Grafana leaves dollar signs to the template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from prometheus.src.model import Alert, Group, annotations_of, duration, labels_of
from prometheus.src.notices import (
    LADDER,
    MESSAGE,
    ONCE_S,
    TEMPLATE,
    TITLE,
    pace,
)

ITSELF = '{{ reReplaceAll "/$" "" externalURL }}'
"""Grafana's own address, its `root_url`, which ends in a slash."""
FOLDER = "spanledger"
LOOK_BACK_S = 600
RETIRED = (
    *(f"BudgetThresholdCrossed/{percent}" for percent in (50, 80, 95)),
    *(f"ProviderErrorBudgetBurn/{window}" for window in ("1h", "6h", "1d", "3d")),
)
"""Rules that were removed: Grafana keeps them until a file lists them for deletion."""
EVALUATION_S = 10
"""Grafana accepts only multiples of this interval."""


def documents(groups: Sequence[Group], speed: float = 1) -> dict[str, dict[str, Any]]:
    """Each file of provisioning/alerting, by name; waits are `speed` times shorter."""
    return {
        "rules": _rules(groups),
        "contact-points": _contact_points(),
        "policies": _policies(speed),
        "templates": {
            "apiVersion": 1,
            "templates": [{"orgId": 1, "name": "spanledger", "template": TEMPLATE}],
        },
        "mute-times": {
            "apiVersion": 1,
            "muteTimes": [
                {
                    "orgId": 1,
                    "name": "always",
                    "time_intervals": [{"times": [{"start_time": "00:00", "end_time": "24:00"}]}],
                }
            ],
        },
    }


def uid(alert: Alert) -> str:
    """Derived from the rule's name and variant, so that an upgrade changes a rule instead of adding one."""
    return _uid(f"{alert.name}/{alert.variant}")


def _uid(key: str) -> str:
    return f"sl-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _rules(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "deleteRules": [{"orgId": 1, "uid": _uid(key)} for key in RETIRED],
        "groups": [
            {
                "orgId": 1,
                "name": group.name,
                "folder": FOLDER,
                "interval": duration(-(-group.interval_s // EVALUATION_S) * EVALUATION_S),
                "rules": [_rule(rule) for rule in group.rules if isinstance(rule, Alert)],
            }
            for group in groups
        ],
    }


def _rule(alert: Alert) -> dict[str, Any]:
    """A: the expression. B: 1 for each of its series, whatever the value, because zero would not fire."""
    title = f"{alert.name} {alert.variant}".strip()
    texts = {name: _text(text) for name, text in annotations_of(alert, ITSELF).items()}
    made: dict[str, Any] = {
        "uid": uid(alert),
        "title": title,
        "condition": "B",
        "data": [
            _query("A", "prometheus", {"expr": alert.expr, "instant": True, "range": False}),
            _query("B", "__expr__", {"type": "math", "expression": "is_number($A)"}),
        ],
        # An empty result means that all is well; see `Alert.no_data_reason`.
        "noDataState": alert.no_data,
        # An unreachable Prometheus is reported as such, not as a customer's incident.
        "execErrState": "Error",
        "for": duration(alert.for_s),
    }
    if alert.keep_firing_s:
        made["keepFiringFor"] = duration(alert.keep_firing_s)
    return made | {"labels": labels_of(alert), "annotations": texts}


def _text(template: str) -> str:
    """A template for Grafana. Grafana also fills it in when the rule has no result, without labels and
    values, and would log an error each time."""
    if "{{" not in template:
        return template
    return f"{{{{ if $values.A }}}}{template.replace('$value', '$values.A.Value')}{{{{ end }}}}"


def _query(ref: str, source: str, model: dict[str, Any]) -> dict[str, Any]:
    kind = "prometheus" if source == "prometheus" else "__expr__"
    return {
        "refId": ref,
        "datasourceUid": source,
        "relativeTimeRange": {"from": LOOK_BACK_S, "to": 0},
        "model": {"refId": ref, "datasource": {"type": kind, "uid": source}, **model},
    }


def _contact_points() -> dict[str, Any]:
    settings: dict[str, dict[str, object]] = {
        "webhook": {
            "url": "${SPANLEDGER_ALERT_WEBHOOK_URL}",
            "httpMethod": "POST",
            "title": TITLE,
            "message": MESSAGE,
        },
        "slack": {"url": "${SPANLEDGER_ALERT_SLACK_URL}", "title": TITLE, "text": MESSAGE},
        "email": {
            "addresses": "${SPANLEDGER_ALERT_EMAIL_TO}",
            "singleEmail": True,
            "subject": TITLE,
            "message": MESSAGE,
        },
    }
    return {
        "apiVersion": 1,
        "contactPoints": [
            {
                "orgId": 1,
                "name": f"spanledger {kind}",
                "receivers": [{"uid": f"spanledger-{kind}", "type": kind, "settings": setting}],
            }
            for kind, setting in settings.items()
        ],
    }


def _policies(speed: float) -> dict[str, Any]:
    """Each contact point gets the severities chosen for it; all other alerts stay in Grafana."""
    once = {"object_matchers": [list(LADDER)], "repeat_interval": duration(ONCE_S / speed)}
    wanted = [
        {
            "receiver": f"spanledger {kind}",
            "object_matchers": [["severity", "=~", f"${{SPANLEDGER_ALERT_{kind.upper()}_FOR}}"]],
            "continue": True,
            "routes": [{"receiver": f"spanledger {kind}", **once}],
        }
        for kind in ("webhook", "slack", "email")
    ]
    return {
        "apiVersion": 1,
        "policies": [
            {
                "orgId": 1,
                "receiver": "spanledger webhook",
                **pace(speed),
                "routes": [
                    *wanted,
                    {
                        "receiver": "spanledger webhook",
                        "object_matchers": [["severity", "=~", "page|ticket"]],
                        "mute_time_intervals": ["always"],
                    },
                ],
            }
        ],
    }
