"""Where a deployment's requests of a wire go, and what their heads say."""

from __future__ import annotations

from spanledger.providers.base import Deployment
from spanledger.providers.hosts import HOSTS
from spanledger.providers.transport import Endpoint, make_target
from spanledger.wires.base import Outbound


def target_of(deployment: Deployment, wire: Outbound) -> Endpoint:
    """Raises ProviderError when the deployment's `api_base` or key cannot be used."""
    headers = {**wire.headers, **deployment.headers}
    if deployment.api_key:
        name = wire.key_header or deployment.key_header
        bearer = "Bearer " if name == "authorization" else ""
        headers[name] = bearer + deployment.api_key.strip()
    base = deployment.api_base or HOSTS[wire.host].base or ""
    if wire.path.startswith("/v1/"):
        # People write the base with and without the version.
        base = base.removesuffix("/v1")
    return make_target(deployment, f"{base}{wire.path}{deployment.query}", headers)
