"""The provider's endpoints that are not a dialogue, from the request to the entry on the bill."""

from __future__ import annotations

import math
from functools import partial

import msgspec

from spanledger.sim import audio_wire, images_wire
from spanledger.sim.bill import Usage
from spanledger.sim.call import Call
from spanledger.sim.prompt import Prompt, RefusalError, digest_of, model_of, whole
from spanledger.sim.tokens import tokens
from spanledger.sim.writer import Answer, Pace, draw_pace

_NOT_CONTENT = frozenset({"user", "metadata"})
_DOCUMENTS_MAX = 1_000
_DOCUMENTS_PER_SEARCH = 100
_CHUNK_TOKENS, _CHUNK_TOKENS_MIN = 500, 50
_CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


class OtherCall(Call):
    """One request to such an endpoint."""

    async def completions(self) -> None:
        """Serve a legacy completion."""
        self.operation = "completions"
        await self._run(self._chat)

    async def images(self) -> None:
        """Serve images, whole or streamed."""
        self.operation = "images"
        await self._run(self._images)

    async def image_edits(self) -> None:
        """Serve edits or variations of images."""
        self.operation = "image_edits"
        in_json = self.channel.headers.get("content-type", "").startswith("application/json")
        await self._run(self._images, form=not in_json)

    async def speech(self) -> None:
        """Serve speech, as a file or as events."""
        self.operation = "speech"
        await self._run(self._speech)

    async def _speech(self, body: dict[str, object]) -> None:
        events = body.get("stream_format") == "sse"
        self.wire = audio_wire.SpeechWire(events=events)
        prompt = self.wire.read(body)
        self._begin(prompt, body)
        if await self._fail_early():
            return
        if not events:
            self.streams = audio_wire.KINDS[str(body.get("response_format", "mp3"))]
        await self._stream(prompt, self._paced(prompt), audio_wire.speech_usage(prompt))

    async def transcripts(self) -> None:
        """Serve a transcription or a translation."""
        self.operation = "transcripts"
        await self._run(self._transcripts, form=True)

    async def _transcripts(self, body: dict[str, object]) -> None:
        prompt = self.wire.read(body)
        self._begin(prompt, body)
        if await self._fail_early():
            return
        usage, answer = audio_wire.transcript_usage(prompt), self._paced(prompt)
        if prompt.stream:
            await self._stream(prompt, answer, usage)
            return
        self.answers = audio_wire.FORMATS[str(prompt.schema)]
        await self._plain("", 0.0, usage, partial(self.wire.plain, prompt, answer))

    def _paced(self, prompt: Prompt) -> Answer:
        """An answer without content of its own, at the pace of a fast model."""
        self.seen.answers += 1
        dice = self._dice(b"answer", self.seen.answers)
        return Answer(dice.name("aud-"), prompt.model, (), Pace(0.0, 1_000.0), 0)

    async def _images(self, body: dict[str, object]) -> None:
        prompt = self.wire.read(body)
        self._begin(prompt, body)
        if await self._fail_early():
            return
        self.seen.answers += 1
        dice = self._dice(b"answer", self.seen.answers)
        if self.operation == "image_edits":
            body = images_wire.typed_fields(body)
        asked = images_wire.read_picture(body, prompt)
        answer = images_wire.draw(prompt, asked, dice)
        if prompt.model.startswith(images_wire.BY_TOKENS):
            seen = prompt.shown[1] if self.operation == "image_edits" else 0
            usage = Usage(prompt.input_tokens, asked.tokens, image_input_tokens=seen)
        else:
            usage = Usage(units=asked.images)
        if prompt.stream:
            await self._stream(prompt, answer, usage)
            return
        await self._plain("", 0.0, usage, partial(self.wire.plain, prompt, answer))

    async def moderations(self) -> None:
        """Serve moderations, which are free."""
        self.operation = "moderations"
        await self._run(self._moderations)

    async def _moderations(self, body: dict[str, object]) -> None:
        model, script = model_of({"model": "omni-moderation-latest", **body})
        if "moderation" not in model:
            raise RefusalError(400, f"Invalid value for 'model' = {model}.", param="model")
        texts = _moderated(body)
        digest = digest_of("moderations", model, body, _NOT_CONTENT)
        count = sum(map(tokens, texts))
        self._begin(Prompt("openai", model, digest, (), count, script=script), body)
        if await self._fail_early():
            return
        self.seen.answers += 1
        dice = self._dice(b"answer", self.seen.answers)
        due_s = draw_pace(model, dice.rng).first_s / 4
        answer_id = dice.name("modr-")
        body_of = partial(_moderation, answer_id, model, texts)
        await self._plain(answer_id, due_s, Usage(count), body_of)

    async def rerank(self) -> None:
        """Rank documents: Cohere's models bill search units, others tokens."""
        self.operation = "rerank"
        await self._run(self._rerank)

    async def _rerank(self, body: dict[str, object]) -> None:
        model, script = model_of(body)
        if "rerank" not in model:
            raise RefusalError(404, f"model '{model}' not found, or cannot rank.", param="model")
        query, texts = _ranked(body)
        top = whole(body, "top_n", 1, 1_000_000, len(texts)) or 1
        asked, sizes = tokens(query), list(map(tokens, texts))
        by_search = not model.startswith("jina")
        usage = Usage(sum(sizes) + asked * len(sizes))
        if by_search:
            left = max(_CHUNK_TOKENS - asked, _CHUNK_TOKENS_MIN)
            chunks = sum(max(1, math.ceil(size / left)) for size in sizes)
            usage = Usage(units=math.ceil(chunks / _DOCUMENTS_PER_SEARCH))
        digest = digest_of("rerank", model, body, _NOT_CONTENT)
        self._begin(Prompt("openai", model, digest, (), usage.input_tokens, script=script), body)
        if await self._fail_early():
            return
        self.seen.answers += 1
        dice = self._dice(b"answer", self.seen.answers)
        due_s = draw_pace(model, dice.rng).first_s / 4
        scores = sorted(((dice.rng.random(), i) for i in range(len(texts))), reverse=True)
        rows: list[dict[str, object]] = []
        for score, index in scores[:top]:
            row: dict[str, object] = {"index": index, "relevance_score": score}
            if body.get("return_documents") is True:
                row["document"] = {"text": texts[index]}
            rows.append(row)
        answer_id = dice.name("rr-")
        body_of = partial(_ranking, answer_id, model, rows, by_search)
        await self._plain(answer_id, due_s, usage, body_of)


