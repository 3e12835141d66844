"""Wires: the languages of APIs, read and written as pure functions of bytes.

This table is the only place that knows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from spanledger.wires.anthropic.inbound import Messages
from spanledger.wires.anthropic.messages import MessagesOut
from spanledger.wires.anthropic.native import NativeMessages
from spanledger.wires.base import Inbound, Outbound
from spanledger.wires.messages_as_chat.outbound import MessagesAsChat
from spanledger.wires.openai.chat import Chat
from spanledger.wires.openai.completions import Completions, CompletionsOut
from spanledger.wires.openai.embeddings import Embeddings
from spanledger.wires.openai.images import Images, ImagesOut
from spanledger.wires.openai.moderations import Moderations, ModerationsOut
from spanledger.wires.openai.other_form import answer_of, frame_of
from spanledger.wires.openai.outbound import ChatOut, EmbeddingsOut
from spanledger.wires.rerank import Rerank, RerankOut

CHAT, EMBEDDINGS, MESSAGES = Chat(), Embeddings(), Messages()
_UNTRANSLATED: tuple[Inbound, ...] = (Completions(), Moderations(), Rerank(), Images())
"""Wires that are not translated."""
_ALL: tuple[Inbound, ...] = (CHAT, EMBEDDINGS, MESSAGES, *_UNTRANSLATED)
INBOUND: dict[str, Inbound] = {wire.path: wire for wire in _ALL}
"""What callers may speak, by path; each is a POST."""
PATHS: dict[str, str] = {wire.name: wire.path for wire in INBOUND.values()}
"""By the name of a wire, which is what rows have as their operation."""
_OPERATIONS: dict[str, str] = {wire.name: wire.operation for wire in INBOUND.values()}
DEFAULT: Inbound = CHAT
"""What a caller is answered in whose request says nothing of its wire."""

OUTBOUND: dict[tuple[str, str], Outbound] = {
    ("chat", "chat"): ChatOut(),
    ("chat", "messages"): MessagesOut(answer_of, frame_of),
    ("embeddings", "embeddings"): EmbeddingsOut(),
    ("completions", "completions"): CompletionsOut(),
    ("moderations", "moderations"): ModerationsOut(),
    ("rerank", "rerank"): RerankOut(),
    ("images", "images"): ImagesOut(),
    ("messages", "messages"): NativeMessages(),
    ("messages", "chat"): MessagesAsChat(),
}
"""What is spoken to a deployment: by the caller's wire, and one that the deployment speaks."""
_NOTHING: frozenset[str] = frozenset()


def named_by(headers: Mapping[bytes, bytes]) -> Inbound:
    """The wire that a caller's headers speak of, where its path says nothing of one."""
    return MESSAGES if b"anthropic-version" in headers else DEFAULT


def operation_of(name: str) -> str:
    """What telemetry calls a request, by the name of its wire."""
    return _OPERATIONS.get(name, name)


def outbound(asked: Inbound, spoken: tuple[str, ...]) -> Outbound | None:
    """The wire for a request at a deployment that speaks these: the caller's own if it can be, or
    else the first that the request can be translated to. None where there is none."""
    return _outbound(asked.name, spoken)


def dropped(asked: Inbound, spoken: tuple[str, ...]) -> frozenset[str]:
    """The caller's fields that such a deployment is not sent."""
    wire = _outbound(asked.name, spoken)
    return _NOTHING if wire is None else wire.drops


@lru_cache(maxsize=1024)
def _outbound(asked: str, spoken: tuple[str, ...]) -> Outbound | None:
    native = OUTBOUND.get((asked, asked)) if asked in spoken else None
    if native is not None:
        return native
    translated = (OUTBOUND.get((asked, name)) for name in spoken)
    return next((wire for wire in translated if wire is not None), None)
