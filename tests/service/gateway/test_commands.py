"""`spanledger config` and `spanledger gateway` as commands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spanledger.cli import app as spanledger
from spanledger.commands.config import app

FILE = """
model_list:
  - model_name: chat
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/UNSET_KEY}
    model_info: {id: main}
  - model_name: chat
    litellm_params: {model: openai/llama, api_base: "http://127.0.0.1:1/v1"}
    model_info: {id: own}
  - model_name: backup
    litellm_params: {model: anthropic/claude-haiku-4-5, api_key: k}
router_settings:
  fallbacks: [{chat: [backup]}]
  enable_pre_call_checks: true
budgets:
  - {name: all, limit: 12.5}
"""


def checked(path: Path, environ: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `config check --json`."""
    result = CliRunner().invoke(app, ["check", str(path), "--json"], env=environ)
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with one of everything."""
    path = tmp_path / "spanledger.yaml"
    path.write_text(FILE)
    return path


def test_check_says_what_is_there(file: Path) -> None:
    """The report lists routes, prices, keys, fallbacks, budgets and settings without effect."""
    code, report = checked(file, {"UNSET_KEY": "sk-secret"})
    assert (code, report["ok"], report["problems"]) == (0, True, [])
    chat, backup = report["routes"]
    assert [d["id"] for d in chat["deployments"]] == ["main", "own"]
    assert [d["key"] for d in chat["deployments"]] == ["set", "none"]
    assert [d["priced"] for d in chat["deployments"]] == [True, False]
    assert (chat["fallbacks"], backup["fallbacks"]) == (["backup"], [])
    assert report["budgets"][0]["limit_usd"] == "12.50"
    assert report["budgets"][0]["scope"] == "global"
    assert report["limits"]["max_concurrent_requests"] == 1000
    assert any("enable_pre_call_checks" in line for line in report["warnings"])
    assert any("'own' has no price" in line for line in report["warnings"])
    assert "sk-secret" not in json.dumps(report)


def test_check_shows_the_limits_that_the_file_sets(tmp_path: Path) -> None:
    """The others are counted: a table of defaults would bury what matters. JSON has them all."""
    file = tmp_path / "spanledger.yaml"
    file.write_text(FILE.replace("UNSET_KEY", "HOME") + "\ngateway: {total_timeout_s: 5}\n")

    shown = CliRunner().invoke(app, ["check", str(file)]).stdout

    assert re.search(r"^total_timeout_s +5.0 +600.0", shown, re.MULTILINE)
    assert "max_header_bytes" not in shown
    assert "limits have their defaults" in shown


def test_a_pipe_gets_whole_names(tmp_path: Path) -> None:
    """Without a terminal there is no width to fit: a long name of a budget is not shortened."""
    name = "the-quarterly-budget-of-the-customer-" + "x" * 60
    budget = {"name": name, "customer": "*", "limit": 5, "period": "month"}
    path = tmp_path / "f.yaml"
    params = {"model": "openai/a", "api_base": "http://127.0.0.1:9/v1"}
    models = [{"model_name": "a", "litellm_params": params}]
    path.write_text(json.dumps({"model_list": models, "budgets": [budget]}), encoding="utf-8")

    assert name in CliRunner().invoke(app, ["check", str(path)]).stdout


@pytest.mark.parametrize(
    ("model", "base", "key"),
    [("*", None, "by model"), ("openai/*", "http://127.0.0.1:9/v1", "none")],
)
def test_a_wildcard_says_where_its_key_comes_from(
    tmp_path: Path, model: str, base: str | None, key: str
) -> None:
    """Only a deployment that sends no key says `none`; `*` uses the key of each model's provider."""
    params = {"model": model, "drop_params": True, **({"api_base": base} if base else {})}
    path = tmp_path / "f.yaml"
    path.write_text(
        json.dumps({"model_list": [{"model_name": "*", "litellm_params": params}]}),
        encoding="utf-8",
    )

    _, report = checked(path, {"OPENAI_API_KEY": ""})

    assert [d["key"] for d in report["routes"][0]["deployments"]] == [key]


def test_check_warns_of_a_base_model_that_has_no_price(file: Path) -> None:
    """A base model that the book lacks is reported; one that it has sets the deployment's price."""
    info = "model_info: {id: own"
    assert info in file.read_text()

    file.write_text(FILE.replace(info, f"{info}, base_model: azure/gpt-4o-2024-08-06"))
    report = checked(file, {"UNSET_KEY": "k"})[1]
    assert report["routes"][0]["deployments"][1]["price_id"].endswith("azure/gpt-4o-2024-08-06")

    file.write_text(FILE.replace(info, f"{info}, base_model: azure/gpt-unheard-of"))
    warnings = checked(file)[1]["warnings"]
    assert any("base_model 'azure/gpt-unheard-of' is not in the price book" in w for w in warnings)
    assert any("'own' has no price" in line for line in warnings)


