"""What all wires share: the values that come out of reading one, and what goes in.

A wire is one API's language: how a request, an answer, a stream's event and an error look. Wires take
bytes and return values. They do no I/O, and know nothing of routing, budgets or connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from spanledger.errors import Category, ProviderError
from spanledger.pricing.demand import Demand
from spanledger.pricing.usage import Usage
from spanledger.rates.meter import Standing
from spanledger.wires.fields import Fields, JsonValue
from spanledger.wires.form import Form, Pieces, Upload

Operation = Literal[
    "chat",
    "embeddings",
    "text_completion",
    "moderation",
    "rerank",
    "image_generation",
    "image_edit",
    "image_variation",
    "speech",
    "transcription",
    "translation",
]
WRITES_TEXT: frozenset[Operation] = frozenset({"chat", "text_completion"})
"""Operations whose answers are text, of a length that a cap bounds."""


MAX_TEXT = 256
"""Longest value of a telemetry attribute that a caller or provider chooses."""
MAX_ITEMS = 16
"""Most entries of a list attribute."""
INT64 = range(-(2**63), 2**63)
"""What an OTLP integer can hold."""


class Ask(msgspec.Struct):
    """A caller's request, as its wire read it: once, and no deeper than somebody acts on it.

    Attributes:
        wire: the wire it came in on.
        route: the model it names.
        stream: whether the answer is to be streamed.
        include_usage: the caller itself asked for the usage event of a stream.
        fields: the body's top level, values undecoded. Unknown fields pass through untouched.
        body_bytes: size of the body, from which the input is bounded.
        demand: what bounds its cost.
        headers: those of the caller's that its wire forwards (`Inbound.passes`).
        follows: the id of an answer that it continues, as the caller knows it.
        bound_to: an earlier request, whose account alone can read a part of this one.
        bare: its stream is the bytes of one file, not events.
        upload: its form, where the body is one.
        own_alone: no other wire can say what it asks for.
    """

    wire: Inbound
    route: str = ""
    stream: bool = False
    include_usage: bool = False
    fields: Fields = msgspec.field(default_factory=dict)
    body_bytes: int = 0
    demand: Demand = msgspec.field(default_factory=lambda: Demand(0, 0, 0, 1, 0))
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    follows: str = ""
    bound_to: str = ""
    bare: bool = False
    upload: Upload | None = None
    own_alone: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a caller is to read it, whatever the wire.

    Attributes:
        code: what programs tell errors apart by.
        param: the field at fault.
        figures: further facts, by name.
        told: the provider's own error, where it goes to the caller in place of ours.
    """

    message: str
    category: Category
    code: str
    param: str | None = None
    figures: Mapping[str, object] = field(default_factory=dict)
    told: Mapping[str, object] | None = None


class Content(NamedTuple):
    """What was said, in the message schema of the GenAI conventions."""

    input: list[JsonValue]
    output: list[JsonValue]
    tools: list[JsonValue]


class Inbound(Protocol):
    """A wire that callers speak.

    Attributes:
        name: what the ledger, deployments and errors call it.
        path: where its requests arrive.
        operation: what telemetry calls a request of it.
        end: the event that ends a stream.
        passes: the caller's headers that go on to deployments of the same wire, lower case.
        id_header: where its clients look for the id of a request.
        comments: whether its clients pass over comments in a stream, as the format says.
    """

    name: str
    path: str
    operation: Operation
    end: bytes
    passes: tuple[str, ...]
    id_header: str
    comments: bool

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        ...

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields, where a deployment changed the caller's."""
        ...

    def estimate(self, fields: Mapping[str, msgspec.Raw]) -> Usage:
        """The input's tokens, counted by us because no provider did."""
        ...

    def attributes(self, fields: Mapping[str, msgspec.Raw]) -> dict[str, object]:
        """The request's parameters under the names of the GenAI conventions. Never fails."""
        ...

    def content(
        self, fields: Mapping[str, msgspec.Raw], answer: bytes, events: Sequence[bytes]
    ) -> Content:
        """What was said, by the request and its answer or the events of it. Never fails."""
        ...

    def error(self, problem: Problem) -> bytes:
        """The body of an error answer."""
        ...

    def rate_headers(self, standing: Standing) -> list[tuple[bytes, bytes]]:
        """What is left of rates, as the headers that its clients read."""
        ...

    def error_event(self, problem: Problem) -> bytes:
        """The event that a broken stream ends with: clients raise it as an error."""
        ...


