"""The only reader of files and environment: one frozen `Config`, checked whole before anything runs.

LiteLLM's own keys keep their names and meaning, so an existing LiteLLM proxy file works; ours
(`gateway`, `ledger`, `telemetry`, `budgets`) stand beside them. An unknown key of ours is an
error with the nearest valid name; a key of LiteLLM's we do not support is reported in one warning.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from spanledger.config_routing import Fallbacks, Retries, RoutingKeys
from spanledger.errors import ConfigError, UsageError
from spanledger.money import parse_price, parse_usd

DEFAULT_CONFIG = Path("spanledger.yaml")
DEFAULT_LEDGER_URL = "sqlite:///.spanledger/ledger.db"
"""Relative to the working folder; four slashes make a path absolute."""


def _nameable(value: str) -> str:
    if not value or not value.isprintable() or value != value.strip():
        raise ValueError("must be printable characters without spaces around them, at least one")
    if "`" in value:
        raise ValueError("must have no backtick: dashboards put names between two of them")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (
        parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(
            "must be like https://app.example (scheme, host and port, no path), or '*'"
        )
    return value


def _not_each(value: str) -> str:
    if value == "*":
        raise ValueError("'*' is reserved: it means each")
    return value


Name = Annotated[str, AfterValidator(_nameable), Field(max_length=256)]
"""Goes into terminals, labels and answers."""
Owner = Annotated[Name, AfterValidator(partial(unicodedata.normalize, "NFC"))]
"""A customer or team: the same one, however its accents are written."""
Origin = Annotated[str, AfterValidator(_origin)]
Usd = Annotated[int, BeforeValidator(parse_usd)]
PicoUsd = Annotated[int, BeforeValidator(parse_price)]
Seconds = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
M = TypeVar("M", bound=BaseModel)


class _Ours(BaseModel):
    """A section of ours: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _LiteLLM(BaseModel):
    """A section of LiteLLM's: unknown keys are kept and reported."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class LiteLLMParams(_LiteLLM):
    """`litellm_params` of a deployment."""

    model: Name = Field(description="Provider and model, as `openai/gpt-4o-mini`.")
    api_base: str | None = Field(None, description="Base URL; a compatible server for `openai/…`.")
    api_key: SecretStr | None = Field(
        None, description="The provider's key; write `os.environ/NAME` to take it from there."
    )
    custom_llm_provider: str | None = Field(None, description="Provider, when the model lacks it.")
    rpm: PositiveInt | None = Field(None, description="Requests a minute this deployment takes.")
    tpm: PositiveInt | None = Field(None, description="Tokens a minute this deployment takes.")
    timeout: Seconds | None = Field(None, description="Seconds for one attempt.")
    stream_timeout: Seconds | None = Field(
        None, description="Seconds to the first content of a stream; else `timeout`."
    )
    num_retries: Retries | None = Field(
        None, description="Retries after a failure of this deployment; wins over the router's."
    )
    weight: Annotated[float, Field(ge=0)] | None = Field(
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


class ModelInfo(_LiteLLM):
    """`model_info` of a deployment."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Name | None = Field(None, description="Stable name of the deployment in all signals.")
    base_model: str | None = Field(
        None,
        description="The model behind the deployment's name, such as `azure/gpt-4o-2024-08-06`:"
        " its price is charged.",
    )


class ModelEntry(_LiteLLM):
    """One entry of `model_list`: a deployment of a route."""

    model_name: Name = Field(description="The route: what callers send as `model`.")
    litellm_params: LiteLLMParams
    model_info: ModelInfo = ModelInfo()


class RouterSettings(_LiteLLM, RoutingKeys):
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


