"""Model names as configurations write them, and the line of the book that is charged."""

from __future__ import annotations

import pytest

from spanledger.pricing.book import PriceBook
from spanledger.pricing.names import RESOLD, ROUTES, Route, spellings
from spanledger.providers.hosts import provider_name


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """A fixed book."""
    return PriceBook.load("2026-11-25")


def priced(book: PriceBook, name: str, base_model: str = "") -> str | None:
    """The book's name of the line charged for a deployment's `model`."""
    prefix, _, model = name.partition("/")
    provider = provider_name(prefix)
    price = book.find(provider, model, name, {}, "d", base_model)
    return None if price is None else price.id.partition("/")[2]


HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        # BerriAI/litellm#3697, #13790
        ("bedrock/converse/apac.amazon.nova-pro-v1:0", "apac.amazon.nova-pro-v1:0"),
        (f"bedrock/us-west-2/us.{SONNET}", f"us.{SONNET}"),
        (f"bedrock/converse/eu-central-1/eu.{HAIKU}", f"eu.{HAIKU}"),
        (f"bedrock/eu-central-1/converse/eu.{HAIKU}", f"eu.{HAIKU}"),
        (f"bedrock/invoke/global.{HAIKU}", f"global.{HAIKU}"),
        (f"bedrock/us-east-1/{HAIKU}", HAIKU),
        # A region's own line wins over the model's.
        (f"bedrock/us-gov-west-1/{SONNET}", f"bedrock/us-gov-west-1/{SONNET}"),
        (f"bedrock/converse/us-gov-west-1/{SONNET}", f"bedrock/us-gov-west-1/{SONNET}"),
        # Not listed for that geography: the others have a surcharge, the bare line has none.
        (f"bedrock/apac.{SONNET}", f"us.{SONNET}"),
        ("bedrock/us-east-1/1-month-commitment/anthropic.claude-v1", None),
        ("bedrock/converse/amazon.nova-unheard-of-v1:0", None),
        ("vertex_ai/claude-sonnet-4-5@20250929", "vertex_ai/claude-sonnet-4-5@20250929"),
        ("vertex_ai/claude-opus-5@20260601", "vertex_ai/claude-opus-5"),
        (
            "vertex_ai/publishers/google/models/gemini-3-flash-preview",
            "vertex_ai/gemini-3-flash-preview",
        ),
        ("azure/eu/gpt-4o-2024-08-06", "azure/eu/gpt-4o-2024-08-06"),
        ("azure/global/gpt-4.1", "azure/gpt-4.1"),
        ("azure/apac/gpt-4.1", "azure/us/gpt-4.1"),
        ("azure/responses/gpt-5-pro", "azure/gpt-5-pro"),
        ("azure/prod-eu-1", None),
        ("openai/responses/gpt-5", "gpt-5"),
        ("openai/ft:gpt-4o-2024-08-06:acme::abc", "ft:gpt-4o-2024-08-06"),
        ("openai/ft:gpt-unheard-of:acme::abc", None),
        ("gemini/models/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("openrouter/openai/gpt-4o", "gpt-4o"),
        ("openrouter/anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("openrouter/google/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("openrouter/x-ai/grok-4.6", "xai/grok-4.6"),
        # Many hosts, or a variant with its own price.
        ("openrouter/google/gemma-4-31b-it", None),
        ("openrouter/deepseek/deepseek-chat", None),
        ("openrouter/openai/gpt-4o:free", None),
        # Other providers' routes are not removed.
        ("groq/responses/gpt-5", None),
    ],
)
def test_the_way_to_a_model_is_no_part_of_its_price(
    book: PriceBook, name: str, line: str | None
) -> None:
    """Exactly the name if the book has it, else the same model without its route."""
    assert priced(book, name) == line


@pytest.mark.parametrize(
    ("name", "base", "line"),
    [
        # BerriAI/litellm#7004, #41780, #20411
        ("azure/prod-eu-1", "azure/gpt-4o-2024-08-06", "azure/gpt-4o-2024-08-06"),
        ("azure/prod-eu-1", "gpt-4o-2024-08-06", "azure/gpt-4o-2024-08-06"),
        ("azure/prod-eu-1", "azure/eu/gpt-4o", "azure/eu/gpt-4o"),
        # BerriAI/litellm#1874: the deployment has the name of another model.
        ("azure/gpt-4", "azure/gpt-4-1106-preview", "azure/gpt-4-1106-preview"),
        ("openai/prod", "azure/gpt-4o-2024-08-06", "azure/gpt-4o-2024-08-06"),
        # BerriAI/litellm#18542
        ("vertex_ai/x", "claude-haiku-4-5", "vertex_ai/claude-haiku-4-5"),
        ("vertex_ai/x", "anthropic/claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"),
        ("bedrock/arn:aws:bedrock:eu:1:x/abc", f"bedrock/us.{HAIKU}", f"us.{HAIKU}"),
        ("bedrock/arn:aws:bedrock:eu:1:x/abc", f"converse/us.{HAIKU}", f"us.{HAIKU}"),
        ("hosted_vllm/mine", "gpt-4o", "gpt-4o"),
        ("azure/gpt-4o", "azure/unheard-of", "azure/gpt-4o"),
        ("azure/prod-eu-1", "azure/unheard-of", None),
    ],
)
def test_a_base_model_decides(book: PriceBook, name: str, base: str, line: str | None) -> None:
    """It says what a custom name is; if the book lacks it, the name itself counts."""
    assert priced(book, name, base) == line


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.owner}: {route.what}")
def test_every_route_comes_off_its_example(book: PriceBook, route: Route) -> None:
    """Each row of the table finds a price that its example would otherwise lack."""
    model = route.example.partition("/")[2]

    assert len(list(spellings((route.owner,), model))) > 1
    assert priced(book, route.example) is not None


def test_every_reseller_row_names_a_maker(book: PriceBook) -> None:
    """The makers in the table are in the book under that name."""
    makers = {entry.provider for entry in book.entries.values()}

    assert {maker for maker, _ in RESOLD.values()} <= makers
