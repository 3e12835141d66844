"""Whom a request is for: its user, project and tags, from key, headers and body."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from spanledger.ledger.keys import Key
from spanledger.ledger.model import MAX_TAGS
from tests.service.gateway.harness import Edge, ScriptedLedger, chat, config_with, running_edge

PLAIN, BOUND = "slk_plain", "slk_bound"
"""A key that names nobody, and one that names all."""
HASH = "5dd07c33da27e6d2968d94ea20bf47a7b090b6b158b82328d54da2909a108e84"
SESSION = "d2e70091-3007-41a3-a916-cb8b0d3098de"
EMBEDDINGS, MESSAGES, RESPONSES = "/v1/embeddings", "/v1/messages", "/v1/responses"
GENERATE = "/v1beta/models/echo:generateContent"


def ledger() -> ScriptedLedger:
    """With both keys."""
    found = ScriptedLedger()
    for secret in (PLAIN, BOUND):
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found.keys[digest] = Key(secret, "acme", "", (), 1, None)
    digest = hashlib.sha256(BOUND.encode()).hexdigest()
    found.keys[digest] = Key(
        BOUND, "acme", "", (), 1, None, user="ada", project="apollo", tags=("key",)
    )
    return found


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway that trusts no header."""
    with running_edge(config_with(), ledger()) as running:
        yield running


@pytest.fixture(scope="module")
def proxied() -> Iterator[Edge]:
    """A gateway that trusts headers of a proxy before it."""
    config = config_with(
        user_headers=["X-LiteLLM-End-User-Id"],
        project_headers=["openai-project"],
        tag_headers=["x-litellm-tags"],
    )
    with running_edge(config, ledger()) as running:
        yield running


class Named(NamedTuple):
    """Whom a request was for."""

    user: str
    project: str
    tags: tuple[str, ...]


def named(edge: Edge) -> Named:
    """Of the last request."""
    start = edge.router.seen[-1].start
    return Named(start.user, start.project, start.tags)


def ask(
    edge: Edge, body: Any, path: str = "/v1/chat/completions", key: str = PLAIN, **headers: str
) -> Named:
    """Send a body that is served."""
    answer = edge.post(body, path, authorization=f"Bearer {key}", **headers)
    assert answer.status == 200, answer.body
    return named(edge)


MESSAGE = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "model": "echo"}


@pytest.mark.parametrize(
    ("path", "body", "user"),
    [
        ("/v1/chat/completions", chat(user="eve"), "eve"),
        ("/v1/chat/completions", chat(safety_identifier="eve"), "eve"),
        ("/v1/chat/completions", chat(safety_identifier="x", user="eve"), "eve"),
        ("/v1/chat/completions", chat(metadata={"user_id": "eve"}, user=""), "eve"),
        ("/v1/chat/completions", chat(litellm_metadata={"user": "eve"}, user=None), "eve"),
        ("/v1/chat/completions", chat(user="  e\u0301ve "), "éve"),
        ("/v1/completions", {"model": "echo", "prompt": "hi", "user": "eve"}, "eve"),
        (EMBEDDINGS, {"model": "echo", "input": "hi", "user": "eve"}, "eve"),
        (RESPONSES, {"model": "echo", "input": "hi", "safety_identifier": "eve"}, "eve"),
        (MESSAGES, {**MESSAGE, "metadata": {"user_id": "eve"}}, "eve"),
        (
            MESSAGES,
            {**MESSAGE, "metadata": {"user_id": f"user_{HASH}_account__session_{SESSION}"}},
            f"user_{HASH}_account_",
        ),
        (
            MESSAGES,
            {
                **MESSAGE,
                "metadata": {
                    "user_id": f'{{"device_id":"{HASH}","account_uuid":"","session_id":"{SESSION}"}}'
                },
            },
            HASH,
        ),
        ("/v1/images/generations", {"model": "echo", "prompt": "hi", "user": "eve"}, "eve"),
        (
            "/v1/audio/speech",
            {"model": "echo", "input": "hi", "voice": "alloy", "metadata": {"user_id": "eve"}},
            "eve",
        ),
        (GENERATE, {"contents": [{"parts": [{"text": "hi"}]}], "user": "eve"}, "eve"),
    ],
)
def test_each_wire_says_who_its_user_is(edge: Edge, path: str, body: Any, user: str) -> None:
    """The user is read where OpenAI, Anthropic and LiteLLM have it, without a session in it."""
    assert ask(edge, body, path).user == user


def test_tags_and_projects_of_a_body(edge: Edge) -> None:
    """Tags are read from where LiteLLM has them, each once, in order; the project from metadata."""
    metadata = {
        "tags": ["b", "a", "b"],
        "project": "apollo",
        "spend_logs_metadata": {"tags": "c,d"},
    }
    found = ask(edge, chat(metadata=metadata, litellm_metadata={"tags": ["z"]}, tags=["a", "y"]))
    assert found == ("", "apollo", ("z", "b", "a", "c", "d", "y"))


def test_tags_may_be_a_text_wherever_they_stand(edge: Edge) -> None:
    """With commas between, as in a form; they are not sent to the provider either."""
    assert ask(edge, chat(tags="a, b")).tags == ("a", "b")
    answer = edge.post(chat(tags="a,b"), authorization=f"Bearer {PLAIN}")
    assert "tags" not in answer.json()["echo"]


def test_nested_metadata_is_read_once(edge: Edge) -> None:
    """Else each level would read all of the rest again: megabytes in 900 levels stop the gateway for
    seconds."""
    metadata: Any = {"tags": ["inner"]}
    for _ in range(40):
        metadata = {"spend_logs_metadata": metadata}
    assert ask(edge, chat(metadata=metadata)).tags == ()