def _ranked(body: dict[str, object]) -> tuple[str, list[str]]:
    """The query and the documents' texts. Raises RefusalError."""
    query, documents = body.get("query"), body.get("documents")
    if not isinstance(query, str) or not query:
        raise RefusalError(400, "query must be a non-empty string", param="query")
    if not isinstance(documents, list) or not 1 <= len(documents) <= _DOCUMENTS_MAX:
        raise RefusalError(400, f"documents must be 1 to {_DOCUMENTS_MAX}", param="documents")
    texts = [d.get("text") if isinstance(d, dict) else d for d in documents]
    if not all(isinstance(text, str) for text in texts):
        raise RefusalError(400, "each document must be a string or have a text", param="documents")
    return query, [text for text in texts if isinstance(text, str)]


def _ranking(
    answer_id: str,
    model: str,
    rows: list[dict[str, object]],
    by_search: bool,
    usage: Usage | None,
) -> bytes:
    data: dict[str, object] = {"id": answer_id, "results": rows}
    if by_search:
        billed = {} if usage is None else {"billed_units": {"search_units": usage.units}}
        data["meta"] = {"api_version": {"version": "2"}, **billed}
    else:
        data["model"] = model
        if usage is not None:
            data["usage"] = {"total_tokens": usage.input_tokens}
    return msgspec.json.encode(data)


def _moderated(body: dict[str, object]) -> list[str]:
    """The texts to judge; an image counts as one without words. Raises RefusalError."""
    given = body.get("input")
    items = given if isinstance(given, list) else [given]
    if not items or not all(isinstance(item, str | dict) for item in items):
        raise RefusalError(400, "'input' must be text, or a list of texts or parts.", param="input")
    if all(isinstance(item, dict) for item in items):
        for item in items:
            if not isinstance(item, dict) or item.get("type") not in ("text", "image_url"):
                raise RefusalError(400, "Invalid value: 'input[].type'.", param="input")
        return ["".join(str(item.get("text", "")) for item in items if isinstance(item, dict))]
    return [item for item in items if isinstance(item, str)]


def _moderation(answer_id: str, model: str, texts: list[str], usage: Usage | None) -> bytes:
    """Moderations do not report usage."""
    del usage
    rows = []
    for text in texts:
        found = {name: name in text.lower() for name in _CATEGORIES}
        scores = {name: math.exp(-1.0 if found[name] else -12.0) for name in _CATEGORIES}
        row = {"flagged": any(found.values()), "categories": found, "category_scores": scores}
        rows.append(row)
    return msgspec.json.encode({"id": answer_id, "model": model, "results": rows})
