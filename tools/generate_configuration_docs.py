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
from spanledger.config import litellm_keys
from spanledger.money import format_usd, parse_price, parse_usd
from spanledger.providers.hosts import CLIENT_VARIABLES, HOSTS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"


class Section(NamedTuple):
    """One table of the page: its place in the configuration, and the model behind it."""

    title: str
    model: type[BaseModel]
    prose: str


SECTIONS = (
    Section(
        "model_list",
        config.ModelEntry,
        "A list; each entry is a deployment. Entries with the same `model_name` form a route and "
        "share its traffic by weight.",
    ),
    Section(
        "model_list[].litellm_params",
        config.LiteLLMParams,
        "The names and meanings are LiteLLM's. Any string can be `os.environ/NAME`, which is "
        "replaced by the variable's value. A deployment whose variable or key is not set is off: "
        "the gateway starts without it and reports it at startup, in `config check`, on `/readyz` "
        "and in `spanledger_deployment_up`. Other request fields (`temperature`, `max_tokens`, "
        "`service_tier`, …) are sent if the caller leaves them out. [LiteLLM's "
        "keys](#litellms-keys) lists what happens to every key.",
    ),
    Section(
        "model_list[].model_info",
        config.ModelInfo,
        "A deployment without an `id` gets a digest of its entry as its name.",
    ),
    Section(
        "router_settings",
        config.RouterSettings,
        "The names are LiteLLM's. The same keys can be in `litellm_settings`, where "
        "`request_timeout` means `timeout`; `router_settings` takes precedence.",
    ),
    Section("gateway", config.GatewaySettings, "The gateway's address and its limits."),
    Section("ledger", config.LedgerSettings, "Where money is booked."),
    Section(
        "telemetry",
        config.TelemetrySettings,
        "What is exported with OpenTelemetry. [telemetry.md](telemetry.md) lists the signals.",
    ),
    Section(
        "budgets",
        config.BudgetEntry,
        "A list. Name one subject (`customer`, `key`, `team`, `model` or `provider`), or none "
        "for a budget for everything together. [budgets.md](budgets.md) explains how they work.",
    ),
)

HEAD = """\
<!-- Written by tools/generate_configuration_docs.py; change service/spanledger/config/. -->
# Configuration

The gateway reads one YAML file: `spanledger gateway --config spanledger.yaml`. An existing LiteLLM
proxy file works as it is: its keys keep their names and meaning, and keys that have no effect here
are listed at startup. A key that decides where a request, a key or money goes is never ignored: if
we do not support it, the file is refused. The sections `gateway`, `ledger`, `telemetry` and
`budgets` are spanledger's own; an unknown key in them is an error that names the nearest valid one.
`spanledger config check spanledger.yaml` lists all mistakes at once, without starting anything.

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

Money is in USD and exact: write `12.50`, `"12.50"` or `1200`. Times are in seconds.
"""

SHOWN_STATUS = {
    "obeyed": "obeyed",
    "warned": "listed at startup",
    "refused": "refused",
    "litellm": "obeyed with `spanledger[litellm]`",
}

WILDCARDS = """\
## Wildcards

A `model_name` can contain `*`: `openai/*`, `claude-*`, or `*` for every name without its own entry.
The most specific match serves a request, and `*` in `litellm_params.model` is replaced by the text
it matched. Rows and metrics name models that the price book knows; any other model is `other`, so
callers cannot create an unbounded number of series, and its span has the full name. If the model is
just `*`, the caller names the provider: then an `api_key` in the file is sent to OpenAI only, and
callers cannot choose your own servers.
"""

PROVIDERS = """\
## Providers without LiteLLM

These prefixes are served natively. A key from the environment is sent to its provider's own hosts
only; for your own server, set `api_key`. All other prefixes need
`pip install 'spanledger[litellm]'`.

| model | server | key | another server |
|---|---|---|---|
{rows}

Azure's `api_base` can be the resource, a deployment's full address, or its v1 API. OpenRouter gets
your application's address and name only if you set `OR_SITE_URL` and `OR_APP_NAME`, or
`extra_headers`. {others} are ignored, because clients of this gateway use them for its address: set
`api_base` instead.
"""

LITELLM = """\
## LiteLLM's keys

This is what happens to each key of a LiteLLM proxy file. The loader reads the same table.

| section | keys | here | why, or how |
|---|---|---|---|
{rows}

Prices per token (`input_cost_per_token`, `output_cost_per_token_above_200k_tokens`, …) are obeyed
in `litellm_params` and `model_info`; prices per second, image, character or query are listed at
startup as having no effect. A key that LiteLLM does not have either is listed too, with the nearest
valid one. Under `litellm_params`, it is sent to the provider, as LiteLLM does.
"""

ENVIRONMENT = """\
## Environment variables

| variable | meaning |
|---|---|
| `SPANLEDGER_LEDGER_URL` | The ledger, for every command; overrides `ledger.url`. |
| `os.environ/NAME` in the file | Any variable that the file names, usually for keys. |
| `OTEL_…` | OpenTelemetry's variables override `telemetry`: see [telemetry.md](telemetry.md#where-it-goes). |
| `OPENAI_BASE_URL`, `OPENAI_API_KEY` | Where the worker sends its jobs, and with which virtual key. |

The options in [commands.md](commands.md) override both.
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
    """The whole page."""
    parts = [HEAD, *(table(section) for section in SECTIONS), WILDCARDS, providers()]
    return "\n".join([*parts, litellm_table(), ENVIRONMENT])


def providers() -> str:
    """The native prefixes, with their servers and keys."""
    rows = [
        f"| `{host.prefix}/…` | {f'`{host.base}`' if host.base else 'your own: `api_base`'} |"
        f" {', '.join(f'`{name}`' for name in host.keys)} |"
        f" {', '.join(f'`{name}`' for name in host.base_variables) or '-'} |"
        for host in HOSTS.values()
    ]
    others = " and ".join(f"`{name}`" for name in CLIENT_VARIABLES.values())
    return PROVIDERS.format(rows="\n".join(rows), others=others)


def litellm_table() -> str:
    """What happens to every key of a LiteLLM file."""
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
        f"| `{name}` | {shown_type(field)} | {shown_default(field)} | {sentence(field)} |"
        for name, field in section.model.model_fields.items()
        if model_of(field.annotation) is None and not field.exclude
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
    """A setting's description; generation fails if there is none."""
    if not field.description:
        raise SystemExit(f"a setting has no description: {field!r}")
    return field.description.replace("|", "\\|")


def shown_type(field: FieldInfo) -> str:
    """A type in YAML's terms, with its bounds."""
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
    """Whether the setting is parsed as money."""
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
    """The default as written in YAML."""
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
