"""The names under which the price book may list a deployment's model.

A configured model name may include how to reach the model: LiteLLM's route, a region, a geography,
a deployment type. The book lists some models with these parts and others without. `ROUTES` has the
parts that may be removed; the rest is looked up exactly, never matched loosely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LITELLM_PROVIDERS = {
    "aws.bedrock": ("bedrock", "bedrock_converse", "bedrock_mantle"),
    "azure.ai.inference": ("azure_ai",),
    "azure.ai.openai": ("azure", "azure_text"),
    "bedrock": ("bedrock", "bedrock_converse", "bedrock_mantle"),
    "cohere": ("cohere", "cohere_chat"),
    "gcp.gemini": ("gemini",),
    "gcp.gen_ai": ("gemini",),
    "gcp.vertex_ai": ("vertex_ai",),
    "ibm.watsonx.ai": ("watsonx",),
    "mistral_ai": ("mistral",),
    "moonshot_ai": ("moonshot",),
    "openai": ("openai", "text-completion-openai"),
    "x_ai": ("xai",),
}
"""`gen_ai.provider.name` to LiteLLM's names of the same provider, if they differ."""


class Route(NamedTuple):
    """A part that a configured name may have and the book may not.

    Attributes:
        owner: LiteLLM's first name of the provider.
        pattern: the part to remove; its first group, if it has one, stays.
    """

    owner: str
    what: str
    pattern: re.Pattern[str]
    example: str
    source: str


GEOGRAPHIES = ("us", "eu", "apac", "au", "jp", "ca", "us-gov", "global")

ROUTES: tuple[Route, ...] = (
    Route(
        "bedrock",
        "the API that LiteLLM calls",
        re.compile(r"^(?:converse|converse_like|invoke)/"),
        "bedrock/converse/apac.amazon.nova-pro-v1:0",
        "BerriAI/litellm#13790",
    ),
    Route(
        "bedrock",
        "a region",
        re.compile(r"^[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d+/(?!\d+-month)"),
        "bedrock/us-west-2/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "BerriAI/litellm#3697",
    ),
    Route(
        "bedrock",
        "the geography of an inference profile",
        re.compile(rf"^(?:{'|'.join(GEOGRAPHIES)})\."),
        "bedrock/apac.anthropic.claude-opus-4-5-20251101-v1:0",
        "mastra-ai/mastra#19360",
    ),
    Route(
        "azure",
        "the API or series, a hint for LiteLLM",
        re.compile(r"^(?:responses|o_series|gpt5_series)/"),
        "azure/responses/gpt-5",
        "LiteLLM's Azure pages",
    ),
    Route(
        "azure",
        "a data zone or deployment type",
        re.compile(r"^(?:eu|us|apac|global|global-standard|us-gov)/"),
        "azure/global/gpt-4.1",
        "LiteLLM's price list",
    ),
    Route(
        "openai",
        "the API that LiteLLM calls",
        re.compile(r"^(?:responses|chat)/"),
        "openai/responses/gpt-5-pro",
        "LiteLLM's OpenAI pages",
    ),
    Route(
        "openai",
        "the owner of a fine-tuned model",
        re.compile(r"^(ft:[^:]+):.*"),
        "openai/ft:gpt-4o-2024-08-06:acme::abc123",
        "OpenAI fine-tuning guide",
    ),
    Route(
        "vertex_ai",
        "a resource's path",
        re.compile(r"^(?:publishers/\w+/)?models/"),
        "vertex_ai/models/gemini-3-flash-preview",
        "Vertex AI API reference",
    ),
    Route(
        "vertex_ai",
        "a version",
        re.compile(r"@[^@/]+$"),
        "vertex_ai/claude-opus-5@20260601",
        "BerriAI/litellm#18542",
    ),
    Route(
        "gemini",
        "a resource's path",
        re.compile(r"^models/"),
        "gemini/models/gemini-2.5-pro",
        "Gemini API reference",
    ),
)
"""In the order in which they are removed."""

RESOLD = {
    "openai/gpt-": ("openai", "gpt-"),
    "openai/o1": ("openai", "o1"),
    "openai/o3": ("openai", "o3"),
    "openai/o4": ("openai", "o4"),
    "anthropic/claude-": ("anthropic", "claude-"),
    "google/gemini-": ("gemini", "gemini-"),
    "x-ai/grok-": ("xai", "grok-"),
}
"""Prefixes of OpenRouter's names for models that only their makers sell, and the maker and the name
there. OpenRouter charges the maker's price for them (its FAQ). Open models have many hosts and
prices, and variants (`:free`, `:nitro`) have prices of their own."""


def owners_of(provider: str) -> tuple[str, ...]:
    """LiteLLM's names of a provider."""
    return LITELLM_PROVIDERS.get(provider, (provider,))


def spellings(owners: tuple[str, ...], model: str) -> Iterator[str]:
    """A model's name as it was given, then with one part after another removed."""
    yield model
    routes = [route for route in ROUTES if route.owner in owners]
    for number, route in enumerate(routes):
        # Removing one part may expose another that belongs to an earlier row.
        for other in (route, *routes[:number]):
            shorter = other.pattern.sub(r"\1" if other.pattern.groups else "", model)
            if shorter and shorter != model:
                model = shorter
                yield model


def maker_of(owners: tuple[str, ...], model: str) -> tuple[str, str] | None:
    """The maker of a model that a reseller offers, and the maker's name for it."""
    if "openrouter" not in owners or ":" in model:
        return None
    for beginning, (maker, name) in RESOLD.items():
        if model.startswith(beginning):
            rest = model[len(beginning) :]
            # OpenRouter writes claude-sonnet-4.5 for Anthropic's claude-sonnet-4-5.
            return maker, name + (rest.replace(".", "-") if maker == "anthropic" else rest)
    return None


def elsewhere(owners: tuple[str, ...], model: str) -> tuple[str, ...]:
    """The book's names of a model in regions other than the requested one; empty if the request
    names no region, or all of them."""
    if "bedrock" in owners:
        place, dot, rest = model.rpartition("/")[2].partition(".")
        if dot and place in _PLACES:
            return tuple(f"{other}.{rest}" for other in _PLACES)
    if "azure" in owners:
        place, slash, rest = model.partition("/")
        if slash and place in _PLACES:
            return tuple(f"azure/{other}/{rest}" for other in _PLACES)
    return ()


_PLACES = tuple(place for place in GEOGRAPHIES if place not in ("global", "us-gov"))