@pytest.mark.parametrize(
    ("budgeted", "served", "warned"),
    [
        ("chat", "openai/gpt-4o-mini", True),
        ("gpt-4o-mini", "openai/gpt-4o-mini", False),
        ("chat", "openai/*", False),
        ("chat", "*", False),
        ("chat", "openai/gpt-*", True),
        ("gpt-4o", "openai/gpt-*", False),
        ("*", "openai/gpt-4o-mini", False),
    ],
)
def test_check_warns_of_a_budget_for_a_model_nobody_has(
    tmp_path: Path, budgeted: str, served: str, warned: bool
) -> None:
    """Such as one that names the route; a wildcard may serve what the file does not name."""
    route = "'*'" if "*" in served else "chat"
    path = tmp_path / "spanledger.yaml"
    path.write_text(
        f"model_list: [{{model_name: {route}, litellm_params: {{model: '{served}', api_key: k}}}}]\n"
        f"budgets: [{{name: m, model: '{budgeted}', limit: 1}}]\n"
    )
    line = (
        f"budget 'm': no deployment has the model {budgeted!r}; a budget's `model` is the"
        " provider's, such as gpt-4o-mini"
    )
    code, report = checked(path)
    assert (code, line in report["warnings"]) == (0, warned)


@pytest.mark.parametrize(("route", "warned"), [("chat", False), ("*", False), ("chta", True)])
def test_check_warns_of_a_budget_for_a_route_that_is_not_there(
    tmp_path: Path, route: str, warned: bool
) -> None:
    """It would never limit anything; the closest route is named."""
    path = tmp_path / "spanledger.yaml"
    path.write_text(
        "model_list: [{model_name: chat, litellm_params: {model: openai/gpt-4o-mini, api_key: k}}]\n"
        f"budgets: [{{name: m, route: '{route}', customer: acme, limit: 1}}]\n"
    )
    line = f"budget 'm': no deployment has model_name {route!r}; did you mean 'chat'?"
    code, report = checked(path)
    assert (code, line in report["warnings"]) == (0, warned)


def test_check_prints_no_secret_of_a_url(file: Path) -> None:
    """A base URL for LiteLLM may contain a password or a token, which is not shown."""
    secret = "https://user:secret-word@host:8000/v1?token=secret-word"
    litellm = '{model: openai/llama, api_base: "http://127.0.0.1:1/v1"}'
    file.write_text(FILE.replace(litellm, f'{{model: bedrock/llama, api_base: "{secret}"}}'))
    # Its own process, as LiteLLM's loggers keep the stderr that they started with.
    shown = subprocess.run(
        [sys.executable, "-m", "spanledger", "config", "check", str(file), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "UNSET_KEY": "k"},
    )
    (_, own) = json.loads(shown.stdout)["routes"][0]["deployments"]
    assert own["api_base"] == "https://host:8000/v1"
    assert "secret-word" not in shown.stdout + shown.stderr


def test_check_goes_on_past_an_unset_variable(file: Path) -> None:
    """A deployment without its key is reported as off, and the others are served."""
    other = "  - {model_name: other, litellm_params: {model: gpt-4o, api_key: k}}\n"
    text = FILE.replace("UNSET_KEY", "SURELY_UNSET_KEY")
    file.write_text(text.replace("model_list:\n", f"model_list:\n{other}"))
    code, report = checked(file)
    assert (code, report["ok"], report["problems"]) == (0, True, [])
    [off] = report["off"]
    assert (off["id"], off["reason"]) == ("main", "SURELY_UNSET_KEY is not set")
    assert "deployment 'main' is off: SURELY_UNSET_KEY is not set" in report["warnings"]


@pytest.mark.parametrize("text", ["", "model_list:", "model_list: []", "litellm_settings: {}"])
def test_check_says_how_to_begin(tmp_path: Path, text: str) -> None:
    """A file without deployments gets one error, which says how to continue."""
    path = tmp_path / "empty.yaml"
    path.write_text(text)
    code, report = checked(path)
    assert (code, len(report["problems"])) == (1, 1)
    assert "model_list is empty; `spanledger config example` prints" in report["problems"][0]