class FormWire(Inbound, Protocol):
    """A wire whose requests are forms with files."""

    def read_form(self, form: Form) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        ...


class Server(Protocol):
    """Who answers a request: what readers and writers need to know of a deployment.

    Attributes:
        id: the deployment's name, for messages.
        provider: whose it is, for messages.
        api_key: never quoted in what a caller reads.
        model: the provider's own name of the model.
        known_as: the name that says what the model can do.
        asks_usage: whether a stream is asked for its usage.
    """

    @property
    def id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def api_key(self) -> str | None: ...
    @property
    def model(self) -> str: ...
    @property
    def known_as(self) -> str: ...
    @property
    def asks_usage(self) -> bool: ...


class Outgoing(Protocol):
    """A request as it is to be written for a server.

    Attributes:
        wire: the wire that the caller speaks, and so reads the answer in.
        fields: the caller's body with the deployment's defaults, top level, values undecoded.
        max_output_tokens: a cap that a budget sets, None = as the caller asked.
        changed: names of fields that had to change; the wire that writes the request adds to it.
        upload: the caller's form, where its body is one.
    """

    @property
    def deployment(self) -> Server: ...
    @property
    def wire(self) -> Inbound: ...
    @property
    def fields(self) -> Mapping[str, msgspec.Raw]: ...
    @property
    def max_output_tokens(self) -> int | None: ...
    @property
    def changed(self) -> list[str]: ...
    @property
    def upload(self) -> Upload | None: ...


class Answer(msgspec.Struct, frozen=True):
    """A complete answer.

    Attributes:
        body: the bytes for the caller, in its own wire (`model` is whatever the provider said).
        usage: None when the provider reported none.
        output_bytes: UTF-8 bytes of generated text and tool arguments, for counting tokens when
            `usage` has none.
        speech_bytes: base64 bytes of generated speech, for the same.
        service: the service tier it was served at; empty where the provider does not say.
        content_type: of the body, where that is not JSON.
        counted: the usage is our own count, because the provider reported none.
        pending: it is still to be written, after the request has ended.
    """

    body: bytes
    usage: Usage | None
    response_id: str = ""
    response_model: str = ""
    finish_reasons: tuple[str, ...] = ()
    provider_request_id: str = ""
    output_bytes: int = 0
    speech_bytes: int = 0
    service: str = ""
    content_type: str = ""
    counted: bool = False
    pending: bool = False


class LateAnswer(NamedTuple):
    """An answer that was read after its request had ended.

    Attributes:
        usage: None where the provider reports none, as for one that was cancelled.
    """

    usage: Usage | None
    service: str
    model: str
    finish_reason: str = ""


class FailedAnswerError(ProviderError):
    """A failed attempt that came with an answer, or with what it used: that much is billed."""

    def __init__(self, error: ProviderError, answer: Answer) -> None:
        super().__init__(
            error.kind,
            str(error),
            status=error.status,
            retry_after_s=error.retry_after_s,
            told=error.told,
            billed="unknown",
            request_alone=error.request_alone,
        )
        self.answer = answer


@dataclass(slots=True)
class Frame:
    """One event of a stream.

    Attributes:
        data: bytes for the caller, a complete SSE event in its own wire, not re-encoded where the
            provider speaks that too; empty where the event has nothing for it. The end mark is never among them: the gateway sends it
            (`Inbound.end`).
        content: whether this event carries generated content (text, reasoning text, a refusal or
            tool-call arguments): the first one ends time-to-first-chunk, and after it was
            relayed no other deployment can serve instead.
        output_bytes: UTF-8 bytes of generated content in it.
        speech_bytes: base64 bytes of generated speech in it.
        usage_only: the event has nothing but usage: relayed only to callers that asked for it
            (`Ask.include_usage`).
        usage: what the provider reported in this event; the last one seen wins.
        input_usage: the input alone, from a provider that counts it before it answers.
        service: the service tier of the answer; empty where the provider does not say.
        closes: the caller may leave once it has this event, so it is sent once the request is booked.
        content_type: of a bare stream (`Ask.bare`), on each of its pieces.
        usual: but for its content, an earlier event of the stream said the same.
    """

    data: bytes
    content: bool = False
    output_bytes: int = 0
    usage_only: bool = False
    usage: Usage | None = None
    response_id: str = ""
    response_model: str = ""
    finish_reason: str = ""
    provider_request_id: str = ""
    speech_bytes: int = 0
    input_usage: Usage | None = None
    service: str = ""
    closes: bool = False
    usual: bool = field(default=False, compare=False)
    content_type: str = ""


