"""Which variables of the gateway's environment the shipper gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spanledger.app import shipper_environment
from tests.support.processes import Child, poll

SECRETS = {
    "OPENAI_API_KEY": "sk-canary-1",
    "ANTHROPIC_API_KEY": "sk-canary-2",
    "AZURE_API_KEY": "sk-canary-3",
    "AWS_SECRET_ACCESS_KEY": "sk-canary-4",
    "MY_PROVIDER_TOKEN": "sk-canary-5",
    "DATABASE_URL": "postgres://u:sk-canary-6@db/x",
}
NEEDED = {
    "PATH": "/usr/bin",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic x",
    "HTTPS_PROXY": "http://proxy:3128",
    "no_proxy": "localhost",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "SSL_CERT_DIR": "/etc/certs",
    "TZ": "Europe/Berlin",
    "PYTHONPATH": "src",
}
CONFIG = """
model_list:
  - model_name: a
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: http://127.0.0.1:9/v1
      api_key: os.environ/MY_PROVIDER_TOKEN
telemetry: {endpoint: "http://127.0.0.1:9"}
"""


def test_only_what_is_needed_is_handed_on() -> None:
    """An allow-list: providers' keys and other secrets stay with the gateway."""
    assert shipper_environment(SECRETS | NEEDED) == NEEDED


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_running_shipper_has_no_keys(tmp_path: Path) -> None:
    """It runs next to a gateway whose configuration names a key, and the key is not in its copy of
    the environment."""
    (tmp_path / "spanledger.yaml").write_text(CONFIG)
    gateway = Child(["gateway", "--port", "0"], tmp_path, SECRETS)
    try:
        gateway.url()
        pid = gateway.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found = poll(lambda: children.read_text().split())
        assert len(found) == 1, gateway.output
        environ = Path(f"/proc/{found[0]}/environ")
        assert poll(lambda: b"PATH=" in environ.read_bytes())
        assert b"sk-canary" not in environ.read_bytes()
        # It has read its configuration without the key, and is at work.
        assert poll(lambda: b"ship" in Path(f"/proc/{found[0]}/cmdline").read_bytes())
        assert poll(lambda: _locked(tmp_path)), gateway.output
        assert "the shipper exited" not in gateway.output
    finally:
        assert gateway.stop() == 0


def _locked(folder: Path) -> bool:
    """Whether a shipper holds its lock next to the ledger."""
    return any("ship" in path.name for path in (folder / ".spanledger").iterdir())
