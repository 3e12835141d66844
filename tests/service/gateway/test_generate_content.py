"""Google's own wire at the gateway: paths, keys, errors, lists of models, counts and what is passed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.endpoints import Site
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at

HELLO: Any = [{"role": "user", "parts": [{"text": "Say hello, please."}]}]
SIGNED: Any = {"text": "Hello.", "thoughtSignature": "c2ln"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Gemini at its own API, and other models behind it; `poor` has almost no money."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("free", "poor", "rich")}
    keys["own"] = records.create_key("rich", "", ["gemini"], 1)[0]
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1, "day"),
            Budget("rich-daily", "customer", "rich", 10**15, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim:

        def entry(route: str, model: str, path: str, **params: Any) -> dict[str, Any]:
            given = {"model": model, "api_base": sim.url + path, "api_key": "sk-sim", **params}
            named = {"id": f"d-{route}"}
            return {"model_name": route, "litellm_params": given, "model_info": named}

        google = "/v1beta/openai"
        config = parse_config(
            {
                "model_list": [
                    entry("gemini", "gemini/gemini-2.5-flash", google),
                    entry("capped", "gemini/gemini-2.5-flash", google, max_tokens=9, temperature=0),
                    entry("team/gpt:4", "openai/gpt-4.1", "/v1"),
                    entry("embed", "openai/text-embedding-3-small", "/v1"),
                ],
                "router_settings": {"num_retries": 0, "cooldown_time": 0},
                "gateway": {"port": 0, "total_timeout_s": 20},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, sim.url, ledger, keys)


def ask(
    site: Site,
    route: str,
    verb: str = "generateContent",
    customer: str = "rich",
    *,
    key: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    """One request in Google's form."""
    headers = {"x-goog-api-key": site.keys[customer]} if key is None else key
    url = f"{site.url}/v1beta/models/{route}:{verb}"
    return httpx.post(url, json={"contents": HELLO, **fields}, headers=headers, timeout=30)


@pytest.mark.parametrize(
    "spelled", ["team/gpt:4", quote("team/gpt:4", safe=""), "team/gpt%3a4", "team%2Fgpt:4"]
)
def test_models_with_slashes_and_colons(site: Site, spelled: str) -> None:
    """Encoded or not, the path names the route."""
    answer = ask(site, spelled)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-spanledger-deployment"] == "d-team/gpt:4"
    assert site.rows("route")[-1] == ("team/gpt:4",)
    assert site.rows("operation")[-1] == ("generate_content",)


@pytest.mark.parametrize("version", ["v1", "v1alpha", "v1beta"])
def test_every_version_of_the_path(site: Site, version: str) -> None:
    """Clients choose one by their options."""
    url = f"{site.url}/{version}/models/gemini:generateContent"
    headers = {"x-goog-api-key": site.keys["rich"]}
    assert httpx.post(url, json={"contents": HELLO}, headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["x-goog-api-key", "authorization"])
def test_the_key_is_in_a_header(site: Site, name: str) -> None:
    """Google's, or the usual one; a key in the address is none."""
    key = site.keys["rich"]
    given = {name: f"Bearer {key}" if name == "authorization" else key}
    assert ask(site, "gemini", key=given).status_code == 200
    refused = ask(site, "gemini", f"generateContent?key={key}", key={})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["status"]) == (401, 401, "UNAUTHENTICATED")
    assert "x-goog-api-key" in error["message"]
    assert key not in refused.text


def test_two_keys_are_refused(site: Site) -> None:
    """A proxy before us may have checked the other one."""
    pair = [("x-goog-api-key", site.keys["rich"]), ("x-goog-api-key", site.keys["free"])]
    url = f"{site.url}/v1beta/models/gemini:generateContent"
    assert httpx.post(url, json={"contents": HELLO}, headers=pair).status_code == 400


def test_errors_have_googles_shape(site: Site) -> None:
    """Status, message and the details that programs read, for each kind of mistake."""
    for answer, code, status, reason in (
        (ask(site, "nobody"), 404, "NOT_FOUND", "model_not_found"),
        (ask(site, "gemini", contents=[]), 400, "INVALID_ARGUMENT", "invalid_value"),
        (ask(site, "gemini", customer="own", contents=3), 400, "INVALID_ARGUMENT", "invalid_value"),
        (ask(site, "team/gpt:4", customer="own"), 403, "PERMISSION_DENIED", "permission_denied"),
        (ask(site, "gemini", customer="poor"), 429, "RESOURCE_EXHAUSTED", "budget_exceeded"),
        (ask(site, "embed"), 400, "INVALID_ARGUMENT", "unsupported_endpoint"),
        (ask(site, "gemini", "embedContent"), 404, "NOT_FOUND", "unknown_url"),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["status"]) == (code, code, status)
        assert error["message"]
        assert error["details"][0]["reason"] == reason


def test_a_budget_says_what_is_left(site: Site) -> None:
    """Its figures are in the details."""
    (info,) = ask(site, "gemini", customer="poor").json()["error"]["details"]
    assert info["metadata"]["budget"] == "poor-daily"
    assert float(info["metadata"]["needed_usd"]) > 0


def test_the_providers_own_words(site: Site) -> None:
    """A request that it refuses is refused in its words, in Google's shape."""
    answer = ask(site, "gemini", generationConfig={"temperatur": 1})
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert 'Unknown name "temperatur"' in error["message"]


