"""A caller's body for a server that speaks the same wire."""

from __future__ import annotations

from spanledger.wires.base import Outgoing
from spanledger.wires.fields import is_set


def own_body(out: Outgoing, stream: bool, foreign: frozenset[str]) -> dict[str, object]:
    """The body as it came, except for model and stream. Foreign fields, which a deployment's
    settings may add, are left out and named as changed."""
    fields: dict[str, object] = {}
    for name, raw in out.fields.items():
        if name not in foreign:
            fields[name] = raw
        elif is_set(raw):
            out.changed.append(name)
    fields["model"] = out.deployment.model
    fields.pop("stream", None)
    if stream:
        fields["stream"] = True
    return fields