def test_check_calls_no_list_empty_that_has_mistakes(tmp_path: Path) -> None:
    """Only the actual mistake is reported: the entry exists but was not understood."""
    path = tmp_path / "wrong.yaml"
    path.write_text("model_list: [{model_name: a, litellm_params: openai/gpt-4o}]")
    [problem] = checked(path)[1]["problems"]
    assert "model_list.0.litellm_params: expected a mapping, got str" in problem


def test_check_fits_a_terminal(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason why a deployment is off is a warning, and takes no column width."""
    file.write_text(FILE.replace("UNSET_KEY", "SURELY_UNSET_KEY"))
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["check", str(file)])
    header = result.stdout.splitlines()[0].split()
    assert header == ["route", "deployment", "provider", "model", "price", "key", "fallbacks"]
    assert "'main' is off: SURELY_UNSET_KEY is not set" in result.stderr


def test_check_names_every_mistake(tmp_path: Path) -> None:
    """An invalid file fails with each location and the nearest valid word, and no traceback."""
    path = tmp_path / "wrong.yaml"
    path.write_text("gateway: {max_body_byte: 1, port: x}\nbudgets: [{name: b, limit: many}]\n")
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 1
    assert "did you mean 'max_body_bytes'?" in result.stderr
    assert "gateway.port" in result.stderr
    assert "budgets.0.limit" in result.stderr
    assert "Traceback" not in result.stderr
    code, report = checked(tmp_path / "none.yaml")
    assert (code, len(report["problems"])) == (1, 1)


def test_check_places_a_later_mistake_by_the_file(tmp_path: Path) -> None:
    """The number of an entry counts those before it that are empty or wrong themselves."""
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "model_list:\n"
        "  - {model_name: a, litellm_params: {api_key: k}}\n"
        "  -\n"
        "  - {model_name: b, litellm_params: {model: openai/x, api_base: 'localhost:1', api_key: k}}\n"
    )
    problems = checked(path)[1]["problems"]
    assert [line.partition(": ")[2].partition(": ")[0] for line in problems] == [
        "model_list.0.litellm_params.model",
        "model_list.2.litellm_params.api_base",
    ]


def test_check_names_what_has_no_effect_beside_a_mistake(tmp_path: Path) -> None:
    """A mistake in the routes hides neither keys without effect nor a misspelled one."""
    path = tmp_path / "proxy.yaml"
    path.write_text(
        "model_list: [{model_name: a, litellm_params: {model: openai/*, api_key: k}}]\n"
        "router_settings: {num_retrys: 5, redis_host: r, routing_strategy: simple-shuffle}\n"
    )
    code, report = checked(path)
    assert (code, len(report["problems"])) == (1, 1)
    [slip, other] = report["warnings"]
    assert slip == "router_settings.num_retrys has no effect (did you mean 'num_retries'?)"
    assert other == "router_settings.redis_host has no effect"


def test_check_keeps_names_of_deployments_whole(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a narrow terminal, the name used in all signals can still be copied."""
    file.write_text(FILE.replace("id: main", "id: a-deployment-with-a-long-name"))
    monkeypatch.setenv("COLUMNS", "70")
    shown = CliRunner().invoke(app, ["check", str(file)], env={"UNSET_KEY": "k"})
    assert "a-deployment-with-a-long-name" in shown.stdout


def test_example_is_a_good_configuration(tmp_path: Path) -> None:
    """The output of `config example` passes the check once its variables are set."""
    printed = CliRunner().invoke(app, ["example"])
    path = tmp_path / "example.yaml"
    path.write_text(printed.stdout)
    names = set(re.findall(r"os\.environ/(\w+)", printed.stdout))
    code, report = checked(path, dict.fromkeys(names, "x"))
    assert (code, report["warnings"]) == (0, [])
    shown = CliRunner().invoke(app, ["check", str(path)], env=dict.fromkeys(names, "x"))
    assert "careful" in shown.stdout
    assert "each-customer" in shown.stdout
    assert shown.stdout.rstrip().endswith("is valid")


@pytest.fixture
def started(file: Path) -> Iterator[subprocess.Popen[str]]:
    """A gateway process on a free port."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "spanledger", "gateway", "--config", str(file)),
            *("--port", "0", "--no-ship", "--ledger", f"sqlite:///{file.parent}/ledger.db"),
        ],
        env={"UNSET_KEY": "k", "PATH": os.defpath},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_gateway_says_where_it_listens_and_ends_on_sigterm(
    started: subprocess.Popen[str],
) -> None:
    """One line on stdout when ready, with the clients' base URL; stderr has settings without effect, missing prices, a
    summary."""
    assert started.stdout is not None
    assert started.stderr is not None
    line = started.stdout.readline()
    match = re.fullmatch(
        r"listening on (http://127\.0\.0\.1:\d+) \(base URL for clients: (\1/v1)\)\n", line
    )
    assert match, line
    with urllib.request.urlopen(f"{match[1]}/readyz") as answer:
        assert json.load(answer)["status"] == "ready"
    started.send_signal(signal.SIGTERM)
    assert started.wait(10) == 0
    logged = [line.split(" ", 1)[1] for line in started.stderr.read().splitlines()]
    without_effect, without_price, applied, ready, serving, budgets, callers = logged
    assert applied.startswith("INFO gateway: "), logged
    assert without_effect.endswith("router_settings.enable_pre_call_checks has no effect")
    assert without_price.startswith("WARNING gateway: deployment 'own' has no price")
    assert ready.startswith("INFO gateway: spanledger ")
    assert "ledger=sqlite:///" in ready
    assert "routes=" in serving
    assert "blocking=all" in budgets
    assert "no keys yet" in callers


def test_logs_as_json(file: Path) -> None:
    """With `--log-format json` every line on stderr is an object, including the access log's."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "spanledger", "gateway", "--config", str(file)),
            *("--port", "0", "--no-ship", "--ledger", f"sqlite:///{file.parent}/ledger.db"),
            *("--log-format", "json", "--access-log"),
        ],
        env={"UNSET_KEY": "k", "PATH": os.defpath},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[2]
        body = json.dumps({"model": "none", "messages": [{"role": "user", "content": "x"}]})
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", body.encode(), {"content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request)
        process.terminate()
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]

    assert {line["process"] for line in lines} == {"gateway"}
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    (access,) = (line for line in lines if line["logger"] == "spanledger.access")
    assert access["message"] == "POST /v1/chat/completions"
    assert (access["status"], access["customer"], access["route"]) == (404, "default", "unknown")


