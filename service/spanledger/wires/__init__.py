"""Wires: the languages of APIs, read and written as pure functions of bytes.

This table is the only place that knows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl

from spanledger.wires.anthropic.count_tokens import CountTokens
from spanledger.wires.anthropic.inbound import Messages
from spanledger.wires.anthropic.messages import MessagesOut
from spanledger.wires.anthropic.model_list import AnthropicModels
from spanledger.wires.anthropic.native import NativeMessages
from spanledger.wires.base import FormWire, Inbound, LateAnswer, Outbound
from spanledger.wires.chat_as_responses.outbound import ChatAsResponses
from spanledger.wires.gemini.count_tokens import CountContents
from spanledger.wires.gemini.inbound import GenerateContent
from spanledger.wires.gemini.model_list import GeminiModels
from spanledger.wires.gemini.native import NativeGenerate
from spanledger.wires.gemini.paths import GOOGLE_PATHS, asked_in, is_model_path
from spanledger.wires.gemini_as_chat.callers import GenerateCallers
from spanledger.wires.messages_as_chat.callers import MessagesCallers
from spanledger.wires.openai.chat import Chat
from spanledger.wires.openai.compact import Compact, CompactOut
from spanledger.wires.openai.completions import Completions, CompletionsOut
from spanledger.wires.openai.embeddings import Embeddings
from spanledger.wires.openai.image_forms import (
    ImageEdits,
    ImageEditsOut,
    ImageVariations,
    ImageVariationsOut,
)
from spanledger.wires.openai.images import Images, ImagesOut
from spanledger.wires.openai.input_tokens import InputTokens
from spanledger.wires.openai.model_list import OpenAIModels
from spanledger.wires.openai.moderations import Moderations, ModerationsOut
from spanledger.wires.openai.other_form import answer_of, frame_of
from spanledger.wires.openai.outbound import ChatOut, EmbeddingsOut
from spanledger.wires.openai.responses import Responses
from spanledger.wires.openai.responses_native import NativeResponses, read_late
from spanledger.wires.openai.speech import AudioSpeech, SpeechOut
from spanledger.wires.openai.transcriptions import (
    Transcriptions,
    TranscriptionsOut,
    Translations,
    TranslationsOut,
)
from spanledger.wires.rerank import Rerank, RerankOut
from spanledger.wires.responses_as_chat.callers import ResponsesCallers
from spanledger.wires.side import ModelList, TokenCounter
from spanledger.wires.through import Through, ToChat

CHAT, EMBEDDINGS, MESSAGES, RESPONSES = Chat(), Embeddings(), Messages(), Responses()
COMPACT = Compact()
GENERATE = GenerateContent()
_FORMS: tuple[FormWire, ...] = (ImageEdits(), ImageVariations(), Transcriptions(), Translations())
_ALONE: tuple[Inbound, ...] = (
    COMPACT,
    Completions(),
    Moderations(),
    Rerank(),
    Images(),
    AudioSpeech(),
    *_FORMS,
)
"""Wires that no other is translated to or from."""
_ALL: tuple[Inbound, ...] = (CHAT, EMBEDDINGS, MESSAGES, RESPONSES, GENERATE, *_ALONE)
INBOUND: dict[str, Inbound] = {wire.path: wire for wire in _ALL}
"""What callers may speak, by path; each is a POST. Where the path has the model in it, `named_in_path`
finds the wire."""
FORMS: dict[str, FormWire] = {wire.path: wire for wire in _FORMS}
"""Those of them whose bodies are forms."""
PATHS: dict[str, str] = {wire.name: wire.path for wire in INBOUND.values()}
"""By the name of a wire, which is what rows have as their operation."""
PASSED_ON = "pass_through"
"""The operation of a request to a provider's own endpoint, whatever that does."""
FILES, BATCHES = "files", "batches"
"""The operations of an upload, and of creating a batch."""
PATHS |= {PASSED_ON: "/v1/{provider}/{path}", FILES: "/v1/files", BATCHES: "/v1/batches"}
_OPERATIONS: dict[str, str] = {wire.name: wire.operation for wire in INBOUND.values()}
GOOGLE_ALONE = GOOGLE_PATHS
"""Beginnings of paths that are Google's alone."""
LISTS_MODELS = is_model_path
"""Whether a path below these is that of the list of models, or of one of them."""
DEFAULT: Inbound = CHAT
"""What a caller is answered in whose request says nothing of its wire."""

