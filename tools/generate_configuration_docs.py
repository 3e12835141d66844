"""Write docs/configuration.md from the settings models, so it cannot go out of date.

`--check` writes nothing and fails if the file is out of date. Names, types, defaults, bounds and
meanings come from `spanledger.config`; only the prose around them is here.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from spanledger import config
from spanledger.budgets.scopes import SCOPE_NAMES
from spanledger.config import litellm_keys
from spanledger.config.budgets import OnLedgerDown
from spanledger.config.notices import (
    MAX_DESTINATIONS,
    MailDestination,
    NoticeDestination,
    SlackDestination,
    WebhookDestination,
)
from spanledger.config.pricing import ChargeEntry, ContractEntry
from spanledger.money import format_usd, parse_price, parse_usd
from spanledger.providers.hosts import CLIENT_VARIABLES, HOSTS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"


class Section(NamedTuple):
    """One table of the page: its place in the file, and the model behind it."""

    title: str
    model: type[BaseModel]
    prose: str
    beyond: type[BaseModel] | None = None
    """A model with a table of its own, whose keys this one has as well."""


SECTIONS = (
    Section(
        "model_list",
        config.ModelEntry,
        "A list. Each entry is a deployment of a route. Entries with the same `model_name` form "
        "a group and share its traffic; [routing](routing.md) explains how.",
    ),
    Section(
        "model_list[].litellm_params",
        config.LiteLLMParams,
        "The keys have LiteLLM's names and meaning. Any text can be `os.environ/NAME`, which is "
        "replaced by the value of that environment variable. A deployment whose variable or key is "
        "not set is off: the gateway starts without it, and reports it at startup, in "
        "`config check`, on `/readyz` and in `spanledger_deployment_up`. You can also set fields of "
        "a request here (`temperature`, `max_tokens`, `service_tier`, …); they are sent when the "
        "caller leaves them out. [LiteLLM's keys](#litellms-keys) lists every key.",
    ),
    Section(
        "model_list[].model_info",
        config.ModelInfo,
        "Without an `id`, a deployment is named by a digest of its entry.",
    ),
    Section(
        "router_settings",
        config.RouterSettings,
        "The keys have LiteLLM's names. They are also read from `litellm_settings`, where "
        "`request_timeout` means `timeout`. `router_settings` takes precedence. "
        "[Routing](routing.md) explains what they do.",
    ),
    Section("gateway", config.GatewaySettings, "The gateway's address and its limits."),
    Section("ledger", config.LedgerSettings, "The database of requests and budgets."),
    Section(
        "telemetry",
        config.TelemetrySettings,
        "What is exported as OpenTelemetry, and where to. [Telemetry](telemetry.md) lists the "
        "spans and metrics.",
    ),
    Section(
        "budgets",
        config.BudgetEntry,
        f"A list. Each budget names one subject or several ({', '.join(f'`{n}`' for n in SCOPE_NAMES)}), "
        "or none to limit everything together. [Budgets](budgets.md#scope) explains how they work.",
    ),
    Section(
        "pricing.contracts",
        ContractEntry,
        "A list. What providers bill by contract, in place of the list price. [Prices](pricing.md) "
        "explains which rule applies.",
    ),
    Section(
        "pricing.charges",
        ChargeEntry,
        "A list. What customers are charged, next to what it costs.",
    ),
    Section(
        "notices.destinations",
        NoticeDestination,
        f"A list of up to {MAX_DESTINATIONS}: who is told when a budget has reached a step. "
        "[Notices](notices.md) explains what they get. Any text can be `os.environ/NAME`.",
    ),
    Section(
        "notices.destinations[]: webhook",
        WebhookDestination,
        "What it has in addition.",
        NoticeDestination,
    ),
    Section(
        "notices.destinations[]: slack",
        SlackDestination,
        "What it has in addition.",
        NoticeDestination,
    ),
    Section(
        "notices.destinations[]: mail",
        MailDestination,
        "What it has in addition.",
        NoticeDestination,
    ),
    Section(
        "budgets[].on_ledger_down",
        OnLedgerDown,
        "Without it, requests get 503 while the ledger is unavailable. [Budgets]"
        "(budgets.md#spend-while-the-ledger-is-unavailable) explains what may be spent.",
    ),
)

HEAD = """\
<!-- Written by tools/generate_configuration_docs.py; change service/spanledger/config/. -->
# Configuration

