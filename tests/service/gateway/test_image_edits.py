"""OpenAI's client on edits and variations of images, against the whole gateway."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.service.gateway.endpoints import Site, running_site

PIXELS = "data:image/png;base64," + "A" * 60_000
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A model that bills tokens, and one that bills the image."""
    models = {"draw": "openai/gpt-image-1", "paint": "aiml/dall-e-3"}
    folder = tmp_path_factory.mktemp("gateway")
    with running_site(
        folder,
        models,
        fallbacks={"draw": "paint"},
        poor_nano=10**7,
        endpoints={"paint": ["/v1/images/edits", "/v1/images/variations"]},
    ) as found:
        yield found


def edit(site: Site, key: str = "rich", **fields: Any) -> Any:
    """An edit, raw."""
    asked: Any = {"model": "draw", "prompt": "A hat", "image": ("cat.png", PNG), **fields}
    with site.client(key, max_retries=0) as client:
        return client.images.with_raw_response.edit(**asked)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 2, "quality": "low", "size": "1024x1536", "input_fidelity": "high"},
        {"image": [("a.png", PNG), ("b.png", PNG + b"b")], "mask": ("m.png", PNG)},
        {"model": "paint", "quality": "hd"},
    ],
    ids=["one", "fields", "many", "by the image"],
)
def test_whole(site: Site, fields: dict[str, Any]) -> None:
    """The images come, and the ledger has the provider's bill, the images that were sent included."""
    before = len(site.billed())
    raw = edit(site, **fields)
    answer = raw.parse()

    assert answer.data is not None
    assert len(answer.data) == fields.get("n", 1)
    (entry,) = site.check(raw.headers["x-request-id"], before)
    assert entry["nano_usd"] > 0
    sent = 3 if "mask" in fields else 1
    if fields.get("model") != "paint":
        each = 6_563 if "input_fidelity" in fields else 323
        assert answer.usage.input_tokens_details.image_tokens == each * sent
    assert site.rows("operation")[-1] == ("image_edits",)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"images": [{"image_url": "https://x.test/cat.png"}]},
        {"images": [{"image_url": PIXELS}, {"file_id": "file-abc"}], "mask": {"image_url": PIXELS}},
        {"images": [{"image_url": PIXELS}], "n": 2, "quality": "low", "input_fidelity": "high"},
    ],
    ids=["address", "many", "fields"],
)
def test_images_named_in_json(site: Site, fields: dict[str, Any], stream: bool) -> None:
    """As in a form, they are held for and charged, and their data does not count as prompt."""
    before = len(site.billed())
    body = {"model": "draw", "prompt": "A hat", "stream": stream, **fields}
    with site.client("rich", max_retries=0) as client:
        answer = client.post("/images/edits", body=body, cast_to=httpx.Response)
    assert b"b64_json" in answer.content
    (entry,) = site.check(answer.headers["x-request-id"], before)
    each = 6_563 if "input_fidelity" in fields else 323
    named = len(fields["images"]) + ("mask" in fields)
    assert entry["usage"]["image_input_tokens"] == each * named
    ((_, hold, *_),) = site.attempts(answer.headers["x-request-id"])
    assert hold < 1_100_000_000  # three images, and no text of 120,000 characters


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("edits", {}, "'images' is missing"),
        ("edits", {"images": []}, "a non-empty array"),
        ("edits", {"images": [{}]}, "either an image_url or a file_id"),
        ("edits", {"images": [{"file_id": f"file-{'0' * 24}_x"}]}, "not found"),
        ("edits", {"images": [{"image_url": PIXELS}], "mask": "x"}, "made of objects"),
        ("edits", {"images": [{"image_url": PIXELS}], "model": "paint"}, "multipart/form-data"),
        ("variations", {"images": [{"image_url": PIXELS}]}, "multipart/form-data"),
    ],
)
def test_what_json_cannot_say(site: Site, path: str, fields: dict[str, Any], words: str) -> None:
    """It is refused with what to send instead, and nobody is called."""
    before = len(site.billed())
    body = {"model": "draw", "prompt": "A hat", **fields}
    with site.client("rich", max_retries=0) as client, pytest.raises(openai.APIStatusError) as no:
        client.post(f"/images/{path}", body=body, cast_to=object)
    assert no.value.status_code in (400, 404, 415)
    assert words in no.value.message
    assert len(site.billed()) == before


def test_streamed(site: Site) -> None:
    """Partial images, then the finished one with the usage that is billed."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        stream = client.images.edit(
            model="draw", prompt="A hat", image=("cat.png", PNG), stream=True, partial_images=2
        )
        kinds = [event.type for event in stream]
    assert kinds == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    site.check(site.last_request(), before)


def test_a_variation(site: Site) -> None:
    """It has an image and no prompt."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        raw = client.images.with_raw_response.create_variation(
            model="paint", image=("cat.png", PNG)
        )
    assert raw.parse().data
    site.check(raw.headers["x-request-id"], before)
    assert site.rows("operation")[-1] == ("image_variations",)


def test_another_model_takes_over(site: Site) -> None:
    """It gets the same form."""
    site.fault("500", model="gpt-image-1")
    try:
        raw = edit(site)
    finally:
        site.fault("")
    assert raw.headers["x-spanledger-deployment"] == "d-paint"


def test_a_budget_holds_for_all_images(site: Site) -> None:
    """Those that are drawn and those that are sent."""
    before = len(site.billed())
    with pytest.raises(openai.APIStatusError) as caught:
        edit(site, "poor", quality="low", image=[("a.png", PNG)] * 16)
    assert caught.value.code == "budget_exceeded"
    assert len(site.billed()) == before


def test_nothing_is_held_too_low(site: Site) -> None:
    """Random requests never cost more than their hold."""
    rng = random.Random(7)
    for _ in range(20):
        fields: dict[str, Any] = {"image": [("a.png", PNG)] * rng.choice([1, 2, 16])}
        for name, values in (
            ("n", [1, 3]),
            ("quality", ["low", "high", "auto"]),
            ("input_fidelity", ["low", "high"]),
            ("size", ["1024x1024", "1536x1024"]),
        ):
            if rng.random() < 0.7:
                fields[name] = rng.choice(values)
        before = len(site.billed())
        raw = edit(site, **fields)
        site.check(raw.headers["x-request-id"], before)
