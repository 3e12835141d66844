"""The sections of a configuration: every setting with its type, bounds, default and meaning.

LiteLLM's own keys keep their names and meaning; ours (`gateway`, `ledger`, `telemetry`, `budgets`)
stand next to them. Nothing here reads a file or the environment.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr

from spanledger.config.budgets import BudgetEntry
from spanledger.config.fields import (
    LiteLLM,
    Name,
    Origin,
    Ours,
    Owner,
    PicoUsd,
    PositiveInt,
    Seconds,
    not_each,
)
from spanledger.config.routing import Fallbacks, Retries, RoutingKeys

DEFAULT_LEDGER_URL = "sqlite:///.spanledger/ledger.db"
"""Relative to the working folder; four slashes make a path absolute."""

Rate = Annotated[int, Field(ge=1, le=10**12)]
"""Per minute; with a bound, since shares of traffic are made of it."""


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class LiteLLMParams(LiteLLM):
    """`litellm_params` of a deployment."""

    model: Name = Field(description="Provider and model, as `openai/gpt-4o-mini`.")
    api_base: str | None = Field(
        None, description="Base URL; a compatible server for `openai/…`. Also `base_url`."
    )
    api_key: SecretStr | None = Field(
        None, description="The provider's key; write `os.environ/NAME` to take it from there."
    )
    api_version: str | None = Field(
        None, description="Azure's API version; `v1` for its v1 API. `api_base` may have it, too."
    )
    custom_llm_provider: str | None = Field(None, description="Provider, when the model lacks it.")
    organization: str | None = Field(None, description="Sent as `OpenAI-Organization`.")
    extra_headers: dict[str, str] = Field({}, description="Headers of every request there.")
    extra_body: dict[str, Any] = Field(
        {}, description="Fields of every request there; they win over the caller's."
    )
    drop_params: bool | None = Field(
        None,
        description="Leave out fields this provider refuses; else as `litellm_settings` says.",
    )
    additional_drop_params: tuple[str, ...] = Field((), description="Fields that are left out.")
    num_retries: Retries | None = Field(
        None, description="Retries after a failure of this deployment; wins over the router's."
    )
    rpm: Rate | None = Field(None, description="Requests a minute this deployment takes.")
    tpm: Rate | None = Field(None, description="Tokens a minute this deployment takes.")
    timeout: Seconds | None = Field(None, description="Seconds for one attempt.")
    stream_timeout: Seconds | None = Field(
        None, description="Seconds to the first content of a stream; else `timeout`."
    )
    weight: Annotated[float, Field(ge=0, le=1e12)] | None = Field(
        None,
        description="Share of its group's traffic, against the others' weights; 0 or none beside a"
        " weight = only where no other can serve. Without weights `rpm`, else `tpm`, is the share.",
    )
    order: int | None = Field(
        None, description="Deployments with the lowest are asked first, those without one last."
    )
    input_cost_per_token: PicoUsd | None = Field(
        None, description="USD; overrides the book, as LiteLLM's other keys per token do."
    )
    output_cost_per_token: PicoUsd | None = Field(None, description="USD; overrides the book.")
    cache_read_input_token_cost: PicoUsd | None = Field(None, description="USD; overrides.")
    cache_creation_input_token_cost: PicoUsd | None = Field(None, description="USD; overrides.")
    unset: dict[str, str] = Field({}, exclude=True)
    """Keys whose `os.environ/NAME` is not set, and the variable's name: the deployment is off."""


class ModelInfo(LiteLLM):
    """`model_info` of a deployment."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Name | None = Field(None, description="Stable name of the deployment in all signals.")
    base_model: str | None = Field(
        None,
        description="The model behind the deployment's name, such as `azure/gpt-4o-2024-08-06`:"
        " its price is charged.",
    )


class ModelEntry(LiteLLM):
    """One entry of `model_list`: a deployment of a route."""

    model_name: Name = Field(description="The route: what callers send as `model`.")
    litellm_params: LiteLLMParams
    model_info: ModelInfo = ModelInfo()


class RouterSettings(LiteLLM, RoutingKeys):
    """`router_settings`, LiteLLM's names; also read from `litellm_settings`, which loses."""

    num_retries: Retries | None = Field(
        None,
        description="Further attempts within a group after the first. By default other deployments"
        " are asked, but none twice.",
    )
    retry_after: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Least seconds between two attempts at one deployment."
    )
    allowed_fails: Annotated[int, Field(ge=0)] = Field(
        3, description="Failures within a minute a deployment may have before it cools down."
    )
    cooldown_time: Annotated[float, Field(ge=0)] = Field(
        5.0, description="Seconds a deployment rests; a provider's Retry-After overrides it."
    )
    timeout: Seconds | None = Field(
        None,
        description="Seconds for one attempt, unless the entry says. By default"
        " `gateway.total_timeout_s`; half of it where another deployment can take over.",
    )
    fallbacks: Fallbacks = Field((), description="`[{route: [route, …]}]`, tried in order.")
    default_fallbacks: tuple[str, ...] = Field((), description="For routes without fallbacks.")
    context_window_fallbacks: Fallbacks = Field(
        (), description="Routes to use when the prompt is too long for the first."
    )


