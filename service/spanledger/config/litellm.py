"""Translates LiteLLM's sections into ours: aliases, credentials, variables, shapes, budgets.

This module and the table in `litellm_keys` decide what a section means; types and bounds are in
`sections`. Mistakes are collected, never raised.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from spanledger.config import litellm_keys
from spanledger.config.fields import nearest
from spanledger.config.litellm_keys import LiteLLMKey, row_of
from spanledger.config.sections import LiteLLMParams, RouterSettings

SECTIONS = ("litellm_settings", "general_settings")
_ENVIRONMENT = "os.environ/"
_ADDRESSES = frozenset({"api_base", "base_url", "api_key", "api_version", "custom_llm_provider"})
_SERVED_MODES = (
    "chat",
    "completion",
    "embedding",
    "embeddings",
    "responses",
    "moderation",
    "rerank",
    "image_generation",
    "image_edit",
    "audio_speech",
    "audio_transcription",
)
_SHELL = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?")


class Problems(list[str]):
    """The mistakes and warnings of a file, each with its place."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []


def without_nulls(value: Any) -> Any:
    """A value without nulls, at every depth: `timeout:` without a value counts as not given."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


class Environment:
    """The process's variables and the file's `environment_variables`, which take precedence."""

    def __init__(self, environ: Mapping[str, str], section: Any, problems: Problems) -> None:
        self._environ = environ
        self.own: dict[str, str] = {}
        if section is None:
            return
        if not isinstance(section, dict):
            problems.append("environment_variables: expected a mapping of names to values")
            return
        for name, value in section.items():
            if isinstance(value, str) and value.startswith(_ENVIRONMENT):
                value = environ.get(value.removeprefix(_ENVIRONMENT))
            if value is not None and not isinstance(value, dict | list):
                self.own[str(name)] = str(value)

    def get(self, name: str) -> str | None:
        """A variable's value."""
        return self.own.get(name, self._environ.get(name))

    def resolve(self, value: Any, unset: list[str]) -> Any:
        """A value with each `os.environ/NAME` replaced; names not set are added to `unset`."""
        if isinstance(value, dict):
            return {key: self.resolve(item, unset) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, unset) for item in value]
        if isinstance(value, str) and value.startswith(_ENVIRONMENT):
            name = value.removeprefix(_ENVIRONMENT)
            found = self.get(name)
            if not found:
                unset.append(name)
            return found or None
        return value


def entry_of(
    entry: Any,
    place: str,
    environment: Environment,
    credentials: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    problems: Problems,
) -> Any:
    """An entry of `model_list` in our format; one that is not a mapping is left to validation."""
    if not isinstance(entry, dict):
        return entry
    entry = {**without_nulls(entry)}
    params = entry.get("litellm_params")
    if not isinstance(params, dict):
        return entry
    params = {**defaults, **params}
    name = params.pop("litellm_credential_name", None)
    if name is not None:
        if name in credentials:
            params = {**credentials[name], **params}
        else:
            problems.append(
                f"{place}.litellm_params.litellm_credential_name: credential_list has no entry"
                f" {name!r}{nearest(str(name), list(credentials))}"
            )
    _join_aliases(params, place, problems)
    params, unset = _resolved(params, environment)
    key = params.get("api_key")
    if isinstance(key, str) and _SHELL.fullmatch(key):
        variable = key.strip("${}")
        problems.warnings.append(
            f"{place}.litellm_params.api_key is literally {key!r}, because shell variables are not"
            f" expanded; write os.environ/{variable}"
        )
        unset["api_key"] = variable
        del params["api_key"]
    if unset:
        params["unset"] = unset
    entry["litellm_params"] = params
    info = entry.get("model_info")
    if "base_model" in params:
        base_model = params.pop("base_model")
        info = {"base_model": base_model, **(info if isinstance(info, dict) else {})}
    if info is not None:
        entry["model_info"] = environment.resolve(info, [])
    return entry


def _join_aliases(params: dict[Any, Any], place: str, problems: Problems) -> None:
    """`base_url` is an alias of `api_base`, and `headers` of `extra_headers`."""
    url = params.pop("base_url", None)
    if url is not None and params.setdefault("api_base", url) != url:
        problems.append(
            f"{place}.litellm_params: api_base and base_url differ; they mean the same, keep one"
        )
    drops = params.get("drop_params")
    if isinstance(drops, list):  # LiteLLM treats any list as true; the author means its items
        params["drop_params"] = True
        own_drops = params.get("additional_drop_params")
        params["additional_drop_params"] = [*(own_drops or []), *drops]
    headers = params.pop("headers", None)
    if isinstance(headers, dict):
        own = params.get("extra_headers")
        params["extra_headers"] = {**headers, **(own if isinstance(own, dict) else {})}


