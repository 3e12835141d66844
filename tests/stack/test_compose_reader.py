"""The reader of compose files that the tests of the stack rely on makes of them what Compose does.

Where the `docker compose` command is installed (it needs no engine to merge), both must agree.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack import composition
from tests.stack.composition import (
    BASE,
    ROOT,
    STACKS,
    named,
    pins_and_secrets,
    source_of,
    stack,
    target_of,
)


def compose_command() -> list[str]:
    """`docker compose`; skips the test where it is not installed."""
    docker = shutil.which("docker")
    if docker:
        done = subprocess.run(
            [docker, "compose", "version", "--short"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and not done.stdout.startswith(("1.", "v1.")):
            return [docker, "compose"]
    pytest.skip("no `docker compose` command; the merge was checked by our own reader alone")


@pytest.mark.parametrize("layers", STACKS, ids=named)
def test_docker_compose_makes_the_same_of_it(layers: tuple[Path, ...], tmp_path: Path) -> None:
    """The real merge agrees with ours on what the other tests look at."""
    command = compose_command()
    given = pins_and_secrets()
    file = tmp_path / "env"
    file.write_text("".join(f"{key}={value}\n" for key, value in given.items()), "utf-8")
    files = [option for path in (BASE, *layers) for option in ("-f", str(path))]
    inherited = {k: os.environ[k] for k in ("PATH", "HOME", "DOCKER_CONFIG") if k in os.environ}

    done = subprocess.run(
        [*command, "--env-file", str(file), *files, "config", "--format", "json"],
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    theirs, ours = json.loads(done.stdout), stack(*layers)
    assert theirs["name"] == ours["name"]
    assert {n: told(s) for n, s in theirs["services"].items()} == {
        n: view(s) for n, s in ours["services"].items()
    }


def view(service: dict[str, Any]) -> dict[str, Any]:
    """Our reader's service in the words of `docker compose config`, as far as it is compared."""
    return {
        "image": service["image"],
        "command": service.get("command"),
        "user": service["user"],
        "read_only": service["read_only"],
        "test": service.get("healthcheck", {}).get("test"),
        "depends_on": {n: how["condition"] for n, how in service.get("depends_on", {}).items()},
        "volumes": {
            target_of(mount): str(ROOT / source_of(mount))
            if "/" in source_of(mount)
            else source_of(mount)
            for mount in service.get("volumes", ())
        },
        "ports": sorted(service.get("ports", ())),
        "environment": {
            **env_files(service),
            **{k: v if v is None else str(v) for k, v in service.get("environment", {}).items()},
        },
    }


def env_files(service: dict[str, Any]) -> dict[str, str]:
    """The variables of a service's env files."""
    lines = [
        line
        for file in service.get("env_file", ())
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
    ]
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def told(service: dict[str, Any]) -> dict[str, Any]:
    """The same of what `docker compose config` prints."""
    return {
        "image": service["image"],
        "command": [w.replace("$$", "$") for w in service["command"]]
        if service["command"]
        else None,
        "user": service["user"],
        "read_only": service["read_only"],
        "test": service.get("healthcheck", {}).get("test"),
        "depends_on": {n: how["condition"] for n, how in service.get("depends_on", {}).items()},
        "volumes": {mount["target"]: mount["source"] for mount in service.get("volumes", ())},
        "ports": sorted(
            f"{port['host_ip']}:{port['published']}:{port['target']}"
            for port in service.get("ports", ())
        ),
        "environment": {
            k: v if v is None else v.replace("$$", "$")
            for k, v in service.get("environment", {}).items()
        },
    }


def test_the_reader_refuses_what_compose_refuses(tmp_path: Path) -> None:
    """A missing variable, a service that does not run and a strange key are errors, not guesses."""
    file = tmp_path / "compose.yml"
    for text in (
        "services: {a: {image: 'x:${V:?set it}'}}",
        "services: {a: {image: x, depends_on: [b]}, b: {image: x, profiles: [p]}}",
        "services: {a: {image: x}}\ninclude: [b.yml]",
        "services: {a: {image: 'x:${V'}}",
    ):
        file.write_text(text, "utf-8")
        with pytest.raises(composition.CompositionError):
            composition.load([file], {})


def test_the_reader_merges_as_the_specification_says(tmp_path: Path) -> None:
    """Mappings merge, commands are replaced, mounts go by target, other lists grow."""
    first, second = tmp_path / "a.yml", tmp_path / "b.yml"
    first.write_text(
        yaml.safe_dump(
            {
                "services": {
                    "a": {
                        "command": ["one"],
                        "environment": ["A=1", "B"],
                        "volumes": ["./x:/at", "v:/v"],
                        "cap_add": ["C"],
                    }
                }
            }
        ),
        "utf-8",
    )
    layer = {
        "command": ["two"],
        "environment": {"A": "$$2"},
        "volumes": ["./y:/at"],
        "cap_add": ["D"],
    }
    second.write_text(yaml.safe_dump({"services": {"a": layer}}), "utf-8")

    assert composition.load([first, second], {"B": "b"})["services"]["a"] == {
        "command": ["two"],
        "environment": {"A": "$2", "B": "b"},
        "volumes": ["./y:/at", "v:/v"],
        "cap_add": ["C", "D"],
    }