class GatewaySettings(_Ours):
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
    total_timeout_s: Seconds = Field(600.0, description="Deadline of a request, all tries.")
    stream_idle_timeout_s: Seconds = Field(60.0, description="Longest silence within a stream.")
    shutdown_grace_s: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Seconds requests in flight get to end after SIGTERM."
    )
    default_customer: Annotated[Owner, AfterValidator(_not_each), Field(max_length=128)] = Field(
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


class LedgerSettings(_Ours):
    """Where the ledger is."""

    url: str = Field(DEFAULT_LEDGER_URL, description="`sqlite:///PATH`.")
    lease_s: Annotated[float, Field(ge=1)] = Field(
        30.0, description="Seconds after a gateway's last sign of life when its holds expire."
    )


class TelemetrySettings(_Ours):
    """What leaves as telemetry; the standard `OTEL_*` variables win over this section."""

    enabled: bool = Field(True, description="Run the shipper beside the gateway.")
    endpoint: str = Field("http://localhost:4318", description="OTLP/HTTP base URL.")
    service_name: str = Field("spanledger-gateway", description="`service.name` of our signals.")
    content: Literal["off", "redacted", "full"] = Field(
        "off", description="Whether prompts and answers go on spans."
    )
    max_attribute_bytes: Annotated[int, Field(ge=256)] = Field(
        60_000, description="Content longer than this is cut, still valid JSON."
    )
    export_interval_s: Seconds = Field(5.0, description="Seconds between two metric exports.")
    max_customers: PositiveInt = Field(
        100, description="Customers with a metric series of their own; the rest share `other`."
    )


class BudgetEntry(_Ours):
    """A budget, as in `budgets.yaml` and under `budgets` in the config."""

    name: Name = Field(description="Unique name.", max_length=128)
    customer: Owner | None = Field(None, description="Subject; `*` = each customer its own.")
    key: Name | None = Field(None, description="Subject: a key's id (`key_…`).")
    team: Owner | None = Field(None, description="Subject: a team.")
    model: Name | None = Field(None, description="Subject: a provider's model.")
    provider: Name | None = Field(None, description="Subject: a provider.")
    limit: Usd = Field(description="USD a period, like `12.50`.")
    period: Literal["day", "week", "month"] = Field("month", description="When it renews.")
    timezone: str = Field("UTC", description="IANA zone the period is reckoned in.")
    action: Literal["block", "warn"] = Field("block", description="What happens at the limit.")
    thresholds: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (50, 80, 95), description="Percentages that are announced."
    )
    strict: bool = Field(False, description="Lower `max_tokens` to what the money buys.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, available_timezones

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            near = nearest(value, sorted(available_timezones()))
            raise ValueError(f"{value!r} is not an IANA time zone{near}") from None
        return value


SUBJECTS = ("customer", "key", "team", "model", "provider")
"""Keys of a budget that say whom it limits; at most one is given."""


class Config(_Ours):
    """The whole configuration. `warnings` names keys of LiteLLM's that have no effect here."""

    model_list: tuple[ModelEntry, ...] = Field((), description="Deployments.")
    router_settings: RouterSettings = RouterSettings()
    gateway: GatewaySettings = GatewaySettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    budgets: tuple[BudgetEntry, ...] = Field((), description="Budgets set at start.")
    warnings: tuple[str, ...] = Field((), exclude=True)


LITELLM_SECTIONS = (
    "litellm_settings",
    "general_settings",
    "environment_variables",
    "callback_settings",
    "credential_list",
    "mcp_servers",
    "guardrails",
    "vector_store_registry",
)
"""Top-level keys of a LiteLLM proxy file that are accepted, and reported where they hold keys."""


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.

    `SPANLEDGER_LEDGER_URL` in the environment overrides `ledger.url`.

    Raises:
        ConfigError: with every problem found, one a line, each with its place in the file.
    """
    return parse_config(read_yaml(path), os.environ if environ is None else environ, str(path))


def load_budgets(path: Path) -> tuple[BudgetEntry, ...]:
    """Read `budgets.yaml`: a list of budgets, or a mapping with a `budgets` list.

    Raises:
        ConfigError: as `load_config`.
    """
    data = read_yaml(path)
    entries = data.get("budgets") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected a list of budgets, or `budgets:` with a list")
    return parse_config({"budgets": entries}, {}, str(path)).budgets


def validate_budget(data: Mapping[str, Any]) -> BudgetEntry:
    """Check one budget given on the command line. Raises UsageError."""
    given = {key: value for key, value in data.items() if value is not None}
    try:
        return parse_config({"budgets": [given]}, {}, "").budgets[0]
    except ConfigError as error:
        lines = (
            line.removeprefix(": ").removeprefix("budgets.0.") for line in str(error).splitlines()
        )
        raise UsageError("\n".join(lines)) from None


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises ConfigError when it cannot be read or parsed."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = "give one with --config, or print one to begin with: spanledger config example"
        missing = f"; {hint}" if path == DEFAULT_CONFIG else ""
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}{missing}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path} is not valid YAML: {where}{error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is not valid YAML: it is nested too deep") from None


def parse_config(data: Any, environ: Mapping[str, str], source: str) -> Config:
    """Check a parsed file. Raises ConfigError."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: expected a mapping at the top, got {type(data).__name__}")
    data = {key: value for key, value in data.items() if value is not None}  # a bare `budgets:`
    foreign = {key: data.pop(key) for key in LITELLM_SECTIONS if key in data}
    data["router_settings"] = _router_settings(data, foreign)
    data["model_list"] = [_from_environ(e, environ, source) for e in data.get("model_list") or ()]
    if url := environ.get("SPANLEDGER_LEDGER_URL"):
        data["ledger"] = {**(data.get("ledger") or {}), "url": url}
    data.pop("warnings", None)
    config = _validated(Config, data, source)
    _check_references(config, source)
    return config.model_copy(update={"warnings": tuple(_unsupported(config, foreign))})


