"""Problems before the start are reported with what to change, and nothing is left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.engine.conftest import Install
from tests.engine.installation import Installation

REAL = {
    "COMPOSE_FILE": "docker-compose.yml:compose/real-providers.yml",
    "OPENAI_API_KEY": "sk-none",
    "ANTHROPIC_API_KEY": "sk-none",
}
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def containers(installation: Installation) -> list[str]:
    """The services that have a container that has run."""
    words = ("ps", "--all", "--format", "{{.Service}} {{.State}}")
    pairs = (line.split() for line in installation.compose(*words).well().splitlines())
    return sorted(service for service, state in pairs if state == "running")


def test_a_clone_for_its_owner_alone_is_refused(install: Install) -> None:
    """In a clone made under umask 077, the error names the files to make readable; then it starts."""
    stack = install(umask=0o077)

    done = stack.run("make", "up")
    assert done.status != 0
    assert "the containers' users cannot read these files" in done.said
    command = next(line for line in done.said.splitlines() if "chmod -R" in line).partition(": ")[2]
    assert containers(stack) in ([], ["sim"])
    assert stack.compose("up", "--detach", "--wait").status != 0
    assert command in stack.logs("check-files")

    stack.run("bash", "-c", command).well()
    stack.compose("up", "--detach", "--wait").well()
    assert stack.is_running()


def test_a_configuration_that_is_not_there_is_refused(install: Install) -> None:
    """SPANLEDGER_CONFIG without a file: the error names it, and no folder is created in its place."""
    stack = install({**REAL, "SPANLEDGER_CONFIG": "./mine.yaml"})

    for words in (("docker", "compose", "up", "--detach", "--wait"), ("make", "up")):
        done = stack.run(*words)
        assert done.status != 0
        assert "mine.yaml" in done.said
        assert "Traceback" not in done.said
        assert containers(stack) == []
        assert not (stack.folder / "mine.yaml").exists()


def test_a_folder_in_the_place_of_a_configuration_is_refused(install: Install) -> None:
    """A folder, such as an earlier version created where the file was missing, is an error."""
    stack = install({**REAL, "SPANLEDGER_CONFIG": "./mine.yaml"})
    (stack.folder / "mine.yaml").mkdir()

    assert stack.compose("up", "--detach", "--wait").status != 0
    assert "SPANLEDGER_CONFIG names a folder" in stack.logs("check-files")
    assert containers(stack) == []


def test_a_wrong_configuration_is_said_by_the_gateway(install: Install) -> None:
    """The gateway's log has the reason on one line, and `--wait` fails."""
    stack = install({**REAL, "SPANLEDGER_CONFIG": "./mine.yaml"})
    (stack.folder / "mine.yaml").write_text("model_list:\n  - {model_name: fast}\n", "utf-8")

    assert stack.compose("up", "--detach", "--wait").status != 0
    said = stack.logs("gateway")
    assert "error: " in said
    assert "litellm_params" in said
    assert "Traceback" not in said


def test_a_port_in_use_names_its_variable(install: Install) -> None:
    """make names the variable to set, and setting it works."""
    stack = install()
    with socket.create_server(("127.0.0.1", 3000)):
        done = stack.run("make", "up")
        assert done.status != 0
        assert "port 3000 is in use; set GRAFANA_PORT to another port in .env" in done.said
        assert containers(stack) == []
        by_hand = stack.compose("up", "--detach")
        assert by_hand.status != 0
        assert "address already in use" in by_hand.said

        (stack.folder / ".env").write_text("GRAFANA_PORT=3333\n", "utf-8")
        assert "http://localhost:3333" in stack.run("make", "up").well()
    assert stack.is_ready("http://127.0.0.1:3333/api/health")


def test_a_companys_authority_is_handed_to_the_build(install: Install) -> None:
    """With compose/company-ca.yml, the build and the services trust the authorities in a file."""
    # A base image that knows public authorities only.
    env = {"PYTHON_VERSION": "bare", "COMPOSE_FILE": "docker-compose.yml:compose/company-ca.yml"}
    broken = install({**env, "SPANLEDGER_CA": "./none.pem"})
    (broken.folder / "none.pem").write_text("no certificate\n", "utf-8")
    done = broken.compose("build", "--no-cache")
    assert done.status != 0
    assert "certificate" in done.said.lower()

    stack = install({**env, "SPANLEDGER_CA": str(HOST_CERTIFICATES)})
    stack.compose("up", "--detach", "--wait", "gateway", "collector").well()
    inside = stack.compose("exec", "-T", "gateway", "cat", "/etc/spanledger/ca.pem").well()
    assert inside == HOST_CERTIFICATES.read_text(encoding="utf-8")


def test_the_image_does_not_depend_on_modes(install: Install) -> None:
    """An image of a clone made under umask 077 runs as its own user."""
    stack = install(umask=0o077)
    stack.compose("build").well()

    words = ("run", "--rm", "--no-deps", "--entrypoint", "spanledger", "check-files", "--version")
    assert "spanledger" in stack.compose(*words).well()


@pytest.mark.parametrize("layers", ["docker-compose.yml", REAL["COMPOSE_FILE"]])
def test_compose_says_nothing_of_the_files(install: Install, layers: str) -> None:
    """The files are read without a warning, such as about an unset variable."""
    stack = install({**REAL, "COMPOSE_FILE": layers})

    assert stack.compose("config", "--quiet").well() == ""
