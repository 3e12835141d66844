"""What LiteLLM's keys mean here, and every mistake of a file at once."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanledger.config import Config, load_config, matches, parse_config, served_by
from spanledger.config.litellm_keys import (
    GENERAL,
    INFO,
    PARAMS,
    ROUTER,
    SETTINGS,
    TABLE,
    TOP,
    row_of,
)
from spanledger.errors import ConfigError
from spanledger.routing.plan import Plan


def config_of(environ: dict[str, str] | None = None, **data: Any) -> Config:
    """A parsed file."""
    return parse_config(data, environ or {}, "f.yaml")


def entry(model: str = "openai/gpt-4o", name: str = "a", **params: Any) -> dict[str, Any]:
    """An entry of `model_list`."""
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def problems_of(**data: Any) -> list[str]:
    """The problems of a file, without its name."""
    with pytest.raises(ConfigError) as caught:
        config_of(**data)
    return [line.removeprefix("f.yaml: ") for line in str(caught.value).splitlines()]


# every key has a row ----------------------------------------------------------------------


def parsed(path: str) -> ast.Module:
    """A LiteLLM module, parsed but not run: importing it takes seconds."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0]) / path
    return ast.parse(file.read_text(encoding="utf-8"))


def _fields(path: str, *names: str) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef) and node.name in names:
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield item.target.id


def _router_parameters() -> Iterator[str]:
    for node in ast.walk(parsed("router.py")):
        if isinstance(node, ast.ClassDef) and node.name == "Router":
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    yield from (a.arg for a in (*item.args.args, *item.args.kwonlyargs))


def _module_settings() -> Iterator[str]:
    """Public variables of the module with plain settings, except for lists of models."""
    for node in parsed("__init__.py").body:
        target: ast.expr | None = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        name = target.id if isinstance(target, ast.Name) else ""
        is_setting = re.fullmatch(r"[a-z][a-z0-9_]*", name)
        if is_setting and not re.search(r"_models$|_llms$|_list_set$|^all_|^open_ai_", name):
            yield name


LITELLM_KEYS = [
    (TOP, "proxy/_types.py", ("ConfigYAML",)),
    (GENERAL, "proxy/_types.py", ("ConfigGeneralSettings",)),
    (ROUTER, "types/router.py", ("UpdateRouterConfig", "RouterConfig")),
    (PARAMS, "types/router.py", ("GenericLiteLLMParams", "CredentialLiteLLMParams")),
    (PARAMS, "types/router.py", ("LiteLLM_Params", "LiteLLMParamsTypedDict")),
    (PARAMS, "types/utils.py", ("CustomPricingLiteLLMParams",)),
    (INFO, "types/router.py", ("ModelInfo",)),
]


@pytest.mark.parametrize(
    ("section", "path", "classes"), LITELLM_KEYS, ids=[str(keys[2][0]) for keys in LITELLM_KEYS]
)
def test_every_key_of_litellms_models_has_a_row(
    section: str, path: str, classes: tuple[str, ...]
) -> None:
    """A key that LiteLLM documents is obeyed, warned of or refused, never silently ignored."""
    keys = {key for key in _fields(path, *classes) if key != "model_config"}

    assert keys
    assert {key for key in keys if row_of(section, key) is None} == set()


def test_every_parameter_of_litellms_router_has_a_row() -> None:
    """`router_settings` are the parameters of its constructor."""
    keys = set(_router_parameters()) - {"self"}

    assert len(keys) > 40
    assert {key for key in keys if row_of(ROUTER, key) is None} == set()


def test_every_setting_of_litellms_module_has_a_row() -> None:
    """`litellm_settings` sets variables of the module."""
    keys = set(_module_settings())

    assert len(keys) > 150
    assert {key for key in keys if row_of(SETTINGS, key) is None} == set()


def test_the_table_is_the_loaders() -> None:
    """A `refused` key is refused, a `warned` one is named in a warning, an `obeyed` one does neither."""
    for section in (GENERAL, SETTINGS, ROUTER):
        for row in (row for row in TABLE.values() if row.section == section):
            data: dict[str, Any] = {section: {row.key: "x"}}
            if row.status == "refused":
                assert any(f"{section}.{row.key}: {row.note}" in p for p in problems_of(**data))
            elif row.status == "warned":
                warned = config_of(**data).warnings
                assert any(w.startswith(f"{section}.{row.key} has no effect") for w in warned)


# shapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["num_retries", "timeout", "fallbacks", "allowed_fails", "cooldown_time", "retry_after"]
)
@pytest.mark.parametrize("section", ["router_settings", "litellm_settings"])
def test_null_says_nothing(key: str, section: str) -> None:
    """As if the key were not there."""
    given: dict[str, Any] = {section: {key: None}}
    assert config_of(**given) == config_of()


def test_nulls_of_an_entry_say_nothing() -> None:
    """Empty keys count as absent, at every depth."""
    given = {**entry(timeout=None, rpm=None, api_base=None, extra_body=None), "model_info": None}

    assert config_of(model_list=[given, None]) == config_of(model_list=[entry()])


@pytest.mark.parametrize(
    ("fallbacks", "found"),
    [
        ([{"a": ["b"]}], ({"a": ("b",)},)),
        ([{"a": "b"}], ({"a": ("b",)},)),
        ([{"a": [{"model": "b"}]}], ({"a": ("b",)},)),
        ([{"a": [{"model": "b", "temperature": 0}]}], ({"a": ("b",)},)),
    ],
)
def test_targets_of_fallbacks(fallbacks: object, found: object) -> None:
    """A name, a list of names, or a mapping with the name."""
    entries = [entry(), entry(name="b")]
    config = config_of(model_list=entries, litellm_settings={"fallbacks": fallbacks})

    assert config.router_settings.fallbacks == found
    assert [w for w in config.warnings if "temperature of the fallback 'b'" in w] == (
        list(config.warnings) if "temperature" in str(fallbacks) else []
    )


def test_a_target_with_an_address_is_refused() -> None:
    """The request would go to the entry's own address instead."""
    target = {"model": "b", "api_base": "https://elsewhere.example"}
    entries = [entry(), entry(name="b")]

    (problem,) = problems_of(model_list=entries, router_settings={"fallbacks": [{"a": [target]}]})

    assert problem.startswith("router_settings.fallbacks: the fallback 'b' sets api_base")


def test_fallbacks_of_everything() -> None:
    """`"*"` is for routes without fallbacks of their own, for long prompts too."""
    data: dict[str, Any] = {
        "model_list": [entry(name=name) for name in "abc"],
        "router_settings": {
            "fallbacks": [{"a": ["b"]}, {"*": ["c"]}],
            "context_window_fallbacks": [{"*": ["b"]}],
        },
    }
    plan = Plan.from_config(config_of(**data), {"OPENAI_API_KEY": "k"})

    assert {r: o.fallbacks for r, o in plan.onward.items()} == {
        "a": ("b", "c"),
        "b": ("c",),
        "c": (),
    }
    assert {r: o.context for r, o in plan.onward.items()} == {"a": ("b",), "b": (), "c": ("b",)}


def test_variables_of_the_file() -> None:
    """They are used for `os.environ/NAME` and providers' keys, and override the process's."""
    config = config_of(
        {"KEY": "process", "REAL": "real"},
        model_list=[entry(api_key="os.environ/KEY"), entry("groq/m", "b"), entry("xai/m", "c")],
        environment_variables={
            "KEY": "file",
            "GROQ_API_KEY": "g",
            "XAI_API_KEY": "os.environ/REAL",
        },
    )
    plan = Plan.from_config(config, {"KEY": "process"})

    assert [d.api_key for d in plan.deployments] == ["file", "g", "real"]
    assert "file" not in repr(config)


def test_a_key_that_changes_nothing_needs_no_variable() -> None:
    """Many LiteLLM files name a Redis; its address does not have to be set here."""
    config = config_of(
        model_list=[entry(api_key="k")],
        router_settings={"redis_host": "os.environ/UNSET", "redis_password": "os.environ/UNSET"},
    )
    assert "router_settings.redis_host has no effect" in config.warnings

    assert problems_of(router_settings={"timeout": "os.environ/UNSET"}) == [
        "router_settings.timeout: the environment variable UNSET is not set; export it first"
    ]


