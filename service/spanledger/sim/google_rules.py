"""What Google's `generateContent` refuses, and with which messages; the simulator does the same.

It knows nothing about how the gateway avoids these errors. Source of the names: the reference at
ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import re

from spanledger.sim.prompt import RefusalError, objects, string

GoogleBody = dict[str, object]

_FIELDS = frozenset(
    {
        "cachedContent",
        "contents",
        "generationConfig",
        "labels",
        "safetySettings",
        "serviceTier",
        "store",
        "systemInstruction",
        "toolConfig",
        "tools",
    }
)
_CONFIG = frozenset(
    {
        "audioTimestamp",
        "candidateCount",
        "enableEnhancedCivicAnswers",
        "frequencyPenalty",
        "imageConfig",
        "logprobs",
        "maxOutputTokens",
        "mediaResolution",
        "presencePenalty",
        "responseJsonSchema",
        "responseLogprobs",
        "responseMimeType",
        "responseModalities",
        "responseSchema",
        "seed",
        "speechConfig",
        "stopSequences",
        "temperature",
        "thinkingConfig",
        "topK",
        "topP",
    }
)
_TOOLS = frozenset(
    {
        "codeExecution",
        "computerUse",
        "fileSearch",
        "functionDeclarations",
        "googleMaps",
        "googleSearch",
        "googleSearchRetrieval",
        "urlContext",
    }
)
_DECLARED = frozenset(
    {
        "behavior",
        "description",
        "name",
        "parameters",
        "parametersJsonSchema",
        "response",
        "responseJsonSchema",
    }
)
_DATA = (
    "text",
    "inlineData",
    "functionCall",
    "functionResponse",
    "fileData",
    "executableCode",
    "codeExecutionResult",
)
_BESIDE = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution"})
_SCHEMA = frozenset(
    {
        "anyOf",
        "default",
        "description",
        "enum",
        "example",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "nullable",
        "pattern",
        "properties",
        "propertyOrdering",
        "required",
        "title",
        "type",
    }
)
_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_CAPITAL = re.compile(r"_([a-z])")
CANDIDATES_MAX = 8
STOPS_MAX = 5


def capital(value: object) -> object:
    """A structure with all names in their usual spelling: the API reads both. What is the caller's own,
    such as arguments and JSON schemas, stays."""
    if isinstance(value, list):
        return [capital(item) for item in value]
    if not isinstance(value, dict):
        return value
    made: dict[str, object] = {}
    for name, inner in value.items():
        own = _CAPITAL.sub(lambda found: found[1].upper(), name)
        kept = own in ("args", "response", "properties") or own.endswith("JsonSchema")
        made[own] = inner if kept else capital(inner)
    return made


def check(body: GoogleBody) -> None:
    """Refuse what the API refuses of a request.

    Raises:
        RefusalError: 400, with Google's message.
    """
    _known(body, _FIELDS, "")
    contents = objects(body.get("contents"))
    if not contents:
        raise _bad("* GenerateContentRequest.contents: contents is not specified")
    for index, content in enumerate(contents):
        _check_content(content, f"contents[{index}]")
    _check_turns(contents)
    config = body.get("generationConfig")
    if isinstance(config, dict):
        _check_config(config)
    elif config is not None:
        raise _bad("Invalid value at 'generation_config' (Message), not an object")
    tools = objects(body.get("tools"))
    for index, tool in enumerate(tools):
        _check_tool(tool, f"tools[{index}]")
    names = [
        string(one.get("name")) for t in tools for one in objects(t.get("functionDeclarations"))
    ]
    if len(set(names)) < len(names):
        raise _bad("Duplicate function declaration found.")
    _check_choice(body, names)


def _check_content(content: GoogleBody, at: str) -> None:
    _known(content, frozenset({"parts", "role"}), f" at '{at}'")
    if content.get("role") not in (None, "user", "model", "function"):
        raise _bad("Please use a valid role: user, model.")
    parts = content.get("parts")
    found = objects([parts] if isinstance(parts, dict) else parts)
    if not found:
        raise _bad(f"* GenerateContentRequest.{at}.parts: contents.parts must not be empty.")
    for number, part in enumerate(found):
        _known(part, _BESIDE.union(_DATA), f" at '{at}.parts[{number}]'")
        given = [name for name in _DATA if name in part]
        if len(given) > 1:
            raise _bad(
                f"Invalid value at '{at}.parts[{number}]' (oneof), oneof field 'data' is set"
            )
        if not given:
            raise _bad(
                f"* GenerateContentRequest.{at}.parts[{number}].data: required oneof field 'data' must"
                " have one initialized field"
            )
        _check_data(part, f"{at}.parts[{number}]")


def _check_data(part: GoogleBody, at: str) -> None:
    blob = part.get("inlineData")
    if isinstance(blob, dict):
        _known(blob, frozenset({"mimeType", "data", "displayName"}), f" at '{at}.inline_data'")
        if not string(blob.get("mimeType")):
            raise _bad(f"* {at}.inline_data.mime_type: must not be empty")
    call = part.get("functionCall")
    if isinstance(call, dict):
        _known(call, frozenset({"id", "name", "args"}), f" at '{at}.function_call'")
        if not isinstance(call.get("args"), dict | None):
            raise _bad(f"Invalid value at '{at}.function_call.args' (type.googleapis.com/Struct)")
    result = part.get("functionResponse")
    if isinstance(result, dict):
        known = frozenset({"id", "name", "response", "parts", "scheduling", "willContinue"})
        _known(result, known, f" at '{at}.function_response'")
        if not string(result.get("name")):
            raise _bad(f"* {at}.function_response.name: Name cannot be empty.")
        if not isinstance(result.get("response"), dict):
            raise _bad(f"Invalid value at '{at}.function_response.response' (Struct)")


def _check_turns(contents: list[GoogleBody]) -> None:
    """As many responses follow a turn of calls as it has calls."""
    for content, after in zip(contents, [*contents[1:], None], strict=True):
        calls = sum("functionCall" in part for part in objects(content.get("parts")))
        if not calls or after is None:
            continue
        results = sum("functionResponse" in part for part in objects(after.get("parts")))
        if results != calls:
            raise _bad(
                "Please ensure that the number of function response parts is equal to the number of"
                " function call parts of the function call turn."
            )


def _check_config(config: GoogleBody) -> None:
    _known(config, _CONFIG, " at 'generation_config'")
    for name, most in (("maxOutputTokens", 2**31), ("candidateCount", CANDIDATES_MAX + 1)):
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise _bad(f"Invalid value at 'generation_config.{name}' (TYPE_INT32), {value!r}")
        if not 0 < value < most:
            raise _bad(f"{name} must be in the range [1, {most}).")
    stops = config.get("stopSequences")
    if isinstance(stops, list) and (len(stops) > STOPS_MAX or "" in stops):
        raise _bad(f"stop_sequences must be at most {STOPS_MAX}, and not empty.")
    kind = config.get("responseMimeType")
    if kind not in (None, "text/plain", "application/json", "text/x.enum"):
        raise _bad(
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes"
        )
    schema = config.get("responseSchema")
    if (schema or config.get("responseJsonSchema")) and kind in (None, "text/plain"):
        raise _bad(f"Function calling with a response mime type: {kind!r} is unsupported")
    if schema is not None:
        _check_schema(schema, "generation_config.response_schema")


def _check_tool(tool: GoogleBody, at: str) -> None:
    _known(tool, _TOOLS, f" at '{at}'")
    for number, declared in enumerate(objects(tool.get("functionDeclarations"))):
        place = f"{at}.function_declarations[{number}]"
        _known(declared, _DECLARED, f" at '{place}'")
        if not _NAME.fullmatch(string(declared.get("name"))):
            raise _bad(f"* GenerateContentRequest.{place}.name: Invalid function name.")
        if "parameters" in declared:
            _check_schema(declared["parameters"], f"{place}.parameters")


def _check_schema(schema: object, at: str) -> None:
    if not isinstance(schema, dict):
        raise _bad(f"Invalid value at '{at}' (Schema), not an object")
    _known(schema, _SCHEMA, f" at '{at}'")
    kind = schema.get("type")
    if kind is not None and string(kind).upper() not in _TYPES:
        raise _bad(f"Invalid value at '{at}.type' (type.googleapis.com/Type), {kind!r}")
    if string(kind).upper() == "ARRAY" and "items" not in schema:
        raise _bad(f"* GenerateContentRequest.{at}.items: missing field.")
    properties = schema.get("properties")
    for name, inner in (properties if isinstance(properties, dict) else {}).items():
        _check_schema(inner, f"{at}.properties[{name}]")
    if "items" in schema:
        _check_schema(schema["items"], f"{at}.items")


def _check_choice(body: GoogleBody, names: list[str]) -> None:
    config = body.get("toolConfig")
    calling = config.get("functionCallingConfig") if isinstance(config, dict) else None
    if not isinstance(calling, dict):
        return
    if calling.get("mode") not in (None, "AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise _bad("Invalid value at 'tool_config.function_calling_config.mode'")
    allowed = calling.get("allowedFunctionNames")
    if not isinstance(allowed, list) or not allowed:
        return
    if calling.get("mode") not in ("ANY", "VALIDATED"):
        raise _bad("Please set allowed_function_names only when function calling mode is ANY.")
    for name in allowed:
        if name not in names:
            raise _bad(f"Allowed function name {name} is not declared.")


def _known(given: GoogleBody, names: frozenset[str], at: str) -> None:
    for name in given:
        if name not in names:
            raise _bad(
                f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
            )


def _bad(message: str) -> RefusalError:
    return RefusalError(400, message)
