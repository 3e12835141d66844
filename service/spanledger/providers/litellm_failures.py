"""Maps LiteLLM's exceptions to our kinds of error.

LiteLLM wraps the original error, sometimes twice, and changes its status (Anthropic's 529 becomes
500, and so does a broken connection). So we read the chain of causes, by names and attributes only:
this module imports nothing from LiteLLM. Its messages contain prompts and answers, so they go only
into `body`, and only if the caller's own request was at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spanledger.errors import ProviderError
from spanledger.providers.base import Call
from spanledger.wires.error_forms import Failure, failure_of, read_failure
from spanledger.wires.failures import refusal

_MAX_CHAIN = 12
_TIMEOUTS = frozenset({"Timeout", "APITimeoutError", "TimeoutException", "TimeoutError"})
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})
_BROKEN = frozenset({"TransportError", "ConnectionError", "ClientConnectionError"})
_UNREADABLE = frozenset({"JSONDecodeError", "APIResponseValidationError"})
_CUT = frozenset({"ClientPayloadError"})
_MISCONFIGURED = ("LLM Provider NOT provided", "LLM Provider not provided")


def translate(
    call: Call, error: BaseException, now_s: float, *, began: bool = False, streaming: bool = False
) -> ProviderError:
    """The `ProviderError` for any exception from LiteLLM.

    Args:
        began: content was streamed before it.
        streaming: the answer had begun, with or without content.
    """
    if isinstance(error, ProviderError):
        return error
    chain = list(_chain(error))
    names = {cls.__name__ for link in chain for cls in type(link).__mro__}
    deployment = call.deployment
    failure = _failure(chain)
    status = _status(chain)
    # A 500 without a provider's error is LiteLLM's own, perhaps after a successful answer.
    unsaid = status in (None, 500) and not (failure.type or failure.code)
    billed = "unknown" if began or unsaid else "no"
    if names & {"ContextWindowExceededError"}:
        failure = _named(failure, "context_length_exceeded")
    elif names & {"ContentPolicyViolationError"}:
        failure = _named(failure, "content_filter")
    elif failure.message.startswith(_MISCONFIGURED) or "LiteLLMUnknownProvider" in names:
        status = 404
    elif status is None or status == 500:
        kind = _without_answer(names, streaming=streaming)
        if kind is not None:
            lost = "no" if names & _NEVER_SENT else "unknown"
            text = f"deployment {deployment.id!r} ({deployment.provider}): {kind.replace('_', ' ')}"
            return ProviderError(kind, text, billed=lost)
    return refusal(
        deployment, status or 500, failure, headers=_headers(chain), now_s=now_s, billed=billed
    )


def _without_answer(names: set[str], *, streaming: bool) -> str | None:
    """The kind of a failure without an answer from the provider."""
    if names & _TIMEOUTS and not names & _NEVER_SENT:
        return "timeout"
    if names & _UNREADABLE:
        return "malformed_response"
    if streaming and names & (_CUT | _BROKEN):
        return "stream_interrupted"
    if names & _CUT:
        return "malformed_response"
    if names & (_BROKEN | _NEVER_SENT):
        return "connection_error"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and its causes, nearest first."""
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < _MAX_CHAIN:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [getattr(link, "original_exception", None), link.__cause__, link.__context__]


def _status(chain: list[BaseException]) -> int | None:
    """The first status other than 500, which LiteLLM uses as a default."""
    found: int | None = None
    for link in chain:
        status = getattr(link, "status_code", None)
        if isinstance(status, int) and 300 <= status < 600:
            if status != 500:
                return status
            found = status
    return found


def _failure(chain: list[BaseException]) -> Failure:
    for link in chain:
        body = getattr(link, "body", None)
        if isinstance(body, Mapping):
            return failure_of({"error": dict(body)})
    text = str(getattr(chain[0], "message", "") or chain[0])
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        # A body of type bytes appears as its Python repr.
        failure = read_failure(text[start : end + 1].replace("\\'", "'").encode())
        if failure.message:
            return failure
    for mark in ("Exception - ", "Error - ", "Error: "):
        text = text.rpartition(mark)[2]
    return Failure(message=text, error={"message": text})


def _named(failure: Failure, code: str) -> Failure:
    error = {**(failure.error or {}), "code": code}
    return Failure(failure.message, failure.type, code, error)


def _headers(chain: list[BaseException]) -> Mapping[str, str]:
    for link in chain:
        headers = getattr(link, "litellm_response_headers", None)
        if isinstance(headers, Mapping):
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {}