def test_credentials_by_name() -> None:
    """An entry's own keys override those of the credential."""
    credential = {
        "credential_name": "azure-eu",
        "credential_values": {"api_key": "os.environ/K", "api_base": "https://eu.openai.azure.com"},
    }
    entries = [
        entry("azure/d", litellm_credential_name="azure-eu"),
        entry("azure/d", "b", litellm_credential_name="azure-eu", api_key="own"),
    ]
    config = config_of({"K": "k"}, model_list=entries, credential_list=[credential])
    plan = Plan.from_config(config)

    assert [d.api_key for d in plan.deployments] == ["k", "own"]
    assert all(
        d.api_base == "https://eu.openai.azure.com/openai/deployments/d" for d in plan.deployments
    )
    assert problems_of(
        model_list=[entry(litellm_credential_name="azure-us")], credential_list=[credential]
    ) == [
        (
            "model_list.0.litellm_params.litellm_credential_name: credential_list has no entry"
            " 'azure-us'; did you mean 'azure-eu'?"
        )
    ]


def test_files_that_are_included(tmp_path: Path) -> None:
    """Lists are joined, an included file wins, and includes of includes are read."""
    (tmp_path / "f.yaml").write_text(
        "include: [models.yaml]\nmodel_list:\n- {model_name: a, litellm_params: {model: gpt-4o}}\n"
        "litellm_settings: {drop_params: false, num_retries: 5}\n"
    )
    (tmp_path / "models.yaml").write_text(
        "include: more.yaml\nmodel_list:\n- {model_name: b, litellm_params: {model: gpt-4o}}\n"
        "litellm_settings: {drop_params: true}\n"
    )
    (tmp_path / "more.yaml").write_text(
        "include: [f.yaml]\nmodel_list:\n- {model_name: c, litellm_params: {model: gpt-4o}}\n"
    )

    config = load_config(tmp_path / "f.yaml", {})

    assert [e.model_name for e in config.model_list] == ["a", "b", "c"]
    assert config.drop_params
    assert config.router_settings.num_retries == 5
    (tmp_path / "more.yaml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*more\.yaml"):
        load_config(tmp_path / "f.yaml", {})


def test_a_key_nobody_expands_is_not_a_key() -> None:
    """`${NAME}` would be sent literally; the deployment is off and a warning says why."""
    config = config_of({"K": "k"}, model_list=[entry(api_key="${K}"), entry(name="b", api_key="k")])
    plan = Plan.from_config(config)

    assert [off.reason for off in plan.off] == ["K is not set"]
    assert any("write os.environ/K" in warning for warning in config.warnings)


@pytest.mark.parametrize("value", [False, "off"])
def test_off_is_off(value: object) -> None:
    """YAML reads a bare `off` as false."""
    assert config_of(telemetry={"content": value}).telemetry.content == "off"


def test_an_entrys_weight_may_be_nothing() -> None:
    """In LiteLLM, 0 keeps a deployment in reserve."""
    assert config_of(model_list=[entry(weight=0)]).model_list[0].litellm_params.weight == 0


# mistakes ---------------------------------------------------------------------------------


def test_all_mistakes_at_once() -> None:
    """Of every section and of every kind, each with its place and the nearest valid name."""
    found = problems_of(
        model_list=[
            {"model_name": "a", "litelm_params": {"model": "gpt-4o"}},
            entry(rpm="many", weight=-1),
            {"model_name": "x", "litellm_params": 3},
            "openai/gpt-4o",
            entry(api_base="https://a.example", base_url="https://b.example"),
        ],
        router_settings={"num_retries": "x", "fallbacks": [{"a": ["nobody"]}]},
        gateway={"prot": 1},
        budgets=[{"name": "b", "limit": "much"}],
        budgest=[],
    )

    for part in (
        "unknown key 'budgest'; did you mean 'budgets'?",
        "model_list.0.litellm_params: required, but missing; is 'litelm_params' a typo of it?",
        "model_list.1.litellm_params.rpm: ",
        "model_list.1.litellm_params.weight: ",
        "model_list.2.litellm_params: expected a mapping, got int",
        "model_list.3: expected a mapping, got str",
        "model_list.4.litellm_params: api_base and base_url differ",
        "router_settings.num_retries: ",
        "unknown key 'gateway.prot'; did you mean 'port'?",
        "budgets.0.limit: ",
    ):
        assert any(problem.startswith(part) for problem in found), (part, found)


