r"""A letter that is written as an escape (`\u0061`) hides nothing from what bounds a request's cost."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from spanledger.pricing.demand import Demand
from spanledger.wires import INBOUND
from spanledger.wires.gemini.inbound import GenerateContent

WIRES = {wire.name: wire for wire in INBOUND.values()} | {"generate_content": GenerateContent("m")}
_LETTER = re.compile("[a-z]")


def _generate(part: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"parts": [part]}]}


CASES = [
    ("generate_content", "fileData", _generate({"fileData": {"fileUri": "files/a"}})),
    ("generate_content", "file_data", _generate({"file_data": {"file_uri": "files/a"}})),
    (
        "generate_content",
        "inlineData",
        _generate({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
    ),
    (
        "generate_content",
        "inlineData",
        _generate({"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}),
    ),
    (
        "chat",
        "image_url",
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "https://a/b"}}]}]},
    ),
    (
        "chat",
        "audio",
        {"messages": [{"role": "user", "content": "a"}], "modalities": ["text", "audio"]},
    ),
    ("embeddings", "data", {"input": ["data:image/png;base64,AAAA"]}),
    ("rerank", "image", {"query": "q", "documents": [{"image": "https://a/b.png"}]}),
    (
        "responses",
        "programmatic",
        {
            "input": "a",
            "tools": [{"type": "function", "name": "f", "allowed_callers": ["programmatic"]}],
        },
    ),
    (
        "responses",
        "input_image",
        {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "https://a"}]}
            ]
        },
    ),
    (
        "moderations",
        "image_url",
        {"input": [{"type": "image_url", "image_url": {"url": "https://a"}}]},
    ),
]


def _demand(wire: str, body: str) -> Demand:
    return WIRES[wire].read(body.encode()).demand


@pytest.mark.parametrize(("wire", "name", "body"), CASES)
def test_an_escape_hides_no_name(wire: str, name: str, body: dict[str, Any]) -> None:
    """Wherever its escaped letter stands, the name bounds the cost as it does when it is plain."""
    plain = json.dumps({"model": "m", **body})
    wanted = _demand(wire, plain)
    for letter in _LETTER.finditer(name):
        at = letter.start()
        hidden = f"{name[:at]}\\u{ord(letter[0]):04x}{name[at + 1 :]}"
        escaped = plain.replace(name, hidden)
        assert json.loads(escaped) == json.loads(plain)
        found = _demand(wire, escaped)

        assert found.input_tokens >= wanted.input_tokens
        assert (found.sound, found.speech) == (wanted.sound, wanted.speech)
        assert set(found.unbounded) == set(wanted.unbounded)
