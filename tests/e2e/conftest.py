"""The product as users run it: simulator and gateways as processes, one ledger file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.played import Played, play
from tests.e2e.stack import Stack, open_target
from tests.support.processes import Child, run, running

ROUTES = ("gpt-4o-mini", "gpt-4o")


class Site:
    """A directory with a configuration, a simulator, and commands run in it."""

    def __init__(self, folder: Path, sim_url: str) -> None:
        self.folder = folder
        self.sim_url = sim_url
        self.ledger = folder / ".spanledger" / "ledger.db"

    def configure(self, **sections: Any) -> None:
        """Write spanledger.yaml: two models of the simulator on the OpenAI wire, with Claude as the fallback."""
        model_list = [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": f"{self.sim_url}/v1",
                    "api_key": "sk-sim-canary-openai-0123456789abcdef",
                },
                "model_info": {"id": f"openai-{model}"},
            }
            for model in ROUTES
        ]
        model_list.append(
            {
                "model_name": "claude",
                "litellm_params": {
                    "model": "anthropic/claude-haiku-4-5",
                    "api_base": self.sim_url,
                    "api_key": "sk-ant-sim-canary-0123456789abcdef",
                },
                "model_info": {"id": "anthropic-claude"},
            }
        )
        config = {
            "model_list": model_list,
            "router_settings": {"fallbacks": [{"gpt-4o": ["claude"]}], "num_retries": 1},
        }
        (self.folder / "spanledger.yaml").write_text(yaml.safe_dump(config | sections))

    def command(self, *arguments: str) -> Any:
        """Run a command with --json and parse its output."""
        done = run(*arguments, "--json", folder=self.folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def key(self, customer: str) -> str:
        """Create a key for a customer."""
        return str(self.command("keys", "create", "--customer", customer)["key"])

    def gateway(self, *arguments: str, env: dict[str, str] | None = None) -> Child:
        """Start a gateway on a free port; the caller ends it."""
        return Child(
            ["gateway", "--config", "spanledger.yaml", "--port", "0", *arguments],
            self.folder,
            env or {},
        )


@pytest.fixture(scope="session")
def sim_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulator without delays; shared, so tests look only at their own part of its bill."""
    folder = tmp_path_factory.mktemp("sim")
    with running("sim", "--port", "0", "--speed", "0", folder=folder) as sim:
        yield sim.url()


@pytest.fixture
def site(tmp_path: Path, sim_url: str) -> Site:
    """A fresh directory with the standard configuration."""
    site = Site(tmp_path, sim_url)
    site.configure()
    return site


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The entire stack, started once, or a skip that says what is missing."""
    with open_target(tmp_path_factory.mktemp("stack")) as target:
        stack = Stack(target)
        with stack.http:
            yield stack


@pytest.fixture(scope="session")
def played(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Everything that emits a signal, run once."""
    return play(stack, tmp_path_factory.mktemp("played"))