The gateway reads one YAML file. Print an example, check it and run it:

```sh
spanledger config example > spanledger.yaml
spanledger config check spanledger.yaml
spanledger gateway --config spanledger.yaml
```

`config check` lists all mistakes at once, without starting anything.

A LiteLLM proxy file works as it is. Its keys keep their names and meaning, and keys that have no
effect here are listed at startup. A key that decides where a request, an API key or money goes is
never ignored: if it is not supported, the file is refused.

The sections `gateway`, `ledger`, `telemetry`, `budgets`, `pricing` and `notices` are spanledger's own. An unknown key in
them is an error that suggests the closest valid one. A small file:

```yaml
model_list:
  - model_name: chat
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/OPENAI_API_KEY
      rpm: 500
  - model_name: chat-backup
    litellm_params:
      model: anthropic/claude-haiku-4-5
      api_key: os.environ/ANTHROPIC_API_KEY

router_settings:
  cooldown_time: 5
  fallbacks:
    - chat: [chat-backup]

budgets:
  - name: everything
    limit: 100.00
    period: month
    timezone: Europe/Berlin
  - name: each-customer
    customer: "*"
    limit: 5
    period: day
```

Amounts are in USD and exact: write `12.50`, `"12.50"` or `1200`. Times are in seconds.
"""

SHOWN_STATUS = {
    "obeyed": "obeyed",
    "warned": "listed at startup",
    "refused": "refused",
    "litellm": "obeyed with `spanledger[litellm]`",
}

WILDCARDS = """\
## Wildcards

A `model_name` can contain a `*`, so that one entry serves many models:

```yaml
model_list:
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}
  - model_name: "claude-*"
    litellm_params: {model: "anthropic/claude-*", api_key: os.environ/ANTHROPIC_API_KEY}
```

- The most specific name serves a request. `*` alone serves every model that no other entry matches.
- A `*` in `litellm_params.model` is replaced by the text that the `*` in `model_name` matched.
- The ledger and metrics use the model's name if it is in the price book, and `other` if it is not,
  so callers cannot create an unbounded number of series. The span always has the full name.
- With `model: "*"`, the caller chooses the provider. An `api_key` of the entry is then sent to OpenAI
  only, and callers cannot choose servers of your own.
"""

PROVIDERS = """\
## Providers without LiteLLM

These prefixes of `litellm_params.model` are built in. For all others, install the `litellm` extra, in
a clone of the repository:

```sh
uv tool install '.[litellm]'
```

A key from the environment is sent to its provider's own hosts and nowhere else. For a server of your
own, set `api_key`.

| model | server | variable with the key | variable with another server |
|---|---|---|---|
{rows}

- **Azure.** `api_base` can be the resource, the full address of a deployment, or the v1 API.
- **OpenRouter** receives your application's address and name only if you set `OR_SITE_URL` and
  `OR_APP_NAME`, or `extra_headers`.
- {others} are ignored, because your applications use them to find this gateway. Set `api_base`
  instead.
"""

LITELLM = """\
## LiteLLM's keys

How each key of a LiteLLM proxy file is handled. The gateway reads the same table.

| in | keys | status | note |
|---|---|---|---|
{rows}

Prices per token (`input_cost_per_token`, `output_cost_per_token_above_200k_tokens`, …) are obeyed in
`litellm_params` and `model_info`. Prices per second, image, character or query are listed at startup.
A key that LiteLLM does not have either is listed with the closest one that exists. In
`litellm_params`, it is also sent to the provider, as LiteLLM does.
"""

ENVIRONMENT = """\
## Environment variables

| variable | meaning |
|---|---|
| `SPANLEDGER_LEDGER_URL` | The ledger, for every command; overrides `ledger.url`. |
| `os.environ/NAME` in the file | Any variable that you name there, mainly for keys. |
| `OTEL_…` | OpenTelemetry's variables override `telemetry`: see [where it goes](telemetry.md#where-it-goes). |
| `OPENAI_BASE_URL`, `OPENAI_API_KEY` | Where the worker sends its jobs, and the virtual key that it uses. |