def _resolved(
    params: dict[Any, Any], environment: Environment
) -> tuple[dict[Any, Any], dict[str, str]]:
    """Parameters with variables replaced by their values, and those whose variable is not set."""
    found: dict[Any, Any] = {}
    unset: dict[str, str] = {}
    for key, value in params.items():
        missing: list[str] = []
        resolved = environment.resolve(value, missing)
        if missing:
            unset[str(key)] = missing[0]
        if resolved is not None:
            found[key] = resolved
        elif key == "model":
            found[key] = value  # still shown in reports
    return found, unset


def credentials_of(section: Any, problems: Problems) -> dict[str, dict[str, Any]]:
    """`credential_list` by name."""
    found: dict[str, dict[str, Any]] = {}
    for index, item in enumerate(section if isinstance(section, list) else []):
        item = without_nulls(item)
        name = item.get("credential_name") if isinstance(item, dict) else None
        values = item.get("credential_values") if isinstance(item, dict) else None
        if isinstance(name, str) and isinstance(values, dict):
            found[name] = values
        else:
            problems.append(
                f"credential_list.{index}: expected credential_name and credential_values"
            )
    if section is not None and not isinstance(section, list):
        problems.append("credential_list: expected a list")
    return found


def router_settings(
    data: Mapping[Any, Any], environment: Environment, problems: Problems
) -> dict[str, Any]:
    """The routing settings. Like LiteLLM, we also read routing keys from `litellm_settings`;
    `router_settings` takes precedence."""
    shared = section_of(data, "litellm_settings", problems)
    own = section_of(data, "router_settings", problems)
    taken = {
        str(key): value
        for key, value in shared.items()
        if key in RouterSettings.model_fields or key == "default_litellm_params"
        if (row := row_of(litellm_keys.SETTINGS, str(key))) and row.status == "obeyed"
    }
    for key in ("content_policy_fallbacks", "routing_strategy", "model_group_alias"):
        if key in shared:
            taken.setdefault(key, shared[key])
    if "request_timeout" in shared:
        taken.setdefault("timeout", shared["request_timeout"])
    settings: dict[str, Any] = {}
    for key, value in {**taken, **own}.items():
        if key not in RouterSettings.model_fields and key != "default_litellm_params":
            continue  # it has no effect here, so its variable may be unset
        unset: list[str] = []
        settings[key] = environment.resolve(value, unset)
        problems.extend(
            f"router_settings.{key}: the environment variable {name} is not set; export it first"
            for name in unset
        )
    _shape_fallbacks(settings, problems)
    return settings


_FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def _shape_fallbacks(settings: dict[str, Any], problems: Problems) -> None:
    """Turn targets into names, and `"*"` into the default for routes without fallbacks, as in
    LiteLLM."""
    for name in _FALLBACKS:
        chains = settings.get(name)
        if not isinstance(chains, list):
            continue
        shaped: list[Any] = []
        for mapping in chains:
            if not isinstance(mapping, dict):
                shaped.append(mapping)
                continue
            kept: dict[Any, Any] = {}
            for route, targets in mapping.items():
                names = _target_names(targets, f"router_settings.{name}", problems)
                if route == "*" and name == "fallbacks":
                    default = settings.get("default_fallbacks") or []
                    settings["default_fallbacks"] = list(dict.fromkeys([*default, *names]))
                else:
                    kept[route] = names
            if kept:
                shaped.append(kept)
        settings[name] = shaped


def _target_names(targets: Any, place: str, problems: Problems) -> Any:
    if isinstance(targets, str | dict):
        targets = [targets]
    if not isinstance(targets, list):
        return targets
    names: list[Any] = []
    for target in targets:
        if not isinstance(target, dict):
            names.append(target)
            continue
        model = target.get("model")
        if not isinstance(model, str):
            problems.append(f"{place}: a fallback given as a mapping needs `model`")
            continue
        names.append(model)
        for key in target.keys() - {"model"}:
            if key in _ADDRESSES:
                problems.append(
                    f"{place}: the fallback {model!r} sets {key}; give {model!r} its own entry in"
                    f" model_list and set {key} there"
                )
            else:
                problems.warnings.append(f"{place}: {key} of the fallback {model!r} has no effect")
    return names


