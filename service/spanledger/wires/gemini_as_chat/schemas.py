"""Google's schemas as JSON schemas.

Google's is a part of OpenAPI's: its types are in capitals, `nullable` stands for a second type, and
numbers may be texts. Source: `Schema` of ai.google.dev/api/caching.
"""

from __future__ import annotations

from typing import Any

from spanledger.wires.gemini.spelling import GoogleItem, pick, whole

_TEXTS = ("description", "format", "pattern", "title")
_NUMBERS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_VALUES = ("default", "maximum", "minimum")


def json_schema(schema: Any) -> Any:
    """The schema; what is none is an object of anything."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    made: GoogleItem = {}
    kind = schema.get("type")
    if isinstance(kind, str) and kind.upper() != "TYPE_UNSPECIFIED":
        made["type"] = kind.lower()
    elif isinstance(kind, list):
        made["type"] = [str(one).lower() for one in kind]
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    for name in (*_TEXTS, *_VALUES):
        if (value := pick(schema, name)) is not None:
            made[name] = value
    for name in _NUMBERS:
        if (number := whole(pick(schema, name))) is not None:
            made[name] = number
    if isinstance(values := schema.get("enum"), list):
        made["enum"] = [*values, None] if isinstance(made.get("type"), list) else values
        if made.get("format") == "enum":
            del made["format"]
    if (items := schema.get("items")) is not None:
        made["items"] = json_schema(items)
    if isinstance(options := pick(schema, "anyOf"), list):
        made["anyOf"] = [json_schema(option) for option in options]
    if isinstance(properties := schema.get("properties"), dict):
        made["properties"] = {name: json_schema(value) for name, value in properties.items()}
    if isinstance(required := schema.get("required"), list):
        made["required"] = required
    if (more := pick(schema, "additionalProperties")) is not None:
        made["additionalProperties"] = more if isinstance(more, bool) else json_schema(more)
    return made


def is_strict(schema: Any) -> bool:
    """Whether every object names all its properties as required and allows no others."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) and (
        schema.get("additionalProperties") is not False
        or set(schema.get("required") or ()) != set(properties)
    ):
        return False
    return all(map(is_strict, schema.values()))