def test_what_we_do_not_know_passes(site: Site) -> None:
    """Where the wire is the same, fields go on as they came: signatures, settings for safety, schemas."""
    before = len(site.billed())
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    answer = ask(
        site,
        "gemini",
        contents=[*HELLO, {"role": "model", "parts": [SIGNED]}, *HELLO],
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        generationConfig={
            "responseMimeType": "application/json",
            "responseSchema": schema,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
        },
    )
    assert answer.status_code == 200, answer.text
    assert "x-spanledger-changed" not in answer.headers
    body = answer.json()
    assert body["usageMetadata"]["thoughtsTokenCount"] > 0
    (entry,) = site.check(answer.headers["x-request-id"], before)
    assert entry["wire"] == "google"
    assert entry["usage"]["reasoning_output_tokens"] == body["usageMetadata"]["thoughtsTokenCount"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"googleSearch": {}}]}, "googleSearch"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f"}]}, {"codeExecution": {}}]},
            "codeExecution",
        ),
        ({"cachedContent": "cachedContents/1"}, "cachedContent"),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "responseModalities"),
        ({"generation_config": {"response_modalities": ["IMAGE"]}}, "responseModalities"),
    ],
)
def test_what_nothing_bounds(site: Site, fields: dict[str, Any], named: str) -> None:
    """It is refused under a blocking budget, and served without one."""
    refused = ask(site, "gemini", **fields)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert named in error["message"]
    assert error["details"][0]["reason"] == "unbounded_cost"
    assert ask(site, "gemini", customer="free", **fields).status_code == 200


def test_a_deployments_settings_apply(site: Site) -> None:
    """Its cap and temperature are settings of Google's there, and the caller's own win."""
    answer = ask(site, "capped", generationConfig={"thinkingConfig": {"thinkingBudget": 0}})
    assert answer.json()["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert answer.json()["usageMetadata"]["candidatesTokenCount"] == 9
    more = ask(
        site,
        "capped",
        generationConfig={"max_output_tokens": 20, "thinkingConfig": {"thinkingBudget": 0}},
    )
    assert more.json()["usageMetadata"]["candidatesTokenCount"] == 20


@pytest.mark.parametrize("route", ["gemini", "team/gpt:4"])
def test_several_candidates(site: Site, route: str) -> None:
    """Each is held, answered and charged, over whichever wire."""
    before = len(site.billed())
    answer = ask(site, route, generationConfig={"candidateCount": 3, "maxOutputTokens": 50})
    assert [one["index"] for one in answer.json()["candidates"]] == [0, 1, 2]
    site.check(answer.headers["x-request-id"], before)


def test_tokens_are_counted(site: Site) -> None:
    """By Google's server where it has the model, else by us; it costs nothing."""
    before = len(site.rows("request_id"))
    own = ask(site, "gemini", "countTokens")
    other = ask(site, "team/gpt:4", "countTokens")
    whole = httpx.post(
        f"{site.url}/v1beta/models/gemini:countTokens",
        json={
            "generateContentRequest": {
                "model": "models/gemini",
                "contents": HELLO,
                "systemInstruction": {"parts": [{"text": "Be brief. " * 9}]},
            }
        },
        headers={"x-goog-api-key": site.keys["rich"]},
    )
    assert own.json()["totalTokens"] > 0
    assert own.headers["x-spanledger-deployment"] == "d-gemini"
    assert other.json()["totalTokens"] > 0
    assert other.headers["x-spanledger-estimated"] == "true"
    assert whole.json()["totalTokens"] > own.json()["totalTokens"]
    assert len(site.rows("request_id")) == before


def test_the_list_of_models(site: Site) -> None:
    """By pages, in Google's shape, and only those that the key may use."""
    headers = {"x-goog-api-key": site.keys["rich"]}
    first = httpx.get(f"{site.url}/v1beta/models?pageSize=3", headers=headers).json()
    token = first["nextPageToken"]
    rest = httpx.get(f"{site.url}/v1beta/models?pageToken={token}", headers=headers).json()
    names = [model["name"] for model in (*first["models"], *rest["models"])]
    assert names == ["models/gemini", "models/capped", "models/team/gpt:4", "models/embed"]
    one = httpx.get(f"{site.url}/v1beta/models/team/gpt:4", headers=headers).json()
    assert one["name"] == "models/team/gpt:4"
    own = httpx.get(f"{site.url}/v1beta/models", headers={"x-goog-api-key": site.keys["own"]})
    assert [model["name"] for model in own.json()["models"]] == ["models/gemini"]


def test_other_methods(site: Site) -> None:
    """A path that asks something takes a POST."""
    answer = httpx.get(f"{site.url}/v1beta/models/gemini:generateContent")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_a_stream_has_events_alone(site: Site) -> None:
    """Google's clients take a comment for JSON, so the cost is in the ledger and not in the stream."""
    before = len(site.billed())
    answer = ask(site, "gemini", "streamGenerateContent?alt=sse")
    lines = [line for line in answer.text.splitlines() if line]
    assert all(line.startswith("data: {") for line in lines)
    site.check(answer.headers["x-request-id"], before)
    refused = ask(site, "gemini", "streamGenerateContent")
    assert refused.status_code == 400
    assert "alt=sse" in refused.json()["error"]["message"]