def drop_params(data: Mapping[Any, Any]) -> bool:
    """`litellm_settings.drop_params`."""
    return section_of(data, "litellm_settings", None).get("drop_params") in (True, "true", "True")


def user_headers(data: Mapping[Any, Any]) -> list[str]:
    """The headers that name a request's user, as `general_settings` has them."""
    settings = section_of(data, "general_settings", None)
    mappings = settings.get("user_header_mappings")
    found = [
        mapping.get("header_name")
        for mapping in (mappings if isinstance(mappings, list) else [mappings])
        if isinstance(mapping, dict)
    ]
    return [name for name in (*found, settings.get("user_header_name")) if isinstance(name, str)]


def is_slip(key: str, name: str, given: Mapping[Any, Any]) -> bool:
    """Whether `key` is the misspelt name of a setting that is missing in what is given."""
    if name in given:
        return False
    return key in difflib.get_close_matches(name, [str(k) for k in given], n=1, cutoff=0.75)


def review(data: Mapping[Any, Any], problems: Problems) -> None:
    """Warn of the keys that have no effect here, and refuse those that LiteLLM obeys and that
    decide where a request, a key or money goes."""
    for section in (*SECTIONS, "router_settings"):
        settings = section_of(data, section, None)
        for key, value in settings.items():
            _judge(section, str(key), value, problems)
    for key, value in data.items():
        row = row_of(litellm_keys.TOP, str(key))
        if row is not None and row.status == "warned" and value:
            problems.warnings.append(_warning(row, str(key)))
    entries = data.get("model_list")
    noted: set[str] = set()
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if not isinstance(entry, dict):
            continue
        place = f"model_list.{index}"
        for key in entry.keys() - {"model_name", "litellm_params", "model_info"}:
            if any(is_slip(str(key), n, entry) for n in ("model_name", "litellm_params")):
                continue  # reported as missing
            if near := nearest(str(key), litellm_keys.keys_of(litellm_keys.ENTRY), cutoff=0.8):
                problems.append(f"unknown key '{place}.{key}'{near}")
            elif key in LiteLLMParams.model_fields:
                problems.append(f"{place}.{key}: it belongs under litellm_params")
            elif str(key) not in noted:
                noted.add(str(key))
                problems.warnings.append(f"model_list[].{key} has no effect")
        info = entry.get("model_info")
        for key, value in (info if isinstance(info, dict) else {}).items():
            row = row_of(litellm_keys.INFO, str(key))
            if row is not None and row.status == "refused" and value not in (None, False, []):
                problems.append(f"{place}.model_info.{key}: {row.note}")
            if key == "mode" and isinstance(value, str) and value not in _SERVED_MODES:
                problems.warnings.append(
                    f"{place}.model_info.mode is {value!r}, which no endpoint serves"
                )
            if row is None and re.search("cost|pric", str(key), re.IGNORECASE):
                problems.warnings.append(
                    f"{place}.model_info.{key} has no effect: set prices with input_cost_per_token"
                    " and output_cost_per_token"
                )


def _judge(section: str, key: str, value: Any, problems: Problems) -> None:
    row = row_of(section, key)
    if row is None:
        known = litellm_keys.keys_of(section)
        near = nearest(key, known, cutoff=0.85)
        hint = f" ({near.removeprefix('; ')})" if near else ""
        problems.warnings.append(f"{section}.{key} has no effect{hint}")
    elif row.status == "refused" and value not in (None, False, "", [], {}):
        problems.append(f"{section}.{key}: {row.note}")
    elif row.status == "warned":
        problems.warnings.append(_warning(row, f"{section}.{key}"))


def _warning(row: LiteLLMKey, place: str) -> str:
    return f"{place} has no effect" + (f": {row.note}" if row.note else "")


def section_of(data: Mapping[Any, Any], name: str, problems: Problems | None) -> dict[Any, Any]:
    """A section without its nulls. One that is not a mapping is a problem, reported once."""
    value = data.get(name)
    if value is None or isinstance(value, dict):
        return {key: without_nulls(item) for key, item in (value or {}).items() if item is not None}
    if problems is not None:
        problems.append(f"{name}: expected a mapping of settings, got {type(value).__name__}")
    return {}