class GatewaySettings(Ours):
    """Limits of the gateway; each has a test that trips it."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(4000, description="Port to listen on.")
    max_body_bytes: PositiveInt = Field(20 * 2**20, description="Largest request body.")
    max_header_bytes: PositiveInt = Field(64 * 2**10, description="Largest request head.")
    max_response_bytes: PositiveInt = Field(64 * 2**20, description="Largest provider answer.")
    max_concurrent_requests: PositiveInt = Field(1000, description="Requests in flight.")
    max_concurrent_requests_per_key: PositiveInt | None = Field(
        None, description="Requests of one key in flight; by default three quarters of all."
    )
    max_body_bytes_in_flight: PositiveInt | None = Field(
        None,
        description="Bytes of bodies over 64 KiB in memory, half of them for one key; "
        "by default 256 MiB, or one largest body.",
    )
    body_timeout_s: Seconds = Field(30.0, description="Seconds a client has to send its request.")
    total_timeout_s: Seconds = Field(600.0, description="Deadline of a request, all attempts.")
    stream_idle_timeout_s: Seconds = Field(60.0, description="Longest silence within a stream.")
    shutdown_grace_s: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Seconds requests in flight get to end after SIGTERM."
    )
    default_customer: Annotated[Owner, AfterValidator(not_each), Field(max_length=128)] = Field(
        "default", description="Customer of requests while no keys exist."
    )
    allow_origins: tuple[Origin, ...] = Field(
        (), description="Web pages that may call from a browser (CORS): `https://app.example`, `*`."
    )
    budget_exceeded_status: Literal[402, 429] = Field(
        429, description="HTTP status of a budget's refusal; some clients retry any 429."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe messages that are logged, on stderr."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people, or one JSON object a line."
    )
    access_log: bool = Field(False, description="Log a line for each request.")

    @property
    def most_per_key(self) -> int:
        """Requests that one key may have in flight."""
        return self.max_concurrent_requests_per_key or max(1, self.max_concurrent_requests * 3 // 4)

    @property
    def most_body_bytes(self) -> int:
        """Bytes of large bodies in memory; a body of the largest size always fits."""
        return max(self.max_body_bytes_in_flight or 256 * 2**20, self.max_body_bytes)


class LedgerSettings(Ours):
    """Where the ledger is."""

    url: str = Field(DEFAULT_LEDGER_URL, description="`sqlite:///PATH`.")
    lease_s: Annotated[float, Field(ge=1)] = Field(
        30.0, description="Seconds after a gateway's last sign of life when its holds expire."
    )


class TelemetrySettings(Ours):
    """What leaves as telemetry; the standard `OTEL_*` variables win over this section."""

    enabled: bool = Field(True, description="Run the shipper beside the gateway.")
    endpoint: str = Field("http://localhost:4318", description="OTLP/HTTP base URL.")
    service_name: str = Field("spanledger-gateway", description="`service.name` of our signals.")
    content: Annotated[Literal["off", "redacted", "full"], BeforeValidator(_off)] = Field(
        "off", description="Whether prompts and answers go on spans."
    )
    max_attribute_bytes: Annotated[int, Field(ge=256)] = Field(
        60_000, description="Content longer than this is cut, still valid JSON."
    )
    export_interval_s: Seconds = Field(5.0, description="Seconds between two metric exports.")
    max_customers: PositiveInt = Field(
        100, description="Customers with a metric series of their own; the rest share `other`."
    )


class Config(Ours):
    """The whole configuration. `warnings` names keys of LiteLLM's that have no effect here."""

    model_list: tuple[ModelEntry, ...] = Field((), description="Deployments.")
    router_settings: RouterSettings = RouterSettings()
    gateway: GatewaySettings = GatewaySettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    budgets: tuple[BudgetEntry, ...] = Field((), description="Budgets set at start.")
    drop_params: bool = Field(False, exclude=True)
    """`litellm_settings.drop_params`."""
    variables: dict[str, str] = Field({}, exclude=True, repr=False)
    """`environment_variables` of the file; they win over the process's, as in LiteLLM."""
    warnings: tuple[str, ...] = Field((), exclude=True)
