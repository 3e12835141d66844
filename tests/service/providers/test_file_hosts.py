"""Which deployments keep files, and where."""

from __future__ import annotations

import pytest

from spanledger.providers.base import Deployment
from spanledger.providers.file_hosts import for_files, keeps_files


def at(written: str, base: str | None, query: str = "") -> Deployment:
    """A deployment."""
    model = written.partition("/")[2]
    return Deployment("d", "r", "openai", "p", model, written, base, query)


@pytest.mark.parametrize(
    ("written", "base", "keeps"),
    [
        ("openai/gpt-4o", None, True),
        ("openai/mine", "http://127.0.0.1:8000/v1", True),
        ("groq/llama", "https://api.groq.com/openai/v1", True),
        ("openai/x", "https://api.deepseek.com/v1", False),
        ("deepseek/x", "https://api.deepseek.com/v1", False),
        ("azure/x", "https://a.openai.azure.com/openai/deployments/x", True),
    ],
)
def test_who_keeps_files(written: str, base: str | None, keeps: bool) -> None:
    """OpenAI, Azure and Groq do, and so may a server with OpenAI's API; others by their address do not."""
    assert keeps_files(at(written, base)) is keeps


def test_azures_files_are_at_the_resource() -> None:
    """Not below the name of a deployment, and without the version of its API."""
    found = for_files(
        at("azure/x", "https://a.openai.azure.com/openai/deployments/x", "?api-version=2024-10-21")
    )
    assert (found.api_base, found.query) == ("https://a.openai.azure.com/openai/v1", "")
    other = at("openai/x", "http://127.0.0.1:8000/v1")
    assert for_files(other) is other