def nearest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the closest valid choice, or nothing."""
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def _router_settings(data: dict[str, Any], foreign: dict[str, Any]) -> dict[str, Any]:
    """LiteLLM reads the same routing keys from `litellm_settings`; ours from both, too."""
    settings = foreign.get("litellm_settings")
    shared = settings if isinstance(settings, dict) else {}
    taken = {key: shared.pop(key) for key in RouterSettings.model_fields if key in shared}
    if "request_timeout" in shared:
        taken.setdefault("timeout", shared.pop("request_timeout"))
    return {**taken, **(data.get("router_settings") or {})}


def _from_environ(value: Any, environ: Mapping[str, str], source: str) -> Any:
    """Replace LiteLLM's `os.environ/NAME` strings by the variable's value."""
    if isinstance(value, dict):
        return {key: _from_environ(item, environ, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_environ(item, environ, source) for item in value]
    if isinstance(value, str) and value.startswith("os.environ/"):
        name = value.removeprefix("os.environ/")
        if name not in environ:
            raise ConfigError(f"{source}: the variable {name} is not set; export it first")
        return environ[name]
    return value


def _check_references(config: Config, source: str) -> None:
    settings = config.router_settings
    named = [entry.model_name for entry in config.model_list]
    routes = [*named, *settings.model_group_alias]
    problems = [
        f"router_settings.model_group_alias.{alias}: no deployment has model_name {target!r}"
        + nearest(target, named)
        for alias, target in settings.aliases.items()
        if target not in named
    ]
    problems += [
        f"router_settings.model_group_retry_policy: no deployment has model_name {route!r}"
        + nearest(route, routes)
        for route in settings.model_group_retry_policy
        if route not in routes
    ]
    for name in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        for mapping in getattr(settings, name):
            for key, targets in mapping.items():
                problems += [
                    f"router_settings.{name}: no deployment has model_name {route!r}"
                    + nearest(route, routes)
                    for route in (key, *targets)
                    if route not in routes
                ]
    problems += [
        f"router_settings.default_fallbacks: no deployment has model_name {route!r}"
        + nearest(route, routes)
        for route in settings.default_fallbacks
        if route not in routes
    ]
    ids = [entry.model_info.id for entry in config.model_list if entry.model_info.id]
    problems += [
        f"model_info.id {i!r} is used twice" for i in sorted({i for i in ids if ids.count(i) > 1})
    ]
    names = [budget.name for budget in config.budgets]
    problems += [
        f"budget {n!r} is set twice" for n in sorted({n for n in names if names.count(n) > 1})
    ]
    for budget in config.budgets:
        subjects = [s for s in SUBJECTS if getattr(budget, s)]
        # `customer:` with nothing behind it must not become a limit on everybody together.
        problems += [
            f"budget {budget.name!r}: {s} is empty; name one, write '*' for each, or leave it out"
            for s in SUBJECTS
            if s in budget.model_fields_set and s not in subjects
        ]
        if len(subjects) > 1:
            problems.append(f"budget {budget.name!r} names {' and '.join(subjects)}; choose one")
    if problems:
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems))


def _unsupported(config: Config, foreign: dict[str, Any]) -> list[str]:
    """Keys of LiteLLM's that have no effect here, dotted, sorted."""
    found: set[str] = set()
    for section, value in foreign.items():
        if isinstance(value, dict):
            found |= {f"{section}.{key}" for key in value}
        elif value:
            found.add(section)
    # LiteLLM has many more keys here; only a near miss of one of ours can be a slip of the pen.
    for key in config.router_settings.model_extra or ():
        slip = difflib.get_close_matches(key, RouterSettings.model_fields, n=1, cutoff=0.85)
        found.add(f"router_settings.{key}" + (f" (did you mean {slip[0]!r}?)" if slip else ""))
    for entry in config.model_list:
        found |= {f"model_list.{key}" for key in entry.model_extra or ()}
    return sorted(found)


def _validated(model: type[M], data: dict[str, Any], source: str) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_describe(model, item) for item in error.errors(include_input=False)]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def _describe(model: type[BaseModel], item: Any) -> str:
    """One validation problem as `place: what is wrong; what to write instead`."""
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        fields = _fields_at(model, parents)
        return f"unknown key {place!r}{nearest(str(key), fields)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}"


def _fields_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """The valid keys of the section that `path` leads to."""
    current = model
    for part in path:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        current = next(
            kind
            for kind in (annotation, *getattr(annotation, "__args__", ()))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return list(current.model_fields)
