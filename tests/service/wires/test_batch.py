"""The lines of batches: what is read of a request, and what an answer was billed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger.errors import InvalidRequestError
from spanledger.wires.batch import MAX_CUSTOM_ID_CHARS, read_line, read_result
from spanledger.wires.kept_ids import handed_id, kept_id

BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}


def line(**changes: Any) -> bytes:
    """A request of a batch."""
    usual = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY}
    return json.dumps({**usual, **changes}).encode()


def test_a_line() -> None:
    """A line is read as its wire reads a request, and written with another body and nothing else."""
    found = read_line(line(), 1)
    assert (found.custom_id, found.ask.route, found.ask.demand.cap) == ("a", "chat", 9)
    written = json.loads(found.written(b'{"model":"m"}'))
    assert written == {**json.loads(line()), "body": {"model": "m"}}


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"\xff", b"{" * 5_000, line(custom_id=1), line(custom_id="")),
        *(line(custom_id="x" * (MAX_CUSTOM_ID_CHARS + 1)), line(method="GET"), line(url="/v1/x")),
        *(
            line(body=[]),
            line(body={"model": "chat"}),
            line(more=1),
            line(body={**BODY, "stream": True}),
        ),
    ],
)
def test_a_line_that_is_refused(raw: bytes) -> None:
    """Whatever is wrong with it, the error has the number of the line."""
    with pytest.raises(InvalidRequestError, match="line 7 of the file"):
        read_line(raw, 7)


def result(status: int, body: object) -> bytes:
    """An answer of a batch."""
    return json.dumps({"response": {"status_code": status, "body": body}}).encode()


def test_results() -> None:
    """Only answers cost anything; one without usage is known to be one."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    found = read_result(result(200, {"usage": usage}))
    assert found.usage is not None
    assert (found.answered, found.usage.input_tokens, found.usage.output_tokens) == (True, 3, 2)
    assert read_result(result(400, {"usage": usage})) == (False, None)
    assert read_result(b'{"response": null, "error": {"code": "batch_expired"}}') == (False, None)
    for odd in (b"garbage", result(200, {}), result(200, {"usage": {}}), result(200, "text")):
        assert read_result(odd) == (True, None)


@pytest.mark.parametrize("kind", ["file", "batch"])
def test_ids(kind: Any) -> None:
    """An id says what it is of, our request and the provider's id; other ids say nothing."""
    handed = handed_id(kind, f"req_{'0a' * 12}", "file-abc_1")
    assert kept_id(handed) == (kind, f"req_{'0a' * 12}", "file-abc_1")
    for other in ("file-abc", "batch_1", handed.upper(), handed + "/", handed.split("_")[0]):
        assert kept_id(other) is None
    with pytest.raises(ValueError, match="path"):
        handed_id(kind, "req_1", "a/b")