def test_a_mistake_in_an_entry_is_said_once() -> None:
    """Its route still exists, so fallbacks and aliases to it are valid."""
    [problem] = problems_of(
        model_list=[entry(api_key="k"), entry(name="b", rpm="many")],
        router_settings={"fallbacks": [{"a": ["b"]}], "model_group_alias": {"c": "b"}},
    )
    assert problem.startswith("model_list.1.litellm_params.rpm: ")


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"\xff\xfe\xfa", b"a: \x07", b"PK\x03\x04" * 9])
def test_files_that_are_no_text(tmp_path: Path, data: bytes) -> None:
    """A binary file is reported as one."""
    path = tmp_path / "f.yaml"
    path.write_bytes(data)

    with pytest.raises(ConfigError, match=r"f\.yaml is not (a text file|valid YAML)"):
        load_config(path, {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "model_list:\n"])
def test_an_empty_file_is_a_file(tmp_path: Path, text: str) -> None:
    """It serves nothing, and `config check` reports that."""
    path = tmp_path / "f.yaml"
    path.write_text(text)

    assert load_config(path, {}).model_list == ()


def test_the_same_twice_is_once(tmp_path: Path) -> None:
    """Only two different values for one key are an error."""
    path = tmp_path / "f.yaml"
    path.write_text("general_settings: {alerting: [a], alerting: [a]}\n")

    assert load_config(path, {}).model_list == ()


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("*", "anything/at-all", ("anything/at-all",)),
        ("openai/*", "openai/gpt-4o", ("gpt-4o",)),
        ("openai/*", "gpt-4o", None),
        ("claude-*", "claude-", ("",)),
        ("*/gpt-*", "azure/gpt-4", ("azure", "4")),
        ("a*b*c", "aXbYc", ("X", "Y")),
        ("a*b*c", "ac", None),
        ("*a", "a", ("",)),
        ("a*a", "a", None),
    ],
)
def test_what_a_wildcard_matches(pattern: str, name: str, found: object) -> None:
    """Each `*` matches as little as possible, the last one the rest."""
    assert matches(pattern, name) == found


def test_the_most_specific_wildcard_serves() -> None:
    """As in LiteLLM: the longest, then the one with the fewest stars."""
    patterns = ["*", "openai/*", "openai/gpt-*", "*gpt*", "named"]

    assert served_by("openai/gpt-4o", patterns) == "openai/gpt-*"
    assert served_by("openai/o3", patterns) == "openai/*"
    assert served_by("named", patterns) == "*"
    assert served_by("named", ["named"]) is None


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("apikey", "api_key"),
        ("api-key", "api_key"),
        ("api_bse", "api_base"),
        ("apiBase", "api_base"),
        ("base_ulr", "base_url"),
        ("organisation", "organization"),
        ("extra_header", "extra_headers"),
    ],
)
def test_a_slip_in_a_key_that_addresses_is_an_error(slip: str, meant: str) -> None:
    """Sent on as a provider's field, it would leave request and key with the wrong address."""
    config = config_of(model_list=[entry(api_key="k", **{slip: "x"})])

    with pytest.raises(
        ConfigError, match=f"litellm_params.{slip}: unknown key; did you mean '{meant}'"
    ):
        Plan.from_config(config, {})


@pytest.mark.parametrize("prefix", ["opnai", "antropic", "open-router", "mistrl", "togetherai"])
def test_a_slip_in_a_provider_is_an_error(prefix: str) -> None:
    """No provider has this name, but one has a similar name."""
    config = config_of(model_list=[entry(f"{prefix}/m", api_key="k")])

    with pytest.raises(ConfigError, match=f"no provider is called '{prefix}'; did you mean"):
        Plan.from_config(config, {})


def test_a_mistake_hides_no_other() -> None:
    """A value of the wrong type in a section does not prevent checks of the rest."""
    found = problems_of(
        model_list=[entry(api_key="k", rpm="lots")],
        router_settings={"num_retries": -1, "fallbacks": [{"a": ["nope"]}]},
        budgets=[{"name": "b", "limit": "x", "period": "decade"}],
    )

    for part in (
        "model_list.0.litellm_params.rpm",
        "router_settings.num_retries",
        "router_settings.fallbacks: no deployment has model_name 'nope'",
        "budgets.0.limit",
        "budgets.0.period",
    ):
        assert any(part in problem for problem in found), (part, found)
