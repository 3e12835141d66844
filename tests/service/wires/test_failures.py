"""A provider's refusal becomes the right kind, wait and body, and leaks nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.errors import PROVIDER_ERROR_KINDS
from spanledger.wires import CHAT
from spanledger.wires.base import Problem
from spanledger.wires.error_forms import failure_of, read_failure
from spanledger.wires.failures import MAX_RETRY_AFTER_S, kind_of, refusal, retry_after_s
from tests.service.providers.scripted import KEY, deployment


def openai_error(message: str = "no", kind: str = "invalid_request_error", code: Any = None) -> Any:
    """OpenAI's error shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(kind: str, message: str = "no") -> Any:
    """Anthropic's error shape."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, openai_error(), "invalid_request"),
        (400, openai_error(code="context_length_exceeded"), "context_window_exceeded"),
        (
            400,
            openai_error("This model's maximum context length is 4096"),
            "context_window_exceeded",
        ),
        (
            400,
            {
                "object": "error",
                "message": "The decoder prompt (length 5000) is longer than the maximum model "
                "length of 4096.",
                "type": "BadRequestError",
                "code": 400,
            },
            "context_window_exceeded",
        ),
        (400, openai_error("too many tokens: 9000 > 8192"), "context_window_exceeded"),
        (400, openai_error(code="content_policy_violation"), "content_filtered"),
        (400, openai_error(code="content_filter"), "content_filtered"),
        (
            400,
            openai_error("The response was filtered by Azure's content management policy"),
            "content_filtered",
        ),
        (
            400,
            {"error": "API key not valid. Please pass a valid API key."},
            "authentication_failed",
        ),
        (401, openai_error(code="invalid_api_key"), "authentication_failed"),
        (402, openai_error("Insufficient Balance"), "rate_limited"),
        (403, openai_error(), "authentication_failed"),
        (404, openai_error(code="model_not_found"), "not_found"),
        (404, openai_error("No such File object: file-abc123"), "invalid_request"),
        (404, openai_error("Vector store with id vs_68ab not found."), "invalid_request"),
        (404, openai_error("Container with id 'cntr_68ab' not found."), "invalid_request"),
        (404, anthropic_error("not_found_error", "File not found: file_011CN"), "invalid_request"),
        (
            404,
            openai_error("The model `file-abc` does not exist", code="model_not_found"),
            "not_found",
        ),
        (404, anthropic_error("not_found_error", "model: claude-file_x1"), "not_found"),
        (404, {"error": "File not found."}, "not_found"),
        (404, openai_error("Invalid URL (POST /v1/file-search)"), "not_found"),
        (302, None, "not_found"),
        (405, None, "not_found"),
        (408, None, "timeout"),
        (409, None, "server_error"),
        (413, openai_error(), "invalid_request"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, "invalid_request"),
        (425, None, "server_error"),
        (429, openai_error(code="rate_limit_exceeded"), "rate_limited"),
        (429, openai_error(code="insufficient_quota"), "rate_limited"),
        (500, openai_error(), "server_error"),
        (502, None, "server_error"),
        (503, None, "overloaded"),
        (504, None, "server_error"),
        (529, anthropic_error("overloaded_error"), "overloaded"),
        (400, anthropic_error("invalid_request_error"), "invalid_request"),
        (
            400,
            anthropic_error("invalid_request_error", "prompt is too long: 210000 tokens > 200000"),
            "context_window_exceeded",
        ),
        (
            400,
            anthropic_error(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000",
            ),
            "context_window_exceeded",
        ),
        (
            400,
            anthropic_error("invalid_request_error", "Output blocked by content filtering policy"),
            "content_filtered",
        ),
        (
            400,
            anthropic_error("invalid_request_error", "Your credit balance is too low"),
            "rate_limited",
        ),
        (401, anthropic_error("authentication_error"), "authentication_failed"),
        (403, anthropic_error("permission_error"), "authentication_failed"),
        (404, anthropic_error("not_found_error"), "not_found"),
        (413, anthropic_error("request_too_large"), "invalid_request"),
        (429, anthropic_error("rate_limit_error"), "rate_limited"),
        (500, anthropic_error("api_error"), "server_error"),
        (None, anthropic_error("overloaded_error"), "overloaded"),
        (None, anthropic_error("api_error"), "server_error"),
        (
            None,
            anthropic_error("invalid_request_error", "prompt is too long"),
            "context_window_exceeded",
        ),
        (None, openai_error(kind="server_error"), "server_error"),
        (None, openai_error(code="rate_limit_exceeded"), "rate_limited"),
        (None, openai_error(code=400), "invalid_request"),
        (None, openai_error(kind="", code=503), "overloaded"),
        (
            None,
            [{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}],
            "rate_limited",
        ),
        (None, openai_error(kind="new_error"), "server_error"),
    ],
)
def test_kinds(status: int | None, body: Any, kind: str) -> None:
    """Statuses, codes and the wordings of compatible servers map to one of our kinds."""
    found = kind_of(status, read_failure(b"<html>" if body is None else json.dumps(body).encode()))

    assert kind == found
    assert kind in PROVIDER_ERROR_KINDS


TOO_LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000,"
    " Requested 40000. The input or output tokens must be reduced in order to run successfully."
)


@pytest.mark.parametrize(
    ("status", "message", "alone"),
    [
        (429, TOO_LARGE, True),
        (413, "Request too large for model `m` on tokens per minute (TPM): Limit 6000", True),
        (429, "Extra usage is required for long context requests.", True),
        (402, "This request requires more credits, or fewer max_tokens. You requested 9", True),
        (
            429,
            "Rate limit reached for gpt-4o on requests per min (RPM): Limit 500, Used 500",
            False,
        ),
        (402, "Insufficient Balance", False),
        (None, TOO_LARGE, True),
        (400, TOO_LARGE, False),
    ],
)
def test_a_refusal_may_be_about_one_request(status: int | None, message: str, alone: bool) -> None:
    """A limit that a smaller request would pass says nothing about the deployment."""
    code = "rate_limit_exceeded" if status != 400 else "other"
    error = refusal(deployment("http://x"), status, failure_of(openai_error(message, code=code)))

    assert error.request_alone == alone
    assert (error.kind == "rate_limited") == (status != 400)
    assert error.told is None or "org-x" not in str(error)


@pytest.mark.parametrize(
    "words", ["insufficient funds", "credit balance is too low", "invalid api key"]
)
def test_what_a_caller_wrote_is_not_taken_for_the_providers_word(words: str) -> None:
    """If a server quotes the request, its caller cannot block the deployment for others."""
    for message in (
        f"Invalid value: '{words}'. Supported values are: 'json_object' and 'text'.",
        f"'{words}' is not one of ['user', 'assistant'] - 'messages.0.role'",
        f"[{{'type': 'enum', 'loc': ('body', 'role'), 'input': '{words}'}}]",
    ):
        assert kind_of(400, failure_of(openai_error(message))) == "invalid_request"
    assert kind_of(400, failure_of(openai_error(f"Your {words}"))) != "invalid_request"


def test_only_the_callers_own_faults_are_told() -> None:
    """A provider's text is relayed only if the caller's request was at fault."""
    target = deployment("http://x")
    seen = {
        status: refusal(target, status, failure_of(openai_error("text"))).told is not None
        for status in (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 529)
    }

    assert {400, 413, 422} == {status for status, body in seen.items() if body}


def test_body_is_in_openais_shape_whatever_it_was() -> None:
    """Other servers' errors get OpenAI's four fields, and its code for a long prompt."""
    old_vllm = {"object": "error", "message": "maximum context length is 9", "code": 400}
    error = refusal(deployment("http://x"), 400, failure_of(old_vllm))

    assert error.told is not None
    assert json.loads(CHAT.error(Problem("", "server", "", told=error.told))) == {
        "error": {
            "message": "maximum context length is 9",
            "type": "invalid_request_error",
            "param": None,
            "code": "context_length_exceeded",
        }
    }


def test_keys_never_leave() -> None:
    """Neither our key nor anything like one is in an error, even if a provider echoes it."""
    target = deployment("http://x")
    for status in (400, 401, 403, 500):
        for other in (KEY, "sk-ant-api03-abcdefgh", "AIzaSyA0123456789abcdefghij"):
            body = openai_error(f"Bad parameter for {other}", kind=other, code=KEY)
            error = refusal(target, status, failure_of(body))

            assert other not in f"{error!r} {error} {error.told!r} {target!r}"
            assert KEY not in f"{error!r} {error} {error.told!r} {target!r}"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "1e9"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "inf"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 99 Jan 1970"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are parsed, and no provider can make us wait forever."""
    assert seconds == retry_after_s(headers, now_s=60.0)


@pytest.mark.parametrize("status", [408, 504, 524])
def test_a_gateway_that_gave_up_may_have_cost_money(status: int) -> None:
    """Behind a proxy's timeout the model may have run to the end."""
    assert refusal(deployment("http://x"), status, failure_of(None)).billed == "unknown"
    assert refusal(deployment("http://x"), 500, failure_of(None)).billed == "no"


def test_hostile_bodies_are_no_failure_of_ours() -> None:
    """Deep nesting, wrong types and bad UTF-8 give an empty failure."""
    for body in (
        b"[" * 100_000,
        b'{"error": 7}',
        b'"x"',
        b"\xff",
        b"",
        b"[]",
        b'{"error":{"a":1}}',
    ):
        assert read_failure(body).message == ""
