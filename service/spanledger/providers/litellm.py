"""Adapter for the providers that LiteLLM knows and we do not; the only module that imports it.

LiteLLM only translates between APIs: no retries, no callbacks, no logging, no network access for
its price map. Importing it takes seconds, so a thread does that while the gateway already serves.

A caller's fields never control LiteLLM: fields of OpenAI's wire and a few harmless others become its
parameters, `metadata` is dropped, and everything else goes to the provider in `extra_body`. So no
caller can name an `api_base` to have our key sent to.

Known limits: LiteLLM reports a stream that broke between two chunks as complete, and if a provider
reports no usage, it counts tokens itself without marking them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import importlib.util
import logging
import os
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace

from spanledger.clock import Clock
from spanledger.errors import ConfigError, ProviderError
from spanledger.pricing.searches import searches_billed
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Call
from spanledger.providers.litellm_failures import translate
from spanledger.wires import outbound
from spanledger.wires.base import Answer, Frame, Habits, Outbound, Seen, Written
from spanledger.wires.failures import invalid, malformed
from spanledger.wires.fields import DECODE_ERRORS

INSTALL = "install spanledger with its extra, in a clone of it: uv tool install '.[litellm]'"

_PARAMETERS = {
    "chat": frozenset(
        {
            "messages",
            "audio",
            "frequency_penalty",
            "function_call",
            "functions",
            "logit_bias",
            "logprobs",
            "max_completion_tokens",
            "max_tokens",
            "min_p",
            "modalities",
            "n",
            "parallel_tool_calls",
            "prediction",
            "presence_penalty",
            "prompt_cache_key",
            "reasoning_effort",
            "repetition_penalty",
            "response_format",
            "safety_identifier",
            "seed",
            "service_tier",
            "stop",
            "store",
            "stream",
            "stream_options",
            "temperature",
            "thinking",
            "tool_choice",
            "tools",
            "top_k",
            "top_logprobs",
            "top_p",
            "user",
            "verbosity",
            "web_search_options",
        }
    ),
    "embeddings": frozenset({"input", "dimensions", "encoding_format", "user"}),
}
"""A caller's fields that become parameters of `litellm.acompletion` or `aembedding`."""

_DROPPED = frozenset({"model", "metadata"})
"""`metadata` is LiteLLM's own channel for logging and routing."""


def litellm_available() -> bool:
    """Whether LiteLLM is installed; imports nothing."""
    return importlib.util.find_spec("litellm") is not None


class LiteLLMProvider:
    """One adapter for all deployments that only LiteLLM can serve."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Raises ConfigError if LiteLLM is not installed."""
        if not litellm_available():
            raise ConfigError(f"a deployment needs LiteLLM, which is not installed: {INSTALL}")
        self._clock = clock or Clock()
        self._module: concurrent.futures.Future[Any] | None = None

    def warm(self) -> None:
        """Start importing LiteLLM in a thread, unless that has started already."""
        if self._module is None:
            self._module = concurrent.futures.Future()
            threading.Thread(
                target=_import, args=(self._module,), name="import-litellm", daemon=True
            ).start()

    async def complete(self, call: Call) -> Answer:
        """Request a non-streamed answer."""
        wire = _wire(call)
        written, parameters = _parameters(call, wire, stream=False)
        try:
            litellm = await self._load(call)
            async with asyncio.timeout(call.timeout_s):
                ask = litellm.acompletion if call.wire.operation == "chat" else litellm.aembedding
                answer = await ask(**parameters)
                body = answer.model_dump_json(exclude_none=True).encode()
        except TimeoutError:
            _raise_timeout(call, "no answer", call.timeout_s)
        except Exception as error:  # noqa: BLE001 - LiteLLM raises anything; this is its funnel
            raise translate(call, error, self._now_s()) from None
        if len(body) > call.max_response_bytes:
            raise malformed(
                call.deployment,
                f"its response is larger than {call.max_response_bytes} bytes "
                "(gateway.max_response_bytes)",
            )
        found = wire.answer(written, body, self._seen(answer))
        return replace(found, usage=_as_billed(call, found.usage))

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Request a stream of chunks."""
        wire = _wire(call)
        written, parameters = _parameters(call, wire, stream=True)
        try:
            litellm = await self._load(call)
            async with asyncio.timeout(call.timeout_s):
                chunks = await litellm.acompletion(**parameters)
        except TimeoutError:
            _raise_timeout(call, "no answer", call.timeout_s)
        except Exception as error:  # noqa: BLE001 - LiteLLM raises anything; this is its funnel
            raise translate(call, error, self._now_s()) from None
        reader = wire.reader(written, self._seen(chunks))
        began = False
        held: list[Frame] = []
        try:
            while (payload := await self._next(call, chunks, began=began)) is not None:
                frame = reader.read(payload)
                if frame is None:
                    continue
                frame.usage = _as_billed(call, frame.usage)
                began = began or frame.content
                if (held or frame.finish_reason) and not began and frame.usage is None:
                    held.append(frame)
                    continue
                for earlier in held:
                    yield earlier
                held.clear()
                yield frame
            if held:
                # LiteLLM invents a last chunk for an empty stream; an answer that really had no
                # content has usage.
                raise malformed(call.deployment, "its stream was empty")
            if (last := reader.last()) is not None:
                last.usage = _as_billed(call, last.usage)
                yield last
        finally:
            with contextlib.suppress(Exception):
                await chunks.aclose()

    def _seen(self, answer: Any) -> Seen:
        return Seen(_request_id(answer), self._clock.now_ns() // 1_000_000_000)

    async def close(self) -> None:
        """Close LiteLLM's connections, if it was used."""
        module = self._module
        if module is None or not module.done() or module.exception() is not None:
            return
        await module.result().close_litellm_async_clients()

    async def _next(self, call: Call, chunks: Any, *, began: bool) -> bytes | None:
        """The JSON of the next chunk, None at the end."""
        try:
            async with asyncio.timeout(call.stream_idle_timeout_s):
                chunk = await anext(chunks)
            return _chunk_json(chunk)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            _raise_timeout(call, "no next chunk", call.stream_idle_timeout_s)
        except Exception as error:  # noqa: BLE001 - LiteLLM raises anything; this is its funnel
            raise translate(call, error, self._now_s(), began=began, streaming=True) from None

    async def _load(self, call: Call) -> Any:
        self.warm()
        assert self._module is not None
        try:
            async with asyncio.timeout(call.timeout_s):
                return await asyncio.shield(asyncio.wrap_future(self._module))
        except TimeoutError:
            _raise_timeout(call, "LiteLLM was not imported", call.timeout_s, billed="no")
        except ImportError as error:
            raise ProviderError(
                "server_error",
                f"deployment {call.deployment.id!r}: LiteLLM cannot be imported"
                f" ({error.name or 'a part of it'} is missing or broken): {INSTALL}",
            ) from None

    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9