def test_what_only_litellm_knows_is_not_sent_on(edge: Edge) -> None:
    """Fields that providers refuse are taken out; texts in metadata stay, as OpenAI has them."""
    metadata = {"tags": ["a"], "spend_logs_metadata": {"x": 1}, "user_id": "eve", "note": "n"}
    body = chat(metadata=metadata, litellm_metadata={"tags": ["z"]}, tags=["y"], user="eve")
    answer = edge.post(body, authorization=f"Bearer {PLAIN}")
    sent = answer.json()["echo"]
    assert sent["metadata"] == {"user_id": "eve", "note": "n"}
    assert sent["user"] == "eve"
    assert not {"litellm_metadata", "tags"} & sent.keys()
    alone = edge.post(chat(metadata={"tags": ["a"]}), authorization=f"Bearer {PLAIN}")
    assert "metadata" not in alone.json()["echo"]
    texts = {"tags": "a,b", "session_id": "s"}
    kept = edge.post(chat(metadata=texts), authorization=f"Bearer {PLAIN}")
    assert kept.json()["echo"]["metadata"] == texts


def test_a_request_cannot_change_what_its_key_names(edge: Edge, proxied: Edge) -> None:
    """User and project of the key stay whatever the request names, and its tags are only added to."""
    body = chat(user="eve", metadata={"project": "other", "tags": ["mine"]})
    assert ask(edge, body, key=BOUND) == ("ada", "apollo", ("key", "mine"))
    headers = {
        "x_litellm_end_user_id": "eve",
        "openai_project": "other",
        "x_litellm_tags": "mine, more",
    }
    assert ask(proxied, chat(), key=BOUND, **headers) == ("ada", "apollo", ("key", "mine", "more"))


def test_headers_count_only_where_the_settings_name_them(edge: Edge, proxied: Edge) -> None:
    """Without a setting, no header names anybody; with it, a header precedes the body."""
    headers = {"x_litellm_end_user_id": "eve", "openai_project": "apollo", "x_litellm_tags": "a,b"}
    assert ask(edge, chat(user="body"), **headers) == ("body", "", ())
    assert ask(proxied, chat(user="body"), **headers) == ("eve", "apollo", ("a", "b"))
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    assert ask(proxied, body, GENERATE, **headers) == ("eve", "apollo", ("a", "b"))


def test_bodies_can_be_left_alone() -> None:
    """With `names_in_body` off, a body names nobody and is passed on as it came."""
    with running_edge(config_with(names_in_body=False), ledger()) as edge:
        body = chat(user="eve", metadata={"tags": ["a"]})
        assert ask(edge, body) == ("", "", ())
        sent = edge.post(body, authorization=f"Bearer {PLAIN}").json()["echo"]
        assert sent["metadata"] == {"tags": ["a"]}


@pytest.mark.parametrize(
    "more",
    [
        {"user": 7},
        {"user": "x" * 257},
        {"user": "a\nb"},
        {"user": "*"},
        {"user": "a`b"},
        {"user": "\ud800"},
        {"safety_identifier": ["a"]},
        {"metadata": {"user_id": {}}},
        {"metadata": {"tags": [1]}},
        {"metadata": {"tags": ["a", "*"]}},
        {"metadata": {"project": "\x00"}},
        {"litellm_metadata": {"tags": {"a": 1}}},
    ],
)
def test_a_name_that_cannot_be_one_is_refused(edge: Edge, more: dict[str, Any]) -> None:
    """It is a mistake of the request, which says what a name must be, and is recorded."""
    count = len(edge.router.seen)
    answer = edge.post(chat(**more), authorization=f"Bearer {PLAIN}")
    assert answer.status == 400
    assert answer.error["code"] in ("invalid_name", "invalid_json")
    assert len(edge.router.seen) == count


def test_a_wrong_name_is_refused_in_the_shape_of_the_wire(edge: Edge) -> None:
    """Anthropic's and Google's clients get their own form of the error."""
    for path, body in (
        (MESSAGES, {**MESSAGE, "metadata": {"user_id": "*"}}),
        (GENERATE, {"contents": [{"parts": [{"text": "hi"}]}], "user": "*"}),
    ):
        answer = edge.post(body, path, authorization=f"Bearer {PLAIN}")
        assert answer.status == 400
        error = answer.json()["error"]
        assert "printable characters" in error["message"]
        assert error.get("type") == "invalid_request_error" or error["status"] == "INVALID_ARGUMENT"


def test_too_many_tags_are_refused(edge: Edge) -> None:
    """With those of its key, a request has a limited number of tags, and the error says how many."""
    tags = [f"t{number}" for number in range(MAX_TAGS)]
    assert len(ask(edge, chat(metadata={"tags": tags})).tags) == MAX_TAGS
    body = chat(metadata={"tags": tags})
    answer = edge.post(body, authorization=f"Bearer {BOUND}")
    assert answer.status == 400
    assert answer.error["code"] == "too_many_tags"
    assert str(MAX_TAGS + 1) in answer.error["message"]


def test_invalid_headers_are_refused(proxied: Edge) -> None:
    """A trusted header that is not a name is a mistake, never an unnamed request."""
    for value in ("*", "x" * 257):
        answer = proxied.post(chat(), authorization=f"Bearer {PLAIN}", x_litellm_end_user_id=value)
        assert answer.status == 400
        assert answer.error["param"] == "x-litellm-end-user-id"


def test_metadata_of_another_form_is_left_to_the_provider(edge: Edge) -> None:
    """What is not an object names nobody."""
    assert ask(edge, chat(metadata="text", litellm_metadata=[1])) == ("", "", ())