class Written(msgspec.Struct, frozen=True):
    """A request as it goes out.

    Attributes:
        memo: what the wire has to remember for reading the answer.
        options_ours: its `stream_options` hold nothing that the caller asked for.
        eased: whether a refusal may be overcome; None where the wire knows of none.
        pieces: the body instead, where it is a form.
    """

    out: Outgoing
    body: bytes
    memo: object = None
    options_ours: bool = True
    eased: Eased | None = None
    pieces: Pieces | None = None


Eased = Callable[[Outgoing, int, bytes], Fields | None]
"""By the status and body of a refusal, the fields to ask with again, once; None if it stands. What had
to change is added to `Outgoing.changed`."""


class Habits(msgspec.Struct, frozen=True):
    """What a server was seen to accept.

    Attributes:
        cap_name: the name it knows an output cap by.
        ask_usage: whether a stream may be asked for its usage.
    """

    cap_name: str = "max_tokens"
    ask_usage: bool = True


class Seen(msgspec.Struct, frozen=True):
    """What is known of an answer before it is read.

    Attributes:
        request_id: the provider's id of the request.
        created: when it came, in Unix seconds.
        ours: the gateway's id of the request.
        content_type: what the provider says the body is, as it may be forwarded; empty if it does
            not say.
    """

    request_id: str
    created: int
    ours: str = ""
    content_type: str = ""


class Reader(Protocol):
    """Reads one stream, event by event.

    Attributes:
        ended: the end mark has come.
    """

    ended: bool

    def read(self, payload: bytes) -> Frame | None:
        """An event in the caller's wire; None for one that the caller need not know of.

        Raises:
            ProviderError: it is not an event of this wire, or an error.
        """
        ...

    def rest(self, tail: bytes) -> list[bytes] | None:
        """The connection closed in good order, with `tail` left over: what is still to be read.
        None where the stream broke off."""
        ...

    def survives(self, error: ProviderError) -> bool:
        """Whether the answer is complete although its connection failed with this error."""
        ...

    def last(self) -> Frame | None:
        """What the caller gets after the last event. Raises ProviderError where there was none."""
        ...


@runtime_checkable
class ReadsUsual(Protocol):
    """A reader that knows most events of a stream without decoding them."""

    def usual(self, payload: bytes) -> Frame | None:
        """What `read` would return, as a frame that is `Frame.usual`; None if that must be asked.
        Never fails."""
        ...


@runtime_checkable
class StreamsApart(Protocol):
    """A wire whose streams deployments have at a path of their own."""

    stream_path: str


class Outbound(Protocol):
    """A wire that deployments speak, for the callers of one inbound wire.

    Answers and events come out in the caller's wire. Where both are the same wire, that is as they
    came.

    Attributes:
        name: what a deployment states that speaks it.
        path: appended to a deployment's address; `{model}` in it stands for the deployment's model.
        host: whose address it is where a deployment has none.
        headers: what every request carries.
        key_header: the header for the key, where a deployment cannot say.
        id_header: the header with the provider's id of a request.
        spelled: whether servers know its cap by different names, and may refuse `stream_options`.
        drops: fields that are not sent, whatever they would cost.
        passes: whether the caller's own headers go along (`Inbound.passes`).
        least_output: the lowest cap that servers accept. A caller's lower one is raised to it, and
            as much is held.
    """

    name: str
    path: str
    host: str
    headers: Mapping[str, str]
    key_header: str
    id_header: str
    spelled: bool
    drops: frozenset[str]
    passes: bool
    least_output: int

    def request(self, out: Outgoing, stream: bool, habits: Habits, /) -> Written:
        """The request. Raises ProviderError where this wire cannot say it."""
        ...

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """A complete answer, or a stream that came unasked, put together. Raises ProviderError."""
        ...

    def reader(self, written: Written, seen: Seen) -> Reader:
        """What reads the answer's stream."""
        ...

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """A complete answer that came where a stream was asked for, as the one event of it."""
        ...
