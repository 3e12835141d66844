"""Parsing at the edge: what is checked, what passes through, and what no input may cause."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.errors import InvalidRequestError
from spanledger.wires import CHAT, EMBEDDINGS
from spanledger.wires.base import Ask
from spanledger.wires.bounds import MAX_CHOICES
from spanledger.wires.fields import decode

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parse(body: dict[str, Any]) -> Ask:
    """Parse a complete chat body."""
    return CHAT.read(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is empty"),
        (b"{", "not JSON"),
        (b"null", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'{"model": "m"} x', "not JSON"),
        (b"{'model': 'm'}", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": [1,]}', "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        (b'{"a": "\xff\xfe"}', "not UTF-8"),
        (b'{"a": [{"b": "\xc3\x28"}]}', "not UTF-8"),
        (b'{"\xff": 1}', "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\\ud800"}', "not JSON"),
    ],
)
def test_bodies_that_are_no_object(body: bytes, message: str) -> None:
    """Anything but one JSON object in UTF-8 is a clear 400, also inside values that are skipped."""
    with pytest.raises(InvalidRequestError, match=message) as caught:
        decode(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}', "["])
def test_deep_nesting_ends_no_stack(depth: int, brackets: str) -> None:
    """Nesting far beyond any stack is refused, closed or not."""
    opening, closing = brackets.rstrip("]}"), "" if brackets == "[" else brackets[-1]
    body = f'{{"messages": {opening * depth}1{closing * depth}}}'.encode()
    with pytest.raises(InvalidRequestError):
        decode(body)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 10**40}, "max_completion_tokens"),
        ({"n": MAX_CHOICES + 1}, "n"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], param: str) -> None:
    """Each field that the gateway acts on is checked, and the error names it."""
    with pytest.raises(InvalidRequestError) as caught:
        parse({**BODY, **change})
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_TOKENS", "max_tokens"),
        ("Max_Completion_Tokens", "max_completion_tokens"),
        ("maxTokens", "max_tokens"),
        ("max_to\u212aens", "max_tokens"),
        ("meſſages", "messages"),
        ("Model", "model"),
        ("N", "n"),
        ("Stream", "stream"),
        ("Service_Tier", "service_tier"),
        ("Best_Of", "best_of"),
        ("generationconfig", "generationConfig"),
    ],
)
def test_other_spellings_are_refused(name: str, meant: str) -> None:
    """Other spellings that a server may accept for a field that money depends on are refused."""
    with pytest.raises(InvalidRequestError) as caught:
        parse({**BODY, name: 1})
    assert caught.value.param is not None
    assert caught.value.param.replace("_", "").lower() == meant.replace("_", "").lower()
    assert f"write {caught.value.param!r}" in str(caught.value)


def test_the_last_of_equal_keys_is_the_one() -> None:
    """Also if one of them is written with escapes: what was held for is what is sent."""
    body = b'{"model":"m","messages":[1],"max_tokens":9,"max_\\u0074okens":5,"X_New":1,"topK":2}'

    fields = CHAT.read(body).fields

    assert list(fields) == ["model", "messages", "max_tokens", "X_New", "topK"]
    assert bytes(fields["max_tokens"]) == b"5"


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_missing_fields_are_named(missing: str) -> None:
    """A missing required field is named."""
    with pytest.raises(InvalidRequestError, match="missing") as caught:
        parse({key: value for key, value in BODY.items() if key != missing})
    assert caught.value.param == missing


@pytest.mark.parametrize("value", ["", [], None, {}, 5])
def test_embeddings_need_input(value: object) -> None:
    """Embeddings accept a string or a non-empty array."""
    with pytest.raises(InvalidRequestError) as caught:
        EMBEDDINGS.read(json.dumps({"model": "m", "input": value}).encode())
    assert caught.value.param == "input"
    EMBEDDINGS.read(b'{"model": "m", "input": [[1, 2]]}')
    EMBEDDINGS.read('{"model": "m", "input": "ü"}'.encode())


def test_nulls_are_absent_and_the_rest_is_untouched() -> None:
    """Null means absent where OpenAI allows it, and unknown values keep their bytes."""
    ask = parse(
        {**BODY, "stream": None, "stream_options": None, "max_tokens": None, "n": None, "x": []}
    )
    assert (ask.stream, ask.include_usage) == (False, False)
    ask = parse({**BODY, "stream": True, "stream_options": {"include_usage": True, "x": 1}})
    assert (ask.stream, ask.include_usage) == (True, True)
    fields = decode(b'{"seed": 1.0e2, "a": {"b":  [1 ,2]}}')
    assert bytes(fields["seed"]) == b"1.0e2"
    assert bytes(fields["a"]) == b'{"b":  [1 ,2]}'
