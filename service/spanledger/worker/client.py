"""One job through the real `openai` client, and its result line.

Owns the mapping from a job's body to a call, and from an answer or error to OpenAI's Batch result
format. Retries are the client's own; budget refusals are recognised only here.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import openai
from openai._legacy_response import LegacyAPIResponse

from spanledger.money import parse_usd
from spanledger.worker.jobs import InvalidJob, Job
from spanledger.worker.output import INVALID_JOB

PLACEHOLDER_KEY = "spanledger-open-mode"
"""Sent when there is no key: gateways without keys ignore it."""

COST_HEADER = "x-spanledger-cost-usd"
_NOT_BODY = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job; `record` is its output line."""

    record: dict[str, object]
    ok: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BudgetStop:
    """A budget has no room: the job is neither done nor failed."""

    message: str


@dataclass(frozen=True, slots=True)
class GatewayStop:
    """The gateway is unreachable or rejects our key, so every job would fail alike: this one is
    neither done nor failed."""

    message: str


class Caller:
    """Sends jobs; `spend_nano` is what the gateway has charged for them so far."""

    def __init__(
        self, base_url: str, api_key: str | None, *, timeout_s: float, retries: int, pool: int
    ) -> None:
        self.spend_nano = 0
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or PLACEHOLDER_KEY,
            timeout=timeout_s,
            max_retries=retries,
            http_client=openai.DefaultAsyncHttpxClient(
                # Every answer counts, including those the client retries itself.
                event_hooks={"response": [self._count_cost]},
                limits=httpx.Limits(max_connections=pool, max_keepalive_connections=pool),
            ),
        )
        chat = self._client.chat.completions
        embeddings = self._client.embeddings
        self._calls: dict[str, tuple[_Create, frozenset[str]]] = {
            "/v1/chat/completions": (chat.with_raw_response.create, _names(chat.create)),
            "/v1/embeddings": (embeddings.with_raw_response.create, _names(embeddings.create)),
        }

    async def send(self, job: Job) -> LegacyAPIResponse[Any]:
        """Make the call. Raises the client's errors."""
        create, names = self._calls[job.url]
        # Fields without a client parameter are passed through unchanged.
        arguments = {key: value for key, value in job.body.items() if key in names}
        extra = {key: value for key, value in job.body.items() if key not in names}
        if job.url == "/v1/embeddings":
            # By default the client requests base64, which would end up in the result.
            arguments.setdefault("encoding_format", "float")
        return await create(**arguments, extra_body=extra or None)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _count_cost(self, response: httpx.Response) -> None:
        value = response.headers.get(COST_HEADER)
        if value:
            self.spend_nano += _nano(value)


_Create = Callable[..., Awaitable[LegacyAPIResponse[Any]]]


async def finish(
    job: Job, send: Callable[[Job], Awaitable[LegacyAPIResponse[Any]]]
) -> Result | BudgetStop | GatewayStop:
    """Send a job and turn the outcome into a result."""
    try:
        answer = await send(job)
    except openai.APIStatusError as error:
        return _refused(job, error)
    except openai.APITimeoutError:
        return failed_result(job, "timeout", "no answer in time; raise --timeout")
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        if isinstance(cause, httpx.ConnectError):
            return GatewayStop(f"cannot connect to {error.request.url.netloc.decode()}: {cause}")
        return failed_result(job, "connection_error", f"{error.message} {cause}".strip())
    except (openai.OpenAIError, TypeError, ValueError) as error:
        # The client rejects some bodies before sending anything.
        return failed_result(job, "client_error", f"the openai client rejected the job: {error}")
    response = answer.http_response
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return failed_result(job, "malformed_response", "the answer is not JSON")
    return Result(_record(job.custom_id, response, body), ok=True)


def invalid_record(job: InvalidJob) -> dict[str, object]:
    """The output line of a job that could not be sent."""
    error = {"code": INVALID_JOB, "message": job.message, "line": job.line}
    return {"id": _id(), "custom_id": job.custom_id, "response": None, "error": error}


def _refused(job: Job, error: openai.APIStatusError) -> Result | BudgetStop | GatewayStop:
    """An answer with an error status; in OpenAI's format that is a response, not an error."""
    if error.status_code == 401:
        return GatewayStop(f"{_message(error)} (HTTP 401); pass another key with --api-key")
    if error.status_code == 429 and error.code == "budget_exceeded":
        return BudgetStop(_message(error))
    problem = f"{error.status_code} {_message(error)}"
    try:
        body = msgspec.json.decode(error.response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = {"error": {"message": error.message}}
    return Result(_record(job.custom_id, error.response, body), ok=False, problem=problem)


def _message(error: openai.APIStatusError) -> str:
    """The server's own message, without the client's additions."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return error.message


def failed_result(job: Job, code: str, message: str) -> Result:
    """A job that ended without an HTTP answer."""
    record: dict[str, object] = {
        "id": _id(),
        "custom_id": job.custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }
    return Result(record, ok=False, problem=message)


def _record(custom_id: str, response: httpx.Response, body: object) -> dict[str, object]:
    return {
        "id": _id(),
        "custom_id": custom_id,
        "response": {
            "status_code": response.status_code,
            "request_id": response.headers.get("x-request-id", ""),
            "body": body,
        },
        "error": None,
    }


def _names(create: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(create).parameters) - _NOT_BODY


def _nano(text: str) -> int:
    try:
        return parse_usd(text)
    except ValueError:
        return 0


def _id() -> str:
    return f"batch_req_{uuid.uuid4().hex}"
