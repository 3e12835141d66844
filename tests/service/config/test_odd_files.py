"""Files that are not a configuration: each gives a one-sentence error."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.config import load_config
from spanledger.errors import ConfigError

_NINE = ["*a{0}"] * 9
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{','.join(_NINE).format(n - 1)}]\n" for n in range(1, 10)
)
"""Nine lines that expand to half a billion values."""
MERGED = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join(_NINE).format(n - 1)}]}}\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_list: 3", "model_list: expected a list of deployments, got int"),
        ("budgets: {name: b}", "budgets: expected a list of budgets, got dict"),
        ("- a\n- b", "expected a mapping at the top, got list"),
        ("just text", "expected a mapping at the top, got str"),
        ("router_settings: [a]", "router_settings: expected a mapping of settings, got list"),
        ("litellm_settings: 1", "litellm_settings: expected a mapping of settings, got int"),
        ("gateway: 1", "gateway: expected a mapping, got int"),
        ("model_list:\n\t- a", "indent with spaces"),
        ("a: 1\na: 2", "line 2, column 1: 'a' is already set in line 1; keep one of the two"),
        ("model_list: [", "is not valid YAML: line 1"),
        ("litellm_settings: &x {callbacks: *x}", "a value contains itself"),
        ("1: 2", "unknown key '1'"),
        ("? [a, b]\n: c", "is not valid YAML"),
        ("environment_variables: [a]", "environment_variables: expected a mapping"),
        ("credential_list: {a: b}", "credential_list: expected a list"),
        ("include: {a: b}", "include: expected a list of file names"),
        ("model_list: [{model_name: on, litellm_params: {model: gpt-4o}}]", "put it in quotes"),
        ("budgets: [{name: b, limit: 1, customer: no}]", "put it in quotes"),
        (f"a: {'[' * 3000}", "nested too deep"),
        (
            BOMB + "model_list: [{model_name: a, litellm_params: {model: m, x: *a9}}]",
            "aliases expand",
        ),
        (MERGED, "aliases expand to more than"),
        ('include: ["\\0"]', "include: '\\x00'"),
        (f"include: {'x' * 5000}", "include: 'xxx"),
        (
            "model_list: [{model_name: a, litellm_params: {model: gpt-4o, rpm: 1%s}}]"
            % ("0" * 400),
            "rpm",
        ),
        ("model_list: [{model_name: a, litellm_params: {model: gpt-4o, weight: .inf}}]", "weight"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    """Each error is one sentence with the file's name, never a traceback."""
    path = tmp_path / "f.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_config(path, {})

    assert says in str(caught.value)
    assert all(str(path) in line for line in str(caught.value).splitlines())
