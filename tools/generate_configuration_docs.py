"""Write docs/configuration.md from the settings models, so that it cannot go out of date.

`--check` writes nothing and fails when the file is not what would be written. Names, types,
defaults, bounds and meanings come from `spanledger.config`; only the prose around them is here.
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
from spanledger.money import format_usd, parse_price, parse_usd

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"


class Section(NamedTuple):
    """One table of the page: where it stands in the file, and the model behind it."""

    title: str
    model: type[BaseModel]
    prose: str


SECTIONS = (
    Section(
        "model_list",
        config.ModelEntry,
        "A list; each entry is a deployment of a route. Entries with the same `model_name` form "
        "a group, and traffic is shared among them by weight.",
    ),
    Section(
        "model_list[].litellm_params",
        config.LiteLLMParams,
        "LiteLLM's names and meaning. Any string here may be `os.environ/NAME`, which is "
        "replaced by the variable's value; a variable that is not set is an error. Parameters "
        "that are not in this table are handed to LiteLLM when it serves the deployment, and "
        "have no effect on the native providers.",
    ),
    Section(
        "model_list[].model_info",
        config.ModelInfo,
        "Without an `id` a deployment is named by a digest of its entry.",
    ),
    Section(
        "router_settings",
        config.RouterSettings,
        "LiteLLM's names. The same keys are read from `litellm_settings` too, where "
        "`request_timeout` means `timeout`; `router_settings` wins.",
    ),
    Section("gateway", config.GatewaySettings, "The gateway's address and its limits."),
    Section("ledger", config.LedgerSettings, "Where money is booked."),
    Section(
        "telemetry",
        config.TelemetrySettings,
        "What leaves as OpenTelemetry. The signals themselves are listed in "
        "[telemetry.md](telemetry.md).",
    ),
    Section(
        "budgets",
        config.BudgetEntry,
        "A list. Name one subject (`customer`, `key`, `team`, `model` or `provider`), or none "
        "for a budget over everything. [budgets.md](budgets.md) tells how they work.",
    ),
)

HEAD = """\
<!-- Written by tools/generate_configuration_docs.py; change service/spanledger/config.py. -->
# Configuration

One YAML file, given as `spanledger gateway --config spanledger.yaml`. An existing LiteLLM proxy
file works as it is: its keys keep their names and meaning, and keys that have no effect here are
named in one warning. `gateway`, `ledger`, `telemetry` and `budgets` are ours, and an unknown key
in them is an error that names the nearest valid one. `spanledger config check spanledger.yaml`
says all of it without starting anything.

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

ENVIRONMENT = """\
## Environment variables

| variable | meaning |
|---|---|
| `SPANLEDGER_LEDGER_URL` | The ledger, for every command; overrides `ledger.url`. |
| `os.environ/NAME` in the file | Any variable you name there, for keys above all. |
| `OTEL_…` | OpenTelemetry's own win over `telemetry`: see [telemetry.md](telemetry.md#where-it-goes). |
| `OPENAI_BASE_URL`, `OPENAI_API_KEY` | Where the worker sends its jobs, and with which virtual key. |

The flags of [commands.md](commands.md) win over both.
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
    parts = [HEAD, *(table(section) for section in SECTIONS), ENVIRONMENT]
    return "\n".join(parts)


def table(section: Section) -> str:
    """One section: its prose, and a row for each setting that is a plain value."""
    rows = [
        f"| `{name}` | {shown_type(field)} | {shown_default(field)} | {sentence(field)} |"
        for name, field in section.model.model_fields.items()
        if model_of(field.annotation) is None
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
    """The settings model an annotation stands for; it has a table of its own."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def sentence(field: FieldInfo) -> str:
    """What the setting means; a setting without a description fails the generation."""
    if not field.description:
        raise SystemExit(f"a setting has no description: {field!r}")
    return field.description.replace("|", "\\|")


def shown_type(field: FieldInfo) -> str:
    """A type as a reader of YAML knows it, with its bounds."""
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
    """Bounds written on the value of an optional setting or on a list's items."""
    found: list[Any] = []
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            for item in part.__metadata__:
                found += getattr(item, "metadata", None) or [item]
    return found


def is_money(field: FieldInfo) -> bool:
    """Whether the setting is read by one of the two parsers of money."""
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
    names = {str: "text", int: "integer", float: "number", bool: "`true` \\| `false`"}
    return "secret text" if annotation is SecretStr else names[annotation]


def shown_default(field: FieldInfo) -> str:
    """The default as it would be written in the file."""
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
