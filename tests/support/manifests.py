"""Kubernetes manifests: rendered by Helm, and checked against the schemas of the toolchain.

Owns how Kubernetes' OpenAPI and the operator's definitions become schemas that kubeconform reads. A
field that no schema has is an error, as with `kubectl apply --validate=strict`.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.rules.harness import program

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "spanledger"
EXAMPLE = ROOT / "examples" / "spanledger.yaml"
LOCATION = "{{.ResourceKind}}{{.KindSuffix}}.json"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"

Manifest = dict[str, Any]


class Rendered(NamedTuple):
    """What Helm made of the chart, or why it refused."""

    text: str
    error: str

    @property
    def manifests(self) -> list[Manifest]:
        """The objects. Fails the test if Helm refused."""
        assert not self.error, self.error
        return [item for item in yaml.safe_load_all(self.text) if item]

    def of_kind(self, kind: str) -> list[Manifest]:
        """The objects of one kind."""
        return [item for item in self.manifests if item["kind"] == kind]

    def named(self, kind: str, name: str) -> Manifest:
        """One object."""
        (found,) = (item for item in self.of_kind(kind) if item["metadata"]["name"] == name)
        return found


def needed(name: str) -> Path:
    """A program or file of the toolchain; skips the test without it."""
    found = program(name)
    if found is None:
        pytest.skip(f"no {name}: `make toolchain` builds it")
    return found


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm."""
    return subprocess.run(
        [needed("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def render(
    values: Mapping[str, Any], folder: Path, config: Path | None = EXAMPLE, *options: str
) -> Rendered:
    """The chart as a release named `spanledger`, with these values."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    given = [] if config is None else ["--set-file", f"config={config}"]
    done = helm("template", "spanledger", str(CHART), "--values", str(file), *given, *options)
    return Rendered(done.stdout, done.stderr if done.returncode else "")


def write_schemas(folder: Path, kinds: Sequence[str]) -> None:
    """A schema file for each kind."""
    api = json.loads(needed("kubernetes-api.json").read_text(encoding="utf-8"))["definitions"]
    api[INT_OR_STRING] = {"type": ["integer", "string"]}
    api[QUANTITY] = {"type": ["number", "string"]}
    for name, definition in api.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] in kinds:
                root = {"$ref": f"#/definitions/{name}", "definitions": reached(api, name)}
                write_schema(folder, kind["kind"], kind["group"], kind["version"], root)
    for definition in custom_definitions(kinds):
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            write_schema(folder, spec["names"]["kind"], spec["group"], version["name"], schema)


def custom_definitions(kinds: Sequence[str]) -> list[Manifest]:
    """The Prometheus operator's definitions of these kinds.

    The others are not parsed: they are large, and one has a value that PyYAML does not know.
    """
    parts = re.split(
        r"^---$", needed("prometheus-operator.yaml").read_text("utf-8"), flags=re.MULTILINE
    )
    wanted = [part for part in parts if any(f"    kind: {kind}\n" in part for kind in kinds)]
    return [yaml.load(part, yaml.CSafeLoader) for part in wanted]


def write_schema(folder: Path, kind: str, group: str, version: str, schema: Any) -> None:
    """Write one file where kubeconform looks for the kind."""
    parts = [kind.lower(), *([group.partition(".")[0]] if group else []), version]
    (folder / f"{'-'.join(parts)}.json").write_text(json.dumps(schema), encoding="utf-8")


def reached(definitions: Mapping[str, Any], start: str) -> dict[str, Any]:
    """A definition and all those that it refers to, made strict."""
    found: dict[str, Any] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = strict(definitions[name])
            waiting += references(definitions[name])
    return found


def references(schema: Any) -> list[str]:
    """The names that a schema refers to."""
    if isinstance(schema, list):
        return [name for item in schema for name in references(item)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("$ref")
    names = [own.rpartition("/")[2]] if isinstance(own, str) else []
    return names + [name for item in schema.values() for name in references(item)]


def strict(schema: Any) -> Any:
    """The schema, in which an object has no fields but those it names."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    named = isinstance(made.get("properties"), dict)
    if named and made.get("type", "object") == "object":
        made.setdefault("additionalProperties", False)
    return made


def complaints(text: str, folder: Path) -> str:
    """What kubeconform finds wrong with manifests; empty if all are valid."""
    kinds = {item["kind"] for item in yaml.safe_load_all(text) if item}
    write_schemas(folder, sorted(kinds))
    checker = str(needed("kubeconform"))
    command = [checker, "-strict", "-schema-location", f"{folder}/{LOCATION}", "-"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""
