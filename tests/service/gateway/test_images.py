"""OpenAI's client on image generation, against the whole gateway."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.service.gateway.endpoints import Site, running_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A model that bills tokens, and one that bills the image."""
    models = {"draw": "openai/gpt-image-1", "paint": "aiml/dall-e-3", "chat": "openai/gpt-4o-mini"}
    folder = tmp_path_factory.mktemp("gateway")
    with running_site(folder, models, fallbacks={"draw": "paint"}, poor_nano=10**7) as found:
        yield found


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "draw"},
        {"model": "draw", "n": 3, "quality": "low", "size": "1024x1536", "background": "opaque"},
        {"model": "paint", "quality": "hd", "size": "1792x1024", "style": "vivid"},
    ],
    ids=str,
)
def test_whole(site: Site, fields: dict[str, Any]) -> None:
    """The images come, and the ledger has the provider's bill."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        raw = client.images.with_raw_response.generate(prompt="A cat", **fields)
    answer = raw.parse()

    assert answer.data is not None
    assert len(answer.data) == fields.get("n", 1)
    request_id = raw.headers["x-request-id"]
    (entry,) = site.check(request_id, before)
    assert entry["nano_usd"] > 0
    assert site.attempts(request_id)[0][2] == 0
    assert site.rows("operation", f"request_id = '{request_id}'") == [("images",)]


def test_streamed(site: Site) -> None:
    """Partial images, then the finished one with the usage that is billed."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        stream = client.images.generate(
            model="draw", prompt="A cat", stream=True, partial_images=2, quality="low"
        )
        events = list(stream)

    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]
    (entry,) = site.check(site.last_request(), before)
    last: Any = events[-1]
    assert last.usage.output_tokens == entry["usage"]["output_tokens"]


@pytest.mark.parametrize("fault", ["429;retry_after=0", "500", "reset", "cut:0"])
def test_another_model_takes_over(site: Site, fault: str) -> None:
    """Where the first one fails."""
    site.fault(fault, model="gpt-image-1")
    try:
        with site.client("rich", max_retries=0) as client:
            raw = client.images.with_raw_response.generate(model="draw", prompt="A cat")
    finally:
        site.fault("")

    assert raw.headers["x-spanledger-deployment"] == "d-paint"
    assert site.attempts(site.last_request())[-1][0] == site.billed()[-1]["nano_usd"]


def test_a_broken_stream_is_an_error(site: Site) -> None:
    """The client raises, and the images that may have been drawn are charged within the hold."""
    before = len(site.billed())
    site.fault("cut:1", model="gpt-image-1")
    try:
        with site.client("rich", max_retries=0) as client:
            stream = client.images.generate(
                model="draw", prompt="A cat", stream=True, partial_images=2
            )
            with pytest.raises(openai.APIError):
                list(stream)
    finally:
        site.fault("")
    request_id = site.last_request()
    site.check(request_id, before, exact=False)
    assert site.attempts(request_id)[0][3] == "stream_interrupted"


@pytest.mark.parametrize("quality", ["low", "high"])
def test_a_budget_holds_for_all_images(site: Site, quality: str) -> None:
    """No cap shortens an image: what is left must pay for all of them, or nothing is sent."""
    before = len(site.billed())
    fields: Any = {"model": "draw", "prompt": "A cat", "n": 4, "quality": quality}
    with (
        site.client("poor", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.images.generate(**fields)
    assert caught.value.code == "budget_exceeded"
    assert len(site.billed()) == before


def test_usage_that_is_missing_is_estimated(site: Site) -> None:
    """By the images, within the hold."""
    site.fault("missing_usage", model="gpt-image-1")
    try:
        with site.client("rich", max_retries=0) as client:
            raw = client.images.with_raw_response.generate(model="draw", prompt="A cat")
    finally:
        site.fault("")
    cost, hold, estimated, *_ = site.attempts(raw.headers["x-request-id"])[0]
    assert 0 < cost <= hold
    assert estimated


def test_nothing_is_held_too_low(site: Site) -> None:
    """Random requests never cost more than their hold."""
    rng = random.Random(3)
    with site.client("rich", max_retries=0) as client:
        for _ in range(40):
            fields: dict[str, Any] = {"model": "draw", "prompt": "A cat " * rng.choice([1, 300])}
            for name, values in (
                ("n", [1, 2, 10]),
                ("quality", ["low", "medium", "high", "auto"]),
                ("size", ["1024x1024", "1024x1536", "1536x1024", "auto"]),
            ):
                if rng.random() < 0.7:
                    fields[name] = rng.choice(values)
            if rng.random() < 0.3:
                fields |= {"stream": True, "partial_images": rng.choice([0, 1, 3])}
            before = len(site.billed())
            answer = client.images.generate(**fields)
            if isinstance(answer, openai.Stream):
                list(answer)
            site.check(site.last_request(), before)
