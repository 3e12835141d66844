"""The list of models as Anthropic's client reads it."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx
import pytest

from tests.service.gateway.harness import ROUTES, Edge, config_with, running_edge


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with a scripted router."""
    with running_edge(config_with()) as running:
        yield running


@pytest.fixture
def client(edge: Edge) -> Iterator[anthropic.Anthropic]:
    """Anthropic's own client."""
    with anthropic.Anthropic(
        base_url=edge.url.removesuffix("/v1"), api_key="none", max_retries=0
    ) as made:
        yield made


def test_all_models_are_on_one_page(client: anthropic.Anthropic) -> None:
    """Many clients read only the first page, so all are on it unless a client sets a limit."""
    page = client.models.list()

    assert [model.id for model in page.data] == list(ROUTES)
    assert (page.first_id, page.last_id, page.has_more) == (ROUTES[0], ROUTES[-1], False)
    first = page.data[0]
    assert (first.type, first.display_name, first.lifecycle) == ("model", ROUTES[0], "active")
    assert first.created_at.year > 2000


@pytest.mark.parametrize("limit", [1, 4, len(ROUTES), 1000])
def test_pages_forwards(client: anthropic.Anthropic, limit: int) -> None:
    """The client follows the pages to the end."""
    assert [model.id for model in client.models.list(limit=limit)] == list(ROUTES)


def test_pages_backwards(client: anthropic.Anthropic) -> None:
    """`before_id` gives the models just before that one, still in order."""
    page = client.models.list(limit=2, before_id=ROUTES[5])

    assert [model.id for model in page.data] == list(ROUTES[3:5])
    assert page.has_more


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after_id=nobody", "before_id=nobody"]
)
def test_a_bad_page_is_refused(client: anthropic.Anthropic, query: str) -> None:
    """With the name of the parameter, in Anthropic's shape."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.get(f"/v1/models?{query}", cast_to=httpx.Response)

    assert caught.value.type == "invalid_request_error"
    assert query.partition("=")[0] in str(caught.value)


def test_one_model(client: anthropic.Anthropic) -> None:
    """By its name, which may have a slash; an unknown one is `not_found_error`."""
    assert client.models.retrieve("other/route").display_name == "other/route"
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.type == "not_found_error"


def test_other_clients_get_openais_shape(edge: Edge) -> None:
    """The header alone decides."""
    shown = edge.get("/v1/models?limit=1").json()

    assert shown["object"] == "list"
    assert len(shown["data"]) == len(ROUTES)
