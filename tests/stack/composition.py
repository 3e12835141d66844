"""Reads compose files as Docker Compose does, as far as this project's files need it.

Owns variables and the merging of layers; what it makes of them is compared with `docker compose
config` where that is installed. It knows no `extends`, `include` or custom tags, and refuses them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "docker-compose.yml"
LAYERS = sorted((ROOT / "compose").glob("*.yml"))
EXAMPLE = ROOT / ".env.example"

REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<rule>:?[-?+])(?P<rest>(?:[^{}]|\$\{[^{}]*\})*))?\}|(?P<wrong>.))"
)
FILES = ("SPANLEDGER_CA",)
A_FILE = "./LICENSE"
"""Sample values for the variables above, which name files."""
OVERRIDDEN = ("command", "entrypoint", "test")
"""Lists that a later file replaces; all others are extended."""


APART = ("postgres", "real-providers")
"""Layers that do not go together."""
STACKS = [
    (),
    *((layer,) for layer in LAYERS),
    *(tuple(layer for layer in LAYERS if layer.stem != one) for one in APART),
    *itertools.combinations([layer for layer in LAYERS if "vendor-" in layer.name], 2),
]
"""The base, each layer, all that go together, and any two vendors."""


class CompositionError(Exception):
    """A file that Docker Compose would refuse."""


@dataclass(slots=True)
class Variables:
    """Values for the references of a file, and a record of which it makes."""

    given: Mapping[str, str]
    asked: set[str] = field(default_factory=set)
    required: set[str] = field(default_factory=set)

    def fill(self, text: str) -> str:
        """A text with its references replaced. Raises CompositionError."""
        return REFERENCE.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["wrong"]:
            raise CompositionError(f"no reference: {match.string!r}")
        name, rule = match["plain"] or match["name"], match["rule"] or ""
        rest = self.fill(match["rest"] or "")
        self.asked.add(name)
        value = self.given.get(name)
        if not (value if rule.startswith(":") else value is not None):
            if rule.endswith("?"):
                self.required.add(name)
                raise CompositionError(f"{name} is missing: {rest}")
            return rest if rule.endswith("-") else ""
        if rule.endswith("?"):
            self.required.add(name)
        return rest if rule.endswith("+") else value or ""


def read(path: Path, variables: Variables) -> dict[str, Any]:
    """One file with its references replaced and its anchors resolved."""
    data = _parsed(path, path.stat().st_mtime_ns)
    if not isinstance(data, dict):
        raise CompositionError(f"{path.name}: not a mapping")
    kept = {key: value for key, value in data.items() if not key.startswith("x-")}
    if strange := set(kept) - {"name", "services", "volumes", "networks", "secrets"}:
        raise CompositionError(f"{path.name}: unknown keys {sorted(strange)}")
    filled: dict[str, Any] = _filled(kept, variables)
    for name, service in filled["services"].items():
        _normalise(service)
        for key, value in service.get("environment", {}).items():
            if value is None:
                variables.asked.add(key)
                if key in variables.given:
                    service["environment"][key] = variables.given[key]
        if "extends" in service:
            raise CompositionError(f"{name}: extends is not known here")
    return filled


def load(paths: Sequence[Path], given: Mapping[str, str]) -> dict[str, Any]:
    """The files merged in order, without the services of profiles. Raises CompositionError."""
    variables = Variables(given)
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, read(path, variables), "")
    active = {name: s for name, s in merged["services"].items() if not s.get("profiles")}
    for name, service in active.items():
        for other in service.get("depends_on", {}):
            if other not in active:
                raise CompositionError(f"{name} depends on {other}, which does not run")
    return {**merged, "services": active}


@cache
def _parsed(path: Path, _changed_ns: int) -> Any:
    """The same file is read many times; `_filled` makes copies."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _filled(value: Any, variables: Variables) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    return variables.fill(value) if isinstance(value, str) else value


def _normalise(service: dict[str, Any]) -> None:
    """The short forms in their long one, where merging needs it."""
    environment = service.get("environment")
    if isinstance(environment, list):
        pairs = (entry.partition("=") for entry in environment)
        service["environment"] = {key: value if mark else None for key, mark, value in pairs}
    depends_on = service.get("depends_on")
    if isinstance(depends_on, list):
        service["depends_on"] = {name: {"condition": "service_started"} for name in depends_on}


def _merge(base: Any, layer: Any, key: str) -> Any:
    if isinstance(base, dict) and isinstance(layer, dict):
        merged = dict(base)
        for name, value in layer.items():
            merged[name] = _merge(base[name], value, name) if name in base else value
        return merged
    if isinstance(base, list) and isinstance(layer, list):
        if key in OVERRIDDEN:
            return layer
        if key == "volumes":
            by_target = {target_of(mount): mount for mount in base}
            return list({**by_target, **{target_of(mount): mount for mount in layer}}.values())
        return list(dict.fromkeys((*base, *layer)))
    if isinstance(base, dict | list) and layer is not None:
        raise CompositionError(f"{key}: cannot put {layer!r} over {base!r}")
    return layer


Mount = str | dict[str, Any]
"""In its short form or its long one."""


def target_of(mount: Mount) -> str:
    """Where a volume or a path is mounted."""
    return str(mount["target"]) if isinstance(mount, dict) else mount.split(":")[1]


def source_of(mount: Mount) -> str:
    """The source of a mount: a volume's name, or a path beginning with `./`."""
    return str(mount["source"]) if isinstance(mount, dict) else mount.split(":")[0]


def is_read_only(mount: Mount) -> bool:
    """Whether the service cannot write there."""
    return bool(mount.get("read_only")) if isinstance(mount, dict) else mount.endswith(":ro")


def sample() -> dict[str, str]:
    """Values for a first start: the example's, and one for everything that must be given."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    given = {key: value for key, value in pairs if value}
    while True:
        variables = Variables(given)
        try:
            for path in (BASE, *LAYERS):
                read(path, variables)
        except CompositionError:
            missing = variables.required - set(given)
            if not missing:
                raise
            given |= {name: A_FILE if name in FILES else "given" for name in missing}
        else:
            return given


@cache
def pins_and_secrets() -> dict[str, str]:
    """The values given to a first start."""
    return sample()


def stack(*layers: Path, **given: str) -> dict[str, Any]:
    """The base with layers on it."""
    return load([BASE, *layers], {**pins_and_secrets(), **given})


def named(layers: tuple[Path, ...]) -> str:
    """A readable id of a parameter."""
    return "+".join(layer.stem for layer in layers) or "base"
