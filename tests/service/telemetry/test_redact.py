"""What redaction removes, what it leaves, and how content is truncated."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from spanledger.telemetry.attributes import captured_content
from spanledger.telemetry.redact import redact_text
from spanledger.wires import CHAT

SECRETS = {
    "email": "jane.doe+x@example.co.uk",
    "api_key": "sk-proj-abcdefghijklmnopqrstuvwx",
    "card": "4111 1111 1111 1111",
    "iban": "GB82 WEST 1234 5698 7654 32",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "bearer_token": "Bearer abcdefgh12345678",
    "phone": "+49 30 901820",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
}
KEYS = [
    "sk-ant-api03-abcdefghijklmnop",
    "slk_0123456789abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl",
    "xoxb-123456789012-abcdefghij",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "hf_abcdefghijklmnopqrstuvwx",
]
HARMLESS = [
    "order 4111 1111 1111 1112 shipped",  # not a card: the check digit is wrong
    "build 1234567890123456",
    "12 + 34 (see 5) and 2026-11-23 10:00",
    "write to me @home, cost 12.50",
    "skip-level sk-learn desk-top",
    "eyJust a word. And one more.",
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items(), ids=list(SECRETS))
def test_each_kind_is_marked(kind: str, secret: str) -> None:
    """A secret within a sentence is replaced by its marker; the sentence stays."""
    assert redact_text(f"see ({secret}) there") == f"see ([REDACTED:{kind}]) there"


def test_a_private_key_goes_whole() -> None:
    """A key with headers, as encrypted ones have, is marked to its end and no further."""
    key = (
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n"
        "MIIEabcd+/=\n-----END RSA PRIVATE KEY-----"
    )

    assert redact_text(f"{key} - it says") == "[REDACTED:private_key] - it says"


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_many_makers_are_known(key: str) -> None:
    """Keys are recognised by their format, at the start, in the middle, and after punctuation."""
    assert redact_text(key) == "[REDACTED:api_key]"
    assert redact_text(f"KEY={key},") == "KEY=[REDACTED:api_key],"


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_stays(text: str) -> None:
    """Text that only resembles a secret is left alone."""
    assert redact_text(text) == text


def fields(**values: Any) -> dict[str, msgspec.Raw]:
    """A request's top level, undecoded."""
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in values.items()}


