"""The services of the compose files are contained: no root, no capabilities, limits on everything."""

from __future__ import annotations

import re
from typing import Any

from tests.stack.composition import LAYERS, stack
from tests.stack.test_compose import POSTGRES, SCALE

ONCE = "ends after its work"
EXEMPT = {
    ("init-volumes", "non_root"): "changes owners, with two capabilities and no network",
    ("init-volumes", "health"): ONCE,
    ("check-files", "health"): ONCE,
    ("init-keys", "health"): ONCE,
    ("init-queue", "health"): ONCE,
    ("init-secrets", "health"): ONCE,
    ("collector-ready", "health"): ONCE,
    (
        "collector",
        "health",
    ): "no program in its image could ask; collector-ready does, from outside",
    ("worker", "health"): "listens nowhere; it ends when it cannot go on",
    ("init-volumes", "restart"): ONCE,
    ("check-files", "restart"): ONCE,
    ("init-keys", "restart"): ONCE,
    ("init-queue", "restart"): ONCE,
    ("init-secrets", "restart"): ONCE,
    ("collector-ready", "restart"): ONCE,
}
"""Rules that a service breaks, with the reason."""
EXEMPT_ON_POSTGRES = {
    ("init-database", "health"): ONCE,
    ("init-database", "restart"): ONCE,
    ("init-ledger", "health"): ONCE,
    ("init-ledger", "restart"): ONCE,
    ("shipper", "health"): "listens nowhere; it ends when it cannot go on",
    ("proxy", "capabilities"): "its program does not start without this one, which it cannot gain",
}
"""The same of the services that compose/postgres.yml adds."""
EXEMPT_ON_SCALE = {
    ("init-scale-volumes", "non_root"): EXEMPT["init-volumes", "non_root"],
    **{
        (f"init-{name}", rule): ONCE
        for name in ("scale-volumes", "sampler-queues", "objects", "bucket")
        for rule in ("health", "restart")
    },
    **dict.fromkeys(
        (("sampler", "health"), ("sampler-2", "health")),
        "no program in its image could ask; spans for it wait before it",
    ),
}
"""The same of compose/scale.yml."""


def broken_rules(service: dict[str, Any]) -> set[str]:
    """The containment rules that a service breaks."""
    user = str(service.get("user", "")).partition(":")[0]
    options = service.get("logging", {}).get("options", {})
    kept = {
        "non_root": user.isdigit() and int(user) > 0,
        "read_only": service.get("read_only") is True,
        "capabilities": service.get("cap_drop") == ["ALL"]
        and (user == "0" or not service.get("cap_add")),
        "privileges": service.get("security_opt") == ["no-new-privileges:true"]
        and not service.get("privileged")
        and not any(service.get(key) for key in ("pid", "ipc", "devices", "cgroup_parent")),
        "memory": re.fullmatch(r"\d+[mg]", str(service.get("mem_limit", ""))) is not None,
        "processes": service.get("pids_limit") is not None,
        "logs": {"max-size", "max-file"} <= options.keys(),
        "restart": service.get("restart") == "unless-stopped",
        "health": "healthcheck" in service,
        "network": service.get("network_mode") in (None, "none"),
    }
    return {rule for rule, is_kept in kept.items() if not is_kept}


def test_every_service_is_contained() -> None:
    """No service is root, writes to its image, has a capability or is without a limit."""
    broken = {
        (name, rule)
        for name, service in stack()["services"].items()
        for rule in broken_rules(service)
    }

    assert broken == set(EXEMPT)
    for layer in LAYERS:
        changed = stack(layer)["services"].items()
        found = {(name, rule) for name, s in changed for rule in broken_rules(s)}
        more = {POSTGRES: EXEMPT_ON_POSTGRES, SCALE: EXEMPT_ON_SCALE}.get(layer, {})
        assert found <= {*EXEMPT, *more}
        assert found >= set(more)


def test_the_rules_of_containment_see_a_bad_service() -> None:
    """The check above distinguishes an ordinary service from a contained one."""
    assert broken_rules({"image": "x", "user": "root", "network_mode": "host"}) == {
        *("non_root", "read_only", "capabilities", "privileges", "memory", "processes"),
        *("logs", "restart", "health", "network"),
    }
