"""One call at the simulated provider, from the request line to its entry on the bill.

It owns the order of steps: authentication, reading the request, faults, pacing the answer, billing.
It writes no provider's JSON itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import unquote

import msgspec

from spanledger.sim.bill import DEFAULT_SERVICE, WINDOWS, Bill, Outcome, Usage, key_digest
from spanledger.sim.channel import Channel, ClientGoneError
from spanledger.sim.file_refs import FILES_MAX, check_files
from spanledger.sim.forms import read_form
from spanledger.sim.openai_wire import (
    embedding_tokens,
    read_embedding_inputs,
    write_embeddings,
)
from spanledger.sim.prompt import Prompt, PromptCache, Recent, RefusalError, digest_of, model_of
from spanledger.sim.scenarios import NO_SCRIPT, Board, Fault, Script, parse_script
from spanledger.sim.tokens import COUNTING, USUAL, Counting
from spanledger.sim.wire import Wire
from spanledger.sim.writer import Answer, Dice, draw_pace, write

BODY_BYTES_MAX = 32 * 1024 * 1024
CONTENTS_MAX = 50_000
WRITTEN_MAX = 64

STRIKES = ("cut", "stall", "malformed", "failed")
"""What goes wrong in the middle of a stream."""
HUGE_BLOCK = b"x" * (64 * 1024)
_MESSAGES = {
    400: "Invalid request (simulated).",
    401: "Incorrect API key provided (simulated).",
    403: "This key may not do that (simulated).",
    404: "The model does not exist or you do not have access to it (simulated).",
    429: "Rate limit reached on requests per min (simulated). Please try again later.",
    503: "The engine is currently overloaded, please try again later (simulated).",
    529: "Overloaded (simulated).",
}


@dataclass(slots=True)
class Seen:
    """How often the same content was requested and answered."""

    attempts: int = 0
    answers: int = 0


@dataclass(slots=True)
class Sim:
    """The state of one simulated provider."""

    seed: int = 1
    speed: float = 1.0
    bill: Bill = field(default_factory=Bill)
    board: Board = field(default_factory=Board)
    cache: PromptCache = field(default_factory=PromptCache)
    contents: Recent[Seen] = field(default_factory=lambda: Recent(CONTENTS_MAX))
    body_bytes_max: int = BODY_BYTES_MAX
    counting: Counting = USUAL
    """How it counts tokens."""
    files: Recent[str] = field(default_factory=lambda: Recent(FILES_MAX))
    """Whose key uploaded a file, by its id."""
    refused: int = 0
    written: deque[Answer] = field(default_factory=lambda: deque(maxlen=WRITTEN_MAX))
    """The latest answers, so that a test can compare what a caller got."""

    def seen(self, digest: bytes) -> Seen:
        """The counters of a content."""
        found = self.contents.get(digest)
        if found is None:
            found = Seen()
            self.contents.put(digest, found)
        return found


class Call:
    """One request, run by `chat` or `embeddings`; it is always billed exactly once."""

    def __init__(self, sim: Sim, wire: Wire, channel: Channel) -> None:
        self.sim = sim
        self.wire = wire
        self.channel = channel
        self.request_id = ""
        self.operation = "chat"
        self.streams = b"text/event-stream; charset=utf-8"
        self.answers = b"application/json"
        self.key = ""
        self.prompt: Prompt | None = None
        self.seen = Seen()
        self.script = NO_SCRIPT
        self.booked = False

    async def chat(self) -> None:
        """Serve a chat completion or a message."""
        await self._run(self._chat)

    async def embeddings(self) -> None:
        """Serve embeddings."""
        self.operation = "embeddings"
        await self._run(self._embeddings)

    async def _run(
        self, serve: Callable[[dict[str, object]], Awaitable[None]], *, form: bool = False
    ) -> None:
        COUNTING.set(self.sim.counting)
        try:
            self.key = self.wire.key(self.channel.headers)
            body = await self.channel.read(self.sim.body_bytes_max)
            kind = self.channel.headers.get("content-type", "")
            await serve(read_form(kind, body) if form else _decode(body))
        except RefusalError as refusal:
            await self._refuse(refusal)
        except ClientGoneError:
            self.booked = True  # the request never arrived completely
        finally:
            if not self.booked:
                self._book("aborted", usage=None, detail="interrupted")
            await self.channel.close()

    async def _chat(self, body: dict[str, object]) -> None:
        prompt = self.wire.read(body)
        if (price := self.sim.bill.price(prompt.model)) is not None:
            prompt = replace(prompt, service=price.grants(prompt.service))
        self._begin(prompt, body)
        if await self._fail_early():
            return
        if prompt.wire == "openai":
            check_files(body, self.sim.files, key_digest(self.key))
        self._check_window(prompt.longest_input or prompt.input_tokens)
        dear = price is not None and price.cache_write is not None
        read, written, kept = self.sim.cache.look(prompt, writes_cost=dear)
        self.seen.answers += 1
        answer = write(
            replace(self.prompt or prompt, script=self.script),
            self._dice(b"answer", self.seen.answers),
            self.script.fault,
            id_prefix=self.wire.id_prefix,
            created_s=int(time.time()),
        )
        self.sim.written.append(answer)
        # Anthropic does not report reasoning tokens: its thinking is ordinary output.
        reasoning = answer.reasoning_tokens if prompt.wire != "anthropic" else 0
        usage = Usage(prompt.input_tokens, answer.tokens, read, written, kept, reasoning)
        usage = replace(usage, searches=prompt.searches)
        await self._serve(prompt, answer, usage)

    async def _serve(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        if prompt.stream:
            await self._stream(prompt, answer, usage)
            return
        due_s = answer.pace.due_s(answer.tokens)
        await self._plain(answer.id, due_s, usage, partial(self.wire.plain, prompt, answer))

    async def _embeddings(self, body: dict[str, object]) -> None:
        model, script = model_of(body)
        inputs = read_embedding_inputs(body)
        counts = list(map(embedding_tokens, inputs))
        count = sum(counts)
        digest = digest_of("openai", model, body, frozenset({"user", "metadata"}))
        self._begin(Prompt("openai", model, digest, (), count, script=script), body)
        write_embeddings(body, model, inputs[:1], 0, None)  # reject bad fields before any fault
        if await self._fail_early():
            return
        self._check_window(max(counts))
        self.seen.answers += 1
        pace = draw_pace(model, self._dice(b"answer", self.seen.answers).rng)
        body_of = partial(write_embeddings, body, model, inputs, self.sim.seed)
        await self._plain("", pace.first_s / 4, Usage(count), body_of)

    def _begin(self, prompt: Prompt, body: dict[str, object]) -> None:
        """Count the attempt and collect its directives."""
        self.prompt = prompt
        self.seen = self.sim.seen(prompt.digest)
        self.seen.attempts += 1
        dice = self._dice(b"try", self.seen.attempts)
        self.request_id = dice.name("req_")
        script = _scripted(self.channel.headers, body).over(prompt.script)
        if script.fault is None:
            chance = dice.rng.random()
            script = script.over(self.sim.board.deal(self.wire.name, prompt.model, chance))
        self.script = script
        text = self.channel.headers.get("x-sim-answer")
        if text is not None:
            # Percent-encoded, so a header can carry line breaks and non-ASCII text.
            self.prompt = replace(prompt, answer_text=unquote(text))

    def _check_window(self, longest: int) -> None:
        """Refuse an input that the model cannot read."""
        if self.prompt is not None and longest > WINDOWS.get(self.prompt.model, longest):
            raise _refusal_of(Fault("context_window"))

    async def _fail_early(self) -> bool:
        """Apply faults that replace the answer; True if one did."""
        fault = self.script.fault
        if fault is None:
            return False
        if fault.name in ("status", "context_window", "content_filter"):
            if fault.name == "content_filter" and fault.after is not None:
                return False
            raise _refusal_of(fault)
        if fault.name == "timeout":
            await self.channel.hold()
            self._book("timeout", self._input_only())
        elif fault.name == "reset":
            self._book("reset", None)
            await self.channel.reset()
        elif fault.name == "garbage":
            self._book("garbage", None)
            page = b"<html><body><h1>It works!</h1></body></html>"
            headers = [*self.wire.headers(self.request_id), (b"content-type", b"text/html")]
            await self.channel.start(200, headers, len(page))
            await self.channel.write(page, last=True)
        elif fault.name == "huge":
            self._book("huge", None)
            await self._send_huge(fault)
        else:
            return False
        return True

    async def _send_huge(self, fault: Fault) -> None:
        streaming = self.prompt is not None and self.prompt.stream
        kind = b"text/event-stream" if streaming else b"application/json"
        headers = [*self.wire.headers(self.request_id), (b"content-type", kind)]
        await self.channel.start(200, headers)
        await self.channel.write(b'data: {"id":"' if streaming else b'{"id":"')
        for _ in range((fault.after or 1) * 1024 * 1024 // len(HUGE_BLOCK)):
            await self.channel.write(HUGE_BLOCK)
            if await self.channel.wait_until(0):
                return
        await self.channel.write(b'"}\n\n', last=True)

    async def _plain(
        self, answer_id: str, due_s: float, usage: Usage, body_of: Callable[[Usage | None], bytes]
    ) -> None:
        shown, billed = self._reported(usage)
        if await self._wait(due_s):
            self._book("aborted", self._input_only(usage), answer_id)
            return
        body = body_of(shown)
        headers = self.wire.headers(self.request_id, due_s)
        fault = self.script.fault
        if fault is None or fault.name not in ("cut", "stall", "malformed"):
            self._book("answered", billed, answer_id)
            await self.channel.respond(200, body, headers, self.answers)
            return
        half = body[: len(body) // 2]
        if fault.name == "malformed":
            self._book("malformed", self._input_only(usage), answer_id)
            await self.channel.respond(200, half, headers)
            return
        headers.append((b"content-type", b"application/json"))
        await self.channel.start(200, headers, len(body))
        await self.channel.write(half)
        if fault.name == "stall":
            await self.channel.hold()
            self._book("aborted", self._input_only(usage), answer_id, "stall")
            return
        self._book("cut", self._input_only(usage), answer_id)
        await self.channel.hang_up()

    async def _stream(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        shown, billed = self._reported(usage)
        hidden = sum(choice.reasoning_tokens for choice in answer.choices)
        begun = replace(self._input_only(usage), output_tokens=hidden)
        if await self._wait(answer.pace.due_s(hidden)):
            self._book("aborted", self._input_only(usage), answer.id)
            return
        headers = self.wire.headers(self.request_id, answer.pace.due_s(hidden))
        headers += [(b"content-type", self.streams), (b"cache-control", b"no-cache")]
        await self.channel.start(200, headers)
        for chunk in self.wire.opening(prompt, answer, shown):
            await self.channel.write(chunk.data)
        fault = self.script.fault
        strike = fault.after if fault and fault.name in STRIKES else None
        produced = chunks = 0
        for chunk in self.wire.content(prompt, answer):
            if chunk.tokens:
                if chunks == strike:
                    break
                if await self._wait(answer.pace.due_s(hidden + produced + chunk.tokens)):
                    self._book("aborted", _with_output(begun, produced), answer.id)
                    return
                chunks += 1
                produced += chunk.tokens
            await self.channel.write(chunk.data)
        if fault is not None and chunks == strike:
            used = _with_output(begun, produced)
            if fault.name == "failed":
                await self._fail(prompt, answer, used)
            else:
                await self._strike(fault, used, answer.id)
            return
        # Bill before the last events: a client that has read the end finds the call billed.
        self._book("answered", billed, answer.id)
        for chunk in self.wire.closing(prompt, answer, shown):
            await self.channel.write(chunk.data)
        await self.channel.write(b"", last=True)

    async def _fail(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        """Say that the answer failed; a wire that cannot say it hangs up."""
        del prompt
        await self._strike(Fault("cut"), usage, answer.id)

    async def _strike(self, fault: Fault, usage: Usage, answer_id: str) -> None:
        if fault.name == "stall":
            await self.channel.hold()
            self._book("aborted", usage, answer_id, "stall")
            return
        if fault.name == "malformed":
            self._book("malformed", usage, answer_id)
            await self.channel.write(self.wire.broken())
        else:
            self._book("cut", usage, answer_id)
        await self.channel.hang_up()

    async def _refuse(self, refusal: RefusalError) -> None:
        if not self.request_id:
            self.sim.refused += 1
            self.request_id = self._dice(b"refused", self.sim.refused).name("req_")
        self._book("error", None, detail=str(refusal.status))
        body, headers = self.wire.refusal(refusal, self.request_id)
        await self.channel.respond(refusal.status, body, headers)

    async def _wait(self, due_s: float) -> bool:
        if not self.sim.speed:
            due_s = 0.0
        else:
            slow = 1.0 if self.script.slow is None else self.script.slow
            due_s *= slow / self.sim.speed
        return await self.channel.wait_until(due_s)

    def _reported(self, usage: Usage) -> tuple[Usage | None, Usage]:
        """The usage that the answer reports, and the usage that is billed."""
        fault = self.script.fault
        if fault is not None and fault.name == "missing_usage":
            return None, usage
        if fault is not None and fault.name == "wrong_usage":
            usage = replace(
                usage,
                input_tokens=usage.input_tokens * 2,
                output_tokens=usage.output_tokens * 2,
            )
        return usage, usage

    def _input_only(self, usage: Usage | None = None) -> Usage:
        if usage is not None:
            return replace(usage, output_tokens=0, reasoning_output_tokens=0)
        return Usage(self.prompt.input_tokens) if self.prompt else Usage()

    def _dice(self, purpose: bytes, count: int) -> Dice:
        content = self.prompt.digest if self.prompt else b""
        return Dice.of(self.sim.seed, content, purpose, str(count).encode())

    def _book(
        self, outcome: Outcome, usage: Usage | None, answer_id: str = "", detail: str = ""
    ) -> None:
        assert not self.booked, "a call is billed once"
        self.booked = True
        self.sim.bill.add(
            id=answer_id,
            request_id=self.request_id,
            wire=self.wire.name,
            operation=self.operation,
            model=self.prompt.model if self.prompt else "",
            key=key_digest(self.key) if self.key else "",
            outcome=outcome,
            detail=detail,
            usage=usage,
            service=(self.prompt and self.prompt.service) or DEFAULT_SERVICE,
        )


def _decode(body: bytes) -> dict[str, object]:
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusalError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(data, dict):
        raise RefusalError(400, "The JSON body of your request is not an object.")
    return data


def _scripted(headers: dict[str, str], body: dict[str, object]) -> Script:
    """Directives from the headers, then from `metadata.sim`."""
    metadata = body.get("metadata")
    texts = [
        headers.get("x-sim-fault"),
        metadata.get("sim") if isinstance(metadata, dict) else None,
    ]
    if "x-sim-output-tokens" in headers:
        texts.insert(0, f"tokens:{headers['x-sim-output-tokens']}")
    script = NO_SCRIPT
    try:
        for text in texts:
            if isinstance(text, str):
                script = script.over(parse_script(text))
    except ValueError as error:
        raise RefusalError(400, str(error)) from None
    return script


def _refusal_of(fault: Fault) -> RefusalError:
    if fault.name == "context_window":
        return RefusalError(
            400,
            "This model's maximum context length is exceeded: prompt is too long (simulated). "
            "Please reduce the length of the messages.",
            code="context_length_exceeded",
            param="messages",
        )
    if fault.name == "content_filter":
        return RefusalError(
            400,
            "The response was filtered: output blocked by content filtering policy (simulated).",
            code="content_filter",
        )
    retry_after_s = fault.retry_after_s
    if retry_after_s is None and fault.status == 429:
        retry_after_s = 1.0
    message = _MESSAGES.get(fault.status, f"The server answered {fault.status} (simulated).")
    return RefusalError(fault.status, message, retry_after_s=retry_after_s)


def _with_output(begun: Usage, produced: int) -> Usage:
    """The input and hidden thinking plus the streamed output."""
    hidden = begun.output_tokens
    return replace(begun, output_tokens=hidden + produced, reasoning_output_tokens=hidden)
