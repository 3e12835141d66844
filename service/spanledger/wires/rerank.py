"""Reranking, as Cohere, Jina and LiteLLM have it: a query and documents go in, their order comes out.

Cohere bills search units: a query with up to 100 documents, where a document of more than 500 tokens,
the query included, counts as several (https://docs.cohere.com/docs/how-does-cohere-pricing-work).
Jina and Voyage bill tokens, the query's once for each document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import HIDDEN_TOKENS, UNREADABLE, plainly
from spanledger.pricing.reported import from_openai
from spanledger.pricing.usage import MAX_USAGE_TOKENS, Usage, estimate_tokens
from spanledger.wires.base import Answer, Ask, Content, Operation, Seen, Server, Written
from spanledger.wires.failures import unreadable
from spanledger.wires.fields import (
    DECODE_ERRORS,
    NULL,
    Fields,
    JsonValue,
    check_array,
    decode,
    is_set,
    missing,
    route_of,
    text_bytes,
)
from spanledger.wires.openai.answer import UsageField, decoded, no_answer
from spanledger.wires.openai.inbound import OpenAIInbound
from spanledger.wires.openai.outbound import EmbeddingsOut
from spanledger.wires.openai.spelling import check_spelling

DOCUMENTS_PER_UNIT = 100
CHUNK_TOKENS = 500
"""A longer document, with the query, counts as several."""
LEAST_CHUNK = 50
"""What we assume to be left of that for the document, where a query takes most of it."""
PAIR_TOKENS = 8
"""What a model adds around a query and a document."""
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Rerank(OpenAIInbound):
    """The inbound wire."""

    name = "rerank"
    path = "/v1/rerank"
    operation: Operation = "rerank"

    end = b""

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        fields = decode(body)
        route = route_of(fields)
        check_spelling(fields)
        if "query" not in fields:
            raise missing("query")
        check_array(fields, "documents")
        size = len(body)
        return Ask(self, route, fields=fields, body_bytes=size, demand=self.demand(fields, size))

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds a request: its tokens, if the query counts with each document; and its search
        units, if every byte is a token."""
        count = documents_in(fields)
        query = len(memoryview(fields.get("query", NULL)))
        tokens = body_bytes + HIDDEN_TOKENS + count * (query + PAIR_TOKENS)
        chunks = count + body_bytes // max(LEAST_CHUNK, CHUNK_TOKENS - query)
        demand = Demand(tokens, 0, 0, 1, tokens, unit="query", units=_units(chunks))
        demand.inputs = 0  # what is too long for the model is cut into pieces
        if b'"image' in plainly(bytes(fields.get("documents", NULL))):
            demand.unbounded["documents"] = "only text has a known price; rank text"
        return demand

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """Tokens and search units, counted by us because no provider did."""
        query = estimate_tokens(text_bytes(_text(fields.get("query"))))
        sizes = [estimate_tokens(text_bytes(text)) for text in _documents(fields)]
        tokens = sum(sizes) + query * len(sizes)
        chunks = sum(-(-size // max(LEAST_CHUNK, CHUNK_TOKENS - query)) or 1 for size in sizes)
        return Usage(tokens, unit="query", units=_units(chunks))

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The conventions have no names for its parameters."""
        del fields
        return {}

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was ranked: the query, and the documents as further parts."""
        del answer, events
        texts = [_text(fields.get("query")), *_documents(fields)]
        parts: list[JsonValue] = [{"type": "text", "content": text} for text in texts]
        return Content([{"role": "user", "parts": parts}], [], [])


class RerankOut(EmbeddingsOut):
    """Reranking; it is not streamed."""

    name = "rerank"
    path = "/rerank"

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer. One that does not say how many search units it is has as many as its
        documents make."""
        found = read_ranking(written.out.deployment, body, seen.request_id)
        told = found.usage
        if told is not None and not told.units:
            units = written.out.wire.estimate(written.out.fields).units
            return replace(found, usage=replace(told, unit="query", units=units))
        return found


class _Billed(msgspec.Struct):
    search_units: float | None = None
    input_tokens: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None
    tokens: _Billed | None = None


class _Ranking(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    results: list[msgspec.Raw] | None = None
    meta: _Meta | None = None
    usage: UsageField = None
    error: msgspec.Raw = NULL


_RANKING = msgspec.json.Decoder(_Ranking)


def read_ranking(server: Server, body: bytes, provider_request_id: str) -> Answer:
    """Read an answer. Raises ProviderError."""
    try:
        answer = decoded(_RANKING, body)
    except DECODE_ERRORS:
        raise unreadable(server, body, "its answer is not a ranking") from None
    found = Answer(
        body=body,
        usage=_usage(answer),
        response_id=str(answer.id or ""),
        response_model=answer.model or "",
        provider_request_id=provider_request_id,
    )
    if is_set(answer.error) or answer.results is None:
        raise no_answer(server, found, broken=is_set(answer.error))
    return found


def _usage(answer: _Ranking) -> Usage | None:
    """What the answer reports, in Cohere's place or OpenAI's. Only input is billed: a total alone
    is input."""
    meta = answer.meta or _Meta()
    billed, counted = meta.billed_units or _Billed(), meta.tokens or _Billed()
    told = from_openai(answer.usage)
    tokens = _whole(billed.input_tokens) or _whole(counted.input_tokens)
    if told is not None:
        tokens = tokens or told.input_tokens + told.output_tokens
    units = _whole(billed.search_units)
    if not (tokens or units):
        return None
    return Usage(tokens, unit="query" if units else "", units=units)


def _whole(count: float | None) -> int:
    return 0 if count is None or not 0 < count <= MAX_USAGE_TOKENS else -int(-count // 1)


def documents_in(fields: Fields) -> int:
    """How many documents there are; at least one."""
    try:
        return max(1, len(_LIST.decode(fields["documents"])))
    except (*DECODE_ERRORS, KeyError):
        return 1


def _units(chunks: int) -> int:
    return max(1, -(-chunks // DOCUMENTS_PER_UNIT))


def _text(raw: object) -> str:
    """A text, or the text of an object."""
    value = raw
    if isinstance(raw, msgspec.Raw):
        try:
            value = msgspec.json.decode(raw)
        except UNREADABLE:
            return ""
    if isinstance(value, dict):
        value = value.get("text") or msgspec.json.encode(value).decode()
    return value if isinstance(value, str) else ""


def _documents(fields: Mapping[str, msgspec.Raw]) -> list[str]:
    try:
        return [_text(raw) for raw in _LIST.decode(fields["documents"])]
    except (*DECODE_ERRORS, KeyError):
        return []
