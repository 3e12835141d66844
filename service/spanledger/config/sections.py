"""The sections of a configuration: every setting with its type, bounds, default and meaning.

LiteLLM's keys keep their names and meaning; our sections (`gateway`, `ledger`, `telemetry`,
`budgets`) are next to them. Nothing here reads a file or the environment.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr

from spanledger.config.addresses import collector_url, ledger_url, listening_host, server_url
from spanledger.config.budgets import BudgetEntry
from spanledger.config.fields import (
    HeaderName,
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
from spanledger.config.notices import NoticeSettings
from spanledger.config.pricing import PricingSettings
from spanledger.config.routing import Fallbacks, Retries, RoutingKeys

DEFAULT_LEDGER_URL = "sqlite:///.spanledger/ledger.db"
"""Relative to the working directory; four slashes make the path absolute."""

DEFAULT_JOURNAL = ".spanledger/journal"

Rate = Annotated[int, Field(ge=1, le=10**12)]
"""Per minute; bounded, because shares of traffic are computed from it."""


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class LiteLLMParams(LiteLLM):
    """`litellm_params` of a deployment."""

    model: Name = Field(description="Provider and model, such as `openai/gpt-4o-mini`.")
    api_base: str | None = Field(
        None,
        description="Base URL; with `openai/…`, any compatible server. `base_url` is an alias.",
    )
    api_key: SecretStr | None = Field(
        None, description="The provider's key; `os.environ/NAME` reads it from a variable."
    )
    api_version: str | None = Field(
        None,
        description="Azure's API version; `v1` for its v1 API. `api_base` may include it instead.",
    )
    custom_llm_provider: str | None = Field(
        None, description="Provider, if `model` does not name it."
    )
    organization: str | None = Field(None, description="Sent as `OpenAI-Organization`.")
    extra_headers: dict[str, str] = Field({}, description="Headers added to every request.")
    extra_body: dict[str, Any] = Field(
        {}, description="Fields added to every request; they override the caller's."
    )
    drop_params: bool | None = Field(
        None,
        description="Leave out fields this provider refuses; default: the one in"
        " `litellm_settings`.",
    )
    additional_drop_params: tuple[str, ...] = Field((), description="More fields to leave out.")
    num_retries: Retries | None = Field(
        None, description="Retries after a failure of this deployment; overrides the router's."
    )
    rpm: Rate | None = Field(None, description="Requests per minute this deployment accepts.")
    tpm: Rate | None = Field(None, description="Tokens per minute this deployment accepts.")
    timeout: Seconds | None = Field(None, description="Seconds for one attempt.")
    stream_timeout: Seconds | None = Field(
        None, description="Seconds until the first content of a stream; default: `timeout`."
    )
    weight: Annotated[float, Field(ge=0, le=1e12)] | None = Field(
        None,
        description="Share of the route's traffic, relative to the other weights. If any deployment"
        " has a weight, those with 0 or none serve only when no other can. Without weights, `rpm`,"
        " then `tpm`, sets the shares.",
    )
    order: int | None = Field(
        None, description="Deployments with the lowest value come first, those without one last."
    )
    input_cost_per_token: PicoUsd | None = Field(
        None,
        description="USD; overrides the price book, as do LiteLLM's other keys for token prices.",
    )
    output_cost_per_token: PicoUsd | None = Field(
        None, description="USD; overrides the price book."
    )
    cache_read_input_token_cost: PicoUsd | None = Field(
        None, description="USD; overrides the price book."
    )
    cache_creation_input_token_cost: PicoUsd | None = Field(
        None, description="USD; overrides the price book."
    )
    unset: dict[str, str] = Field({}, exclude=True)
    """Keys whose `os.environ/NAME` is not set, with the variable's name. The deployment is off."""


class ModelInfo(LiteLLM):
    """`model_info` of a deployment."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Name | None = Field(None, description="Stable name of the deployment in all telemetry.")
    base_model: str | None = Field(
        None,
        description="The model behind the deployment's name, such as `azure/gpt-4o-2024-08-06`;"
        " its price applies.",
    )
    mode: str | None = Field(
        None,
        description="What the model is for, in LiteLLM's words: `chat` (without the Responses API),"
        " `responses` (nothing else), `completion`, `embedding`, `moderation`, `rerank`,"
        " `image_generation`, `image_edit`, `audio_speech`, `audio_transcription`; default: by the"
        " price book, the model's name and the server.",
    )
    supported_endpoints: tuple[str, ...] | None = Field(
        None,
        description="The endpoints of the deployment's server, where they are not those of its"
        " provider: with or without `/v1/chat/completions` and `/v1/responses`.",
    )
    forward_trace_context: bool = Field(
        False,
        description="Send `traceparent` and `tracestate` to this deployment, so that its own spans"
        " join the trace. Only for servers of yours.",
    )


class ModelEntry(LiteLLM):
    """One entry of `model_list`: a deployment of a route."""

    model_name: Name = Field(description="The route: what callers send as `model`.")
    litellm_params: LiteLLMParams
    model_info: ModelInfo = ModelInfo()
    _position: int | None = PrivateAttr(None)

    @property
    def position(self) -> int | None:
        """Its place in the file's list, which may have entries that are invalid or empty."""
        return self._position

    def at(self, position: int) -> ModelEntry:
        """The entry with its place in the file's list."""
        placed = self.model_copy()
        placed._position = position
        return placed