def test_a_missing_file_says_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spanledger gateway` in an empty directory names the option and the command that help."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(spanledger, ["gateway"])
    assert result.exit_code == 1
    assert "--config" in result.stderr
    assert "spanledger config example" in result.stderr


def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path) -> None:
    """The line and column of the mistake, and an excerpt of at most five lines."""
    path = tmp_path / "broken.yaml"
    path.write_text("model_list:\n  - {model_name: chat\n")
    result = CliRunner().invoke(app, ["check", str(path)])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "line 3, column 1" in result.stderr


def test_gateway_refuses_to_be_exposed_without_keys(file: Path) -> None:
    """Listening on another address without keys is one clear line and exit code 1."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "spanledger", "gateway", "--config", str(file)),
            *("--host", "0.0.0.0", "--ledger", f"sqlite:///{file.parent}/ledger.db"),
        ],
        env={"UNSET_KEY": "k", "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "spanledger keys create --customer NAME" in result.stderr
    assert "Traceback" not in result.stderr


def test_files_for_every_request_in_flight() -> None:
    """The limit of open files is raised to what the requests need, or the log says what is
    missing."""
    code = (
        "import resource as r; from spanledger.app import raise_file_limit\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 1000))\n"
        "for requests in (300, 400):\n"
        "    raise_file_limit(requests); print(r.getrlimit(r.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["856", "1000"]
    assert done.stderr.count("\n") == 1, done.stderr
    assert "may open 1000 files" in done.stderr
    assert "needs 1056" in done.stderr


def test_check_says_which_way_requests_leave(file: Path) -> None:
    """A proxy from the environment is shown without its password; an unusable one is an error."""
    file.write_text(FILE.replace("UNSET_KEY", "HOME"))
    runner = CliRunner()
    env = {"HTTPS_PROXY": "http://ann:hunter2@proxy.corp:3128", "NO_PROXY": ".corp"}
    shown = runner.invoke(app, ["check", str(file)], env=env)
    assert shown.exit_code == 0
    assert "through the proxy http://proxy.corp:3128 (HTTPS_PROXY), except to .corp" in shown.stdout
    assert "hunter2" not in shown.output

    refused = runner.invoke(app, ["check", str(file)], env={"HTTPS_PROXY": "socks5://h:1"})
    assert refused.exit_code == 1
    assert "HTTPS_PROXY: socks5 proxies are not supported" in refused.stderr
