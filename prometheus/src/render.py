"""The generated files: rules as Prometheus reads them, and Grafana's alerting from the same rules."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from prometheus.src import alertmanager, alerts, grafana, long, recording, scaled
from prometheus.src.model import Alert, Group, Recording, annotations_of, duration, labels_of
from prometheus.src.notices import TEMPLATE
from prometheus.src.thresholds import DEFAULT, Thresholds

WRITTEN = (
    "Written by tools/generate_rules.py from prometheus/src; a change is made there,"
    " then `make generate`."
)
FOR_A_TRY = (
    "Written by `tools/generate_rules.py --speed {speed:g}`: every duration is that many times shorter,"
    " for an attempt."
)


class _Dumper(yaml.SafeDumper):
    """YAML as a person writes it: no anchors, long strings whole, blocks for several lines."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Never an anchor."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(data: object, written: str = WRITTEN) -> str:
    """A document of YAML with its first line."""
    return f"# {written}\n" + yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True, indent=2
    )


def rule(item: Recording | Alert) -> dict[str, object]:
    """One rule as Prometheus reads it."""
    if isinstance(item, Recording):
        made: dict[str, object] = {"record": item.record, "expr": item.expr}
        return made | ({"labels": dict(item.labels)} if item.labels else {})
    made = {"alert": item.name, "expr": item.expr}
    if item.for_s:
        made["for"] = duration(item.for_s)
    if item.keep_firing_s:
        made["keep_firing_for"] = duration(item.keep_firing_s)
    return made | {"labels": labels_of(item), "annotations": annotations_of(item)}


def rule_file(groups: Sequence[Group], written: str = WRITTEN) -> str:
    """A rule file of Prometheus."""
    made = [
        {
            "name": group.name,
            "interval": duration(group.interval_s),
            "rules": [rule(item) for item in group.rules],
        }
        for group in groups
    ]
    return dump({"groups": made}, written)


def files(t: Thresholds = DEFAULT, speed: float = 1) -> dict[str, str]:
    """Every generated file: its path in the project to its text.

    Args:
        speed: how many times shorter every duration is.
    """
    written = WRITTEN if speed == 1 else FOR_A_TRY.format(speed=speed)
    recorded = scaled.rules(recording.groups(t), speed)
    told = scaled.rules(alerts.groups(t), speed)
    made = {
        "prometheus/rules/recording.yml": rule_file(recorded, written),
        "prometheus/rules/long.yml": rule_file(scaled.rules(long.groups(), speed), written),
        "prometheus/rules/alerts.yml": rule_file(told, written),
        "prometheus/alertmanager.example.yml": dump(alertmanager.document(speed), written),
        f"prometheus/{alertmanager.TEMPLATES}": f"{{{{/* {written} */}}}}\n{TEMPLATE}",
    }
    for name, document in grafana.documents(told, speed).items():
        made[f"grafana/provisioning/alerting/{name}.yaml"] = dump(document, written)
    return made


def configuration(text: str, speed: float) -> str:
    """Prometheus' own configuration for rules that are so many times faster."""
    return dump(scaled.configuration(text, speed), FOR_A_TRY.format(speed=speed))