class RouterSettings(LiteLLM, RoutingKeys):
    """`router_settings`, with LiteLLM's names; it overrides the same keys in `litellm_settings`."""

    num_retries: Retries | None = Field(
        None,
        description="Retries within a route. By default up to two other deployments are called, and none"
        " is called twice.",
    )
    retry_after: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Minimum seconds between two attempts at one deployment."
    )
    allowed_fails: Annotated[int, Field(ge=0)] = Field(
        3, description="Failures per minute that a deployment may have before it cools down."
    )
    cooldown_time: Annotated[float, Field(ge=0)] = Field(
        5.0, description="Length of a cooldown in seconds; a provider's Retry-After overrides it."
    )
    timeout: Seconds | None = Field(
        None,
        description="Seconds for one attempt, unless the entry sets it. By default"
        " `gateway.total_timeout_s`, or half of it where another deployment can take over.",
    )
    fallbacks: Fallbacks = Field((), description="`[{route: [route, …]}]`, tried in order.")
    default_fallbacks: tuple[str, ...] = Field((), description="For routes without fallbacks.")
    context_window_fallbacks: Fallbacks = Field(
        (), description="Routes to use when the prompt is too long for the requested one."
    )


class GatewaySettings(Ours):
    """Address, limits and logs of the gateway; each limit has a test that trips it."""

    host: Annotated[str, AfterValidator(listening_host)] = Field(
        "127.0.0.1", description="Address to listen on."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(4000, description="Port to listen on.")
    max_body_bytes: PositiveInt = Field(20 * 2**20, description="Maximum size of a request body.")
    max_header_bytes: PositiveInt = Field(
        64 * 2**10, description="Maximum size of a request's headers."
    )
    max_response_bytes: PositiveInt = Field(
        64 * 2**20, description="Maximum size of a provider's answer."
    )
    max_concurrent_requests: PositiveInt = Field(
        1000, description="Maximum number of requests in flight."
    )
    max_concurrent_requests_per_key: PositiveInt | None = Field(
        None, description="Maximum per key; default: three quarters of `max_concurrent_requests`."
    )
    max_body_bytes_in_flight: PositiveInt | None = Field(
        None,
        description="Memory for bodies over 64 KiB, in bytes; one key may use half of it. Default:"
        " 256 MiB, or `max_body_bytes` if that is more.",
    )
    max_upload_bytes: PositiveInt = Field(
        50 * 2**20,
        description="Maximum size of a form with files (audio, images). Above 1 MiB it is kept in"
        " the directory for temporary files (`TMPDIR`) until its request has ended.",
    )
    max_upload_bytes_in_flight: PositiveInt | None = Field(
        None,
        description="Disk for such forms, in bytes; one key may use half of it. Default: 1 GiB, or"
        " `max_upload_bytes` if that is more.",
    )
    body_timeout_s: Seconds = Field(
        30.0,
        description="Seconds that a client has to send its request, or each 512 KiB of a form.",
    )
    total_timeout_s: Seconds = Field(
        600.0, description="Seconds for a request with all its attempts."
    )
    wait_for_holds_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        30.0,
        description="Seconds that a request may wait for what others hold, where a budget would have room"
        " for it if nothing were held; 0: it is refused at once.",
    )
    stream_idle_timeout_s: Seconds = Field(
        60.0, description="Seconds of silence after which a stream fails."
    )
    shutdown_grace_s: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Seconds that requests in flight have to finish after SIGTERM."
    )
    default_customer: Annotated[Owner, AfterValidator(not_each), Field(max_length=128)] = Field(
        "default", description="Customer of requests while no keys exist."
    )
    names_in_body: bool = Field(
        True,
        description="Read a request's user, project and tags from its body (`user`, `metadata`, …),"
        " as far as its key has none.",
    )
    user_headers: tuple[HeaderName, ...] = Field(
        (),
        description="Headers that name a request's user, such as `x-litellm-end-user-id`; they"
        " precede the body. List only what callers, or a proxy before them, may choose.",
    )
    project_headers: tuple[HeaderName, ...] = Field(
        (), description="Headers that name its project, such as `openai-project`."
    )
    tag_headers: tuple[HeaderName, ...] = Field(
        (), description="Headers with tags, separated by commas, such as `x-litellm-tags`."
    )
    allow_origins: tuple[Origin, ...] = Field(
        (), description="Web pages that may call from a browser (CORS): `https://app.example`, `*`."
    )
    provider_ids: Literal["pass_on", "refuse"] = Field(
        "pass_on",
        description="Ids in requests that only a provider knows: of its files, vector stores, containers,"
        " caches, stored items and prompts. `refuse` answers 404, unless the key may pass through: the"
        " account keeps them for all customers.",
    )
    pass_through: Annotated[Literal["off", "keys", "all"], BeforeValidator(_off)] = Field(
        "keys",
        description="Who may call a provider's own endpoints at `/v1/PROVIDER/…`: `off`: nobody,"
        " `keys`: keys created with `--allow-pass-through`, `all`: every key where no budget blocks.",
    )
    budget_exceeded_status: Literal[402, 429] = Field(
        429, description="HTTP status when a budget refuses; some clients retry any 429."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level to log, to stderr."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log as text or as one JSON object per line."
    )
    access_log: bool = Field(False, description="Log one line per request.")

    @property
    def most_per_key(self) -> int:
        """Maximum number of requests of one key in flight."""
        return self.max_concurrent_requests_per_key or max(1, self.max_concurrent_requests * 3 // 4)

    @property
    def most_body_bytes(self) -> int:
        """Maximum bytes of large bodies in memory; a body of the maximum size always fits."""
        return max(self.max_body_bytes_in_flight or 256 * 2**20, self.max_body_bytes)

    @property
    def most_upload_bytes(self) -> int:
        """Maximum bytes of forms on disk; one of the maximum size always fits."""
        return max(self.max_upload_bytes_in_flight or 2**30, self.max_upload_bytes)


class LedgerSettings(Ours):
    """Where the ledger is."""

    url: Annotated[str, AfterValidator(ledger_url)] = Field(
        DEFAULT_LEDGER_URL,
        description="`sqlite:///PATH`, a path, or `postgresql://USER:PASSWORD@HOST/DATABASE`.",
    )
    direct_url: Annotated[str, AfterValidator(server_url)] = Field(
        "",
        description="The address of the Postgres server itself, where `url` is that of a pooler such as"
        " PgBouncer: for the shipper's lock, and for that of who reads unread answers.",
    )
    journal: Annotated[str, Field(min_length=1)] = Field(
        DEFAULT_JOURNAL,
        description="Folder for what budgets allow while the ledger is unavailable (`on_ledger_down`);"
        " on this machine, and not on the ledger's disk.",
    )
    lease_s: Annotated[float, Field(ge=1)] = Field(
        30.0, description="A gateway's holds expire this many seconds after its last sign of life."
    )


class TelemetrySettings(Ours):
    """What is exported as telemetry; the standard `OTEL_*` variables override this section."""

    enabled: bool = Field(True, description="Run the shipper with the gateway.")
    endpoint: Annotated[str, AfterValidator(collector_url)] = Field(
        "http://localhost:4318", description="OTLP/HTTP base URL."
    )
    service_name: str = Field("spanledger-gateway", description="`service.name` of our signals.")
    content: Annotated[Literal["off", "redacted", "full"], BeforeValidator(_off)] = Field(
        "off", description="Whether spans contain prompts and answers."
    )
    max_attribute_bytes: Annotated[int, Field(ge=256)] = Field(
        60_000, description="Longer content is truncated; it stays valid JSON."
    )
    export_interval_s: Seconds = Field(5.0, description="Seconds between two metric exports.")
    max_customers: PositiveInt = Field(
        100, description="Customers with their own metric series; the rest share `other`."
    )


class Config(Ours):
    """The whole configuration. `warnings` lists LiteLLM's keys that have no effect here."""

    model_list: tuple[ModelEntry, ...] = Field((), description="Deployments.")
    router_settings: RouterSettings = RouterSettings()
    gateway: GatewaySettings = GatewaySettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    budgets: tuple[BudgetEntry, ...] = Field((), description="Budgets set at start.")
    pricing: PricingSettings = PricingSettings()
    notices: NoticeSettings = NoticeSettings()
    drop_params: bool = Field(False, exclude=True)
    """`litellm_settings.drop_params`."""
    variables: dict[str, str] = Field({}, exclude=True, repr=False)
    """`environment_variables` of the file; they override the process's, as in LiteLLM."""
    warnings: tuple[str, ...] = Field((), exclude=True)
