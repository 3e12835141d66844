"""Reranking against the whole gateway, with the client that LiteLLM and Cohere's users have: HTTP."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.gateway.endpoints import Site, running_site

DOCUMENTS = ["Paris is in France.", {"text": "Berlin is in Germany."}, "Cats sleep."]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A reranker that is billed by the search, and one by the token."""
    models = {
        "cohere": "cohere/rerank-v3.5",
        "jina": "jina_ai/jina-reranker-v2-base-multilingual",
        "chat": "openai/gpt-4o-mini",
    }
    folder = tmp_path_factory.mktemp("gateway")
    with running_site(folder, models, fallbacks={"cohere": "jina"}) as found:
        yield found


def ask(
    site: Site, customer: str = "rich", path: str = "/v1/rerank", **more: Any
) -> httpx.Response:
    """One request."""
    body = {"model": "cohere", "query": "Which is a capital?", "documents": DOCUMENTS, **more}
    headers = {"authorization": f"Bearer {site.keys[customer]}"}
    return httpx.post(f"{site.url}{path}", json=body, headers=headers, timeout=30)


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
@pytest.mark.parametrize("model", ["cohere", "jina"])
def test_documents_are_ranked(site: Site, model: str, path: str) -> None:
    """By the search or by the token, the ledger has the provider's bill."""
    before = len(site.billed())

    answer = ask(site, path=path, model=model, top_n=2, return_documents=True)

    assert answer.status_code == 200
    rows = answer.json()["results"]
    assert len(rows) == 2
    assert rows[0]["relevance_score"] >= rows[1]["relevance_score"]
    assert rows[0]["document"]["text"]
    request_id = answer.headers["x-request-id"]
    (entry,) = site.check(request_id, before)
    assert entry["nano_usd"] > 0
    assert site.attempts(request_id)[0][2] == 0
    assert site.rows("operation", f"request_id = '{request_id}'") == [("rerank",)]


def test_another_reranker_takes_over(site: Site) -> None:
    """After a 429, in the form that it speaks."""
    site.fault("429;retry_after=0", model="rerank-v3.5")
    try:
        answer = ask(site)
    finally:
        site.fault("")

    assert answer.headers["x-spanledger-deployment"] == "d-jina"
    assert answer.json()["usage"]["total_tokens"] > 0
    assert site.attempts(site.last_request())[-1][0] == site.billed()[-1]["nano_usd"]


@pytest.mark.parametrize("model", ["cohere", "jina"])
def test_usage_that_is_missing_is_estimated(site: Site, model: str) -> None:
    """By the documents, within the hold."""
    site.fault("missing_usage")
    try:
        answer = ask(site, model=model)
    finally:
        site.fault("")
    cost, hold, estimated, *_ = site.attempts(answer.headers["x-request-id"])[0]
    assert 0 < cost <= hold
    assert estimated


def test_a_budget_refuses(site: Site) -> None:
    """Before anything is sent."""
    before = len(site.billed())
    answer = ask(site, "poor")
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert len(site.billed()) == before


@pytest.mark.parametrize("more", [{"documents": []}, {"documents": "x"}, {"Documents": ["x"]}])
def test_what_cannot_be_bounded_is_refused(site: Site, more: dict[str, Any]) -> None:
    """The documents decide the cost."""
    assert ask(site, "free", **more).status_code == 400


def test_nothing_is_held_too_low(site: Site) -> None:
    """Random requests never cost more than their hold, long documents and queries among them."""
    rng = random.Random(11)
    for _ in range(60):
        before = len(site.billed())
        many = [
            "word " * rng.choice([1, 30, 500, 2_000]) for _ in range(rng.choice([1, 3, 99, 230]))
        ]
        query = "what? " * rng.choice([1, 20, 90, 400])
        answer = ask(
            site, model=rng.choice(["cohere", "jina"]), documents=many, query=query, truncation=True
        )
        assert answer.status_code == 200
        site.check(answer.headers["x-request-id"], before)