UNTRANSLATED: dict[str, Outbound] = {
    "compact": CompactOut(),
    "completions": CompletionsOut(),
    "embeddings": EmbeddingsOut(),
    "generate_content": NativeGenerate(),
    "image_edits": ImageEditsOut(),
    "image_variations": ImageVariationsOut(),
    "images": ImagesOut(),
    "messages": NativeMessages(),
    "moderations": ModerationsOut(),
    "rerank": RerankOut(),
    "responses": NativeResponses(),
    "speech": SpeechOut(),
    "transcriptions": TranscriptionsOut(),
    "translations": TranslationsOut(),
}
"""Wires whose callers are served in their own, as it is."""
FROM_CHAT: dict[str, Outbound] = {
    "chat": ChatOut(),
    "messages": MessagesOut(answer_of, frame_of),
    "responses": ChatAsResponses(),
}
"""What is spoken to deployments for the callers of chat."""
TO_CHAT: dict[str, ToChat] = {
    "generate_content": GenerateCallers(),
    "messages": MessagesCallers(),
    "responses": ResponsesCallers(),
}
"""Callers who can be served by what serves chat."""
OUTBOUND: dict[tuple[str, str], Outbound] = {
    **{("chat", name): wire for name, wire in FROM_CHAT.items()},
    **{
        (asked, name): Through(callers, wire)
        for asked, callers in TO_CHAT.items()
        for name, wire in FROM_CHAT.items()
        if name != asked
    },
    **{(name, name): wire for name, wire in UNTRANSLATED.items()},
}
"""What is spoken to a deployment: by the caller's wire, and one that the deployment speaks."""
_COUNTERS: tuple[TokenCounter, ...] = (
    CountTokens(MESSAGES),
    InputTokens(RESPONSES),
    CountContents(GENERATE),
)
COUNTERS: dict[str, TokenCounter] = {counter.path: counter for counter in _COUNTERS}
"""Where callers may have a request's input counted, by path; each is a POST."""
LATE: dict[str, Callable[[bytes], LateAnswer | None]] = {RESPONSES.name: read_late}
"""How an answer is read that was kept, by the wire of the request that made it."""
_OPENAI_MODELS = OpenAIModels()
_MODEL_LISTS: dict[str, ModelList] = {
    "generate_content": GeminiModels(),
    "messages": AnthropicModels(),
}
_NOTHING: frozenset[str] = frozenset()


def spoken_by(path: str, headers: Mapping[bytes, bytes]) -> Inbound:
    """The wire that a caller speaks, by the path of its request or, if that says nothing, its
    headers."""
    counter = COUNTERS.get(path)
    named = MESSAGES if b"anthropic-version" in headers else DEFAULT
    if path.startswith(GOOGLE_PATHS) or b"x-goog-api-key" in headers:
        named = GENERATE
    return INBOUND.get(path) or (named if counter is None else counter.wire)


class Found(NamedTuple):
    """What a path asks for.

    Attributes:
        wire: for the model that the path names.
        counter: where the input is to be counted instead.
    """

    wire: Inbound
    counter: TokenCounter | None = None


def named_in_path(raw_path: bytes, query: bytes) -> Found | None:
    """The wire of a path that names the model, as it stood in the request line."""
    asked = asked_in(raw_path)
    if asked is None:
        return None
    if asked.verb == "countTokens":
        wire = GenerateContent(asked.model)
        return Found(wire, CountContents(wire))
    as_events = ("alt", "sse") in parse_qsl(query.decode("latin-1"))
    stream = asked.verb == "streamGenerateContent"
    return Found(GenerateContent(asked.model, stream=stream, as_events=as_events))


def model_list(wire: Inbound) -> ModelList:
    """How callers of a wire are shown models; OpenAI's way, where it has none of its own."""
    return _MODEL_LISTS.get(wire.name, _OPENAI_MODELS)


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


def least_output(asked: Inbound, spoken: tuple[str, ...]) -> int:
    """The lowest cap that such a deployment is sent."""
    wire = _outbound(asked.name, spoken)
    return 0 if wire is None else wire.least_output


@lru_cache(maxsize=1024)
def _outbound(asked: str, spoken: tuple[str, ...]) -> Outbound | None:
    native = OUTBOUND.get((asked, asked)) if asked in spoken else None
    if native is not None:
        return native
    translated = (OUTBOUND.get((asked, name)) for name in spoken)
    return next((wire for wire in translated if wire is not None), None)