def _import(result: concurrent.futures.Future[Any]) -> None:
    """Import LiteLLM and silence it. It reads its settings from the environment on import."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it downloads its price map
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # else it reads a .env file
    try:
        # Not an import statement: type checkers would follow it into all of LiteLLM.
        litellm: Any = importlib.import_module("litellm")
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            # It logs requests, and errors with the prompt in them.
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        for hooks in ("", "input_", "success_", "failure_", "service_", "_async_success_"):
            setattr(litellm, f"{hooks}callback" if hooks else "callbacks", [])
        litellm._async_failure_callback = []
        litellm.suppress_debug_info = True
        litellm.set_verbose = False
        litellm.telemetry = False
        litellm.turn_off_message_logging = True
        litellm.cache = None
    except BaseException as error:  # noqa: BLE001 - raised where the import is awaited
        result.set_exception(error)
    else:
        result.set_result(litellm)


def _wire(call: Call) -> Outbound:
    """The wire that LiteLLM is called with. Raises ProviderError if there is none."""
    wire = outbound(call.wire, call.deployment.speaks)
    if wire is None:
        raise invalid(f"LiteLLM has no {call.wire.name}; choose another model", param="model")
    return wire


def _parameters(call: Call, wire: Outbound, *, stream: bool) -> tuple[Written, dict[str, Any]]:
    """The request, and the arguments for `litellm.acompletion` or `aembedding`.

    Raises:
        ProviderError: a field is invalid.
    """
    deployment = call.deployment
    if stream and call.wire.operation != "chat":
        raise invalid("embeddings cannot be streamed", param="stream")
    try:
        written = wire.request(call, stream, Habits())
        fields = msgspec.json.decode(written.body)
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON") from None
    known = _PARAMETERS[call.wire.operation]
    given = {name: value for name, value in fields.items() if value is not None}
    parameters: dict[str, Any] = dict(deployment.extra)
    parameters.update({name: value for name, value in given.items() if name in known})
    others = {n: value for n, value in given.items() if n not in known and n not in _DROPPED}
    if others:
        configured = deployment.extra.get("extra_body")
        parameters["extra_body"] = {
            **others,
            **(configured if isinstance(configured, Mapping) else {}),
        }
    parameters["model"] = deployment.litellm_model
    if deployment.api_key is not None:
        parameters["api_key"] = deployment.api_key
    if deployment.api_base is not None:
        parameters["api_base"] = deployment.api_base
    parameters["timeout"] = (
        max(call.timeout_s, call.stream_idle_timeout_s) if stream else call.timeout_s
    )
    if call.trace_headers:
        parameters["extra_headers"] = {
            **parameters.get("extra_headers", {}),
            **call.trace_headers,
        }
    parameters["num_retries"] = 0
    parameters["max_retries"] = 0
    return written, parameters


def _chunk_json(chunk: Any) -> bytes:
    """LiteLLM's chunk in OpenAI's form, where the chunk with the usage has no choices."""
    if getattr(chunk, "usage", None) is None:
        return bytes(chunk.model_dump_json(exclude_none=True), "utf-8")
    data: dict[str, Any] = chunk.model_dump(mode="json", exclude_none=True)
    data["usage"].pop("cost", None)  # LiteLLM's own calculation, not the ledger's
    choices = data.get("choices", [])
    if not any(choice.get("finish_reason") or choice.get("delta") for choice in choices):
        data["choices"] = []
    return msgspec.json.encode(data)


def _as_billed(call: Call, usage: Usage | None) -> Usage | None:
    """LiteLLM counts a search for each query, also where Google bills one a prompt."""
    if usage is None or usage.searches < 2:
        return usage
    return replace(usage, searches=searches_billed(usage.searches, call.deployment.known_as))


def _request_id(answer: Any) -> str:
    hidden = getattr(answer, "_hidden_params", None)
    headers = hidden.get("additional_headers") if isinstance(hidden, Mapping) else None
    if not isinstance(headers, Mapping):
        return ""
    for name in ("llm_provider-x-request-id", "llm_provider-request-id"):
        if isinstance(value := headers.get(name), str):
            return value
    return ""


def _raise_timeout(call: Call, what: str, seconds: float, *, billed: str = "unknown") -> NoReturn:
    deployment = call.deployment
    raise ProviderError(
        "timeout",
        f"deployment {deployment.id!r} ({deployment.provider}): {what} within {seconds:g} s",
        billed=billed,
    ) from None