def answer(**message: Any) -> bytes:
    """A non-streamed answer with one choice."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


def event(**delta: Any) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def capture(
    mode: Any, max_bytes: int = 60_000, output: bytes = b"", **values: Any
) -> dict[str, Any]:
    """The captured attributes, decoded twice as a reader of the span would."""
    text = captured_content(mode, max_bytes, CHAT.content(fields(**values), output, ()))
    assert text is not None
    return dict(json.loads(text))


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("secret", SECRETS.values(), ids=list(SECRETS))
def test_no_place_in_a_request_or_answer_is_missed(place: int, secret: str) -> None:
    """The same secret is found in text, parts, names, tool arguments, tools, answers, streams."""
    arguments = json.dumps({"to": {"who": [f"it is {secret}"]}}, ensure_ascii=place % 2 == 0)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    values: dict[str, Any] = {"messages": messages}
    output: bytes = answer(content="fine")
    events: list[bytes] = []
    match place:
        case 0:
            messages[0]["content"] = f"I am {secret}!"
        case 1:
            messages[0]["content"] = [{"type": "text", "text": f"I am {secret}"}]
        case 2:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        case 3:
            messages.append({"role": "tool", "tool_call_id": "c", "content": f"a\n{secret}"})
        case 4:
            parameters = {"type": "object", "properties": {secret: {"default": secret}}}
            function = {"name": "f", "parameters": parameters}
            values["tools"] = [{"type": "function", "function": function}]
        case 5:
            output = answer(content=f"It is {secret}", tool_calls=[call])
        case 6:
            output = b""
            events = [event(content=piece) for piece in ("It is ", secret[:5], secret[5:], ".")]

    text = captured_content("redacted", 60_000, CHAT.content(fields(**values), output, events))

    assert text is not None
    assert "[REDACTED:" in text
    assert secret.replace("\n", "\\n") not in text
    full = captured_content("full", 60_000, CHAT.content(fields(**values), output, events))
    assert full is not None
    assert secret.replace("\n", "\\n") in full


def test_a_card_number_sent_as_a_number_is_found() -> None:
    """A tool argument that is not text can be a secret too."""
    call = {"function": {"name": "pay", "arguments": '{"card": 4111111111111111, "n": 12}'}}
    found = capture("redacted", messages=[{"role": "assistant", "tool_calls": [call]}])

    arguments = found["gen_ai.input.messages"][0]["parts"][0]["arguments"]
    assert arguments == {"card": "[REDACTED:card]", "n": 12}


def test_an_early_cut_does_not_uncover_half_a_secret() -> None:
    """Text is truncated before it is searched, to bound the work; a secret cut in half is not shown."""
    for shift in range(0, 60, 7):
        text = "a" * (1000 + 8192 - 40 + shift) + " jane.doe@example.com " + "b" * 20_000
        found = capture("redacted", 1000, messages=[{"role": "user", "content": text}])
        shown = json.dumps(found)
        assert "jane" not in shown
        assert "example" not in shown


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=40), inner),
    max_leaves=25,
)


# A busy machine generates such values slowly, which says nothing about the code under test.
@settings(max_examples=60)
@given(
    st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON_VALUES)),
    JSON_VALUES,
    st.sampled_from(["redacted", "full"]),
    st.integers(256, 1200),
)
def test_whatever_is_captured_is_valid_and_fits(
    messages: list[Any], tools: Any, mode: Any, max_bytes: int
) -> None:
    """However odd the request, the result is JSON, a list of objects, never over the limit."""
    values = fields(messages=messages, tools=tools)
    text = captured_content(mode, max_bytes, CHAT.content(values, json.dumps(tools).encode(), ()))

    for raw in msgspec.json.decode(text or "{}", type=dict[str, msgspec.Raw]).values():
        assert len(bytes(raw)) <= max_bytes
        assert all(isinstance(item, dict) for item in json.loads(bytes(raw)))


def test_long_text_is_shortened_before_messages_go() -> None:
    """A long message is truncated and says how long it was; the others are kept in full."""
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "x" * 5000},
        {"role": "user", "content": "and now?"},
    ]
    found = capture("full", 2000, messages=messages)["gen_ai.input.messages"]

    texts = [message["parts"][0]["content"] for message in found]
    assert texts[0] == "be kind"
    assert texts[1].startswith("xxxx")
    assert texts[1].endswith("…[truncated, 5000 characters]")
    assert texts[2] == "and now?"


def test_many_messages_lose_their_middle() -> None:
    """The first message and the latest stay; a note says how many are missing."""
    messages = [{"role": "user", "content": f"number {number}"} for number in range(200)]
    found = capture("full", 1000, messages=messages)["gen_ai.input.messages"]

    texts = [message["parts"][0]["content"] for message in found]
    assert texts[0] == "number 0"
    assert texts[-1] == "number 199"
    assert texts[1].startswith(f"[{200 - len(texts) + 1} left out, ")


@pytest.mark.parametrize("mode", ["redacted", "full"])
def test_pictures_are_replaced_by_their_kind_and_size(mode: Any) -> None:
    """Binary data never goes on a span, wherever it is."""
    url = "data:image/png;base64," + "iVBORw0KGgo" * 100
    image = {"type": "image_url", "image_url": {"url": url}}
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA" * 50, "format": "wav"}}
    text = {"type": "text", "text": f"see {url} here"}
    found = capture(mode, messages=[{"role": "user", "content": [image, audio, text]}])

    parts = found["gen_ai.input.messages"][0]["parts"]
    assert [p.get("mime_type") for p in parts] == ["image/png", "audio/wav", None]
    assert parts[0]["content"] == f"[left out, {len(url)} bytes]"
    assert parts[2]["content"] == f"see [data URL image/png, {len(url)} bytes] here"
    assert "iVBOR" not in json.dumps(found)
    assert "AAAA" not in json.dumps(found)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        "a@",
        "a.",
        "sk-",
        "eyJ",
        "+1 ",
        "1 ",
        "4-",
        "(1",
        "A1",
        "GB82 AAAA ",
        "-----BEGIN ",
        "Bearer ",
    ],
)
def test_hostile_text_is_searched_in_linear_time(piece: str) -> None:
    """A long text made to defeat the patterns finishes; quadratic work would take hours."""
    redact_text(piece * (500_000 // len(piece)))