Options of [commands](commands.md) override both the file and these variables.
"""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    page = render()
    if "--check" not in sys.argv[1:]:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != page:
        raise SystemExit(f"{TARGET.name} is out of date: run `make generate` and commit it")


def render() -> str:
    """All parts of the page."""
    parts = [HEAD, *(table(section) for section in SECTIONS), WILDCARDS, providers()]
    return "\n".join([*parts, litellm_table(), ENVIRONMENT])


def providers() -> str:
    """Each prefix with its server and the variables it reads."""
    rows = [
        f"| `{host.prefix}/…` | {f'`{host.base}`' if host.base else 'your own: `api_base`'} |"
        f" {', '.join(f'`{name}`' for name in host.keys)} |"
        f" {', '.join(f'`{name}`' for name in host.base_variables) or '-'} |"
        for host in HOSTS.values()
    ]
    others = " and ".join(f"`{name}`" for name in CLIENT_VARIABLES.values())
    return PROVIDERS.format(rows="\n".join(rows), others=others)


def litellm_table() -> str:
    """How each key of a LiteLLM file is handled."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in litellm_keys.TABLE.values():
        groups.setdefault((row.section, row.status, row.note), []).append(row.key)
    rows = [
        f"| {f'`{section}`' if section else 'top of the file'} |"
        f" {' '.join(f'`{key}`' for key in keys)} | {SHOWN_STATUS[status]} | {note or '-'} |"
        for (section, status, note), keys in groups.items()
    ]
    return LITELLM.format(rows="\n".join(rows))


def table(section: Section) -> str:
    """One section: its prose, and a row for each setting that is not a section itself."""
    rows = [
        f"| `{field.alias or name}` | {shown_type(field)} | {shown_default(field)} | {sentence(field)} |"
        for name, field in section.model.model_fields.items()
        if model_of(field.annotation) is None
        and not field.exclude
        and not (section.beyond and name in section.beyond.model_fields)
    ]
    return "\n".join(
        [
            f"## `{section.title}`\n",
            f"{section.prose}\n",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The settings model of an annotation, which has its own table; or None."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def sentence(field: FieldInfo) -> str:
    """The description of the setting; a missing one fails the generation."""
    if not field.description:
        raise SystemExit(f"a setting has no description: {field!r}")
    return field.description.replace("|", "\\|")


def shown_type(field: FieldInfo) -> str:
    """A type in the terms of YAML, with its bounds."""
    if is_money(field):
        return "USD"
    text = plain(field.annotation)
    bounds = [
        f"{sign} {getattr(item, name):g}"
        for item in [*field.metadata, *nested_metadata(field.annotation)]
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(item, name, None) is not None
    ]
    return f"{text}, {' and '.join(bounds)}" if bounds else text


def nested_metadata(annotation: Any) -> list[Any]:
    """The bounds of an optional setting's value or of a list's items."""
    found: list[Any] = []
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            for item in part.__metadata__:
                found += getattr(item, "metadata", None) or [item]
    return found


def is_money(field: FieldInfo) -> bool:
    """Whether one of the two parsers of money reads the setting."""
    parsers = (parse_usd, parse_price)
    metadata = [*field.metadata, *nested_metadata(field.annotation)]
    return any(getattr(item, "func", None) in parsers for item in metadata)


def plain(annotation: Any) -> str:
    """An annotation in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return plain(parts[0])
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return plain(next(part for part in parts if part is not types.NoneType))
    if origin is tuple:
        return f"list of {plain(parts[0])}"
    if origin is dict:
        return f"mapping to {plain(parts[1])}"
    if annotation is Any:
        return "anything"
    names = {str: "text", int: "integer", float: "number", bool: "`true` \\| `false`"}
    return "secret text" if annotation is SecretStr else names[annotation]


def shown_default(field: FieldInfo) -> str:
    """The default as written in a file."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ((), "", {}):
        return "none"
    if is_money(field):
        return f"`{format_usd(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main()
