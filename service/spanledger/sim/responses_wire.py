"""OpenAI's Responses API, as api.openai.com reads and writes it.

One object serves one call, because the events of a stream are numbered and an answer repeats what
the request said. It decides nothing: no faults, no billing, no clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec

from spanledger.sim.bill import DEFAULT_SERVICE, Usage, key_digest
from spanledger.sim.openai_wire import OpenAIWire
from spanledger.sim.prompt import (
    Prefixes,
    Prompt,
    RefusalError,
    Tool,
    asked_of,
    digest_of,
    model_of,
    objects,
    string,
    text_of,
)
from spanledger.sim.responses_rules import (
    COMPACT_NOW,
    check,
    check_calls,
    check_compaction,
    reasons_unasked,
)
from spanledger.sim.responses_store import JsonBody, Store, Stored
from spanledger.sim.scenarios import WireName
from spanledger.sim.tokens import COUNTING, TOKENS_PER_MESSAGE, file_tokens, pieces, tokens
from spanledger.sim.wire import Chunk
from spanledger.sim.writer import Answer, Choice

SEALED = "gAAAAAB"
"""How reasoning that only its provider can read begins."""
OBFUSCATED_CHARACTERS = 16
HOSTED = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp")
"""Types of tools that the provider runs, whose results the model reads."""
SEARCHES = ("search", "search", "open_page")
"""What an answer does that was asked to search the web; opening a page is not billed."""
_IGNORED = frozenset({"stream", "stream_options", "metadata", "user", "store", "background"})
_ENDS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesWire(OpenAIWire):
    """One call of `POST /v1/responses`."""

    name: WireName = "openai"
    id_prefix = "resp_"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.body: JsonBody = {}
        self.owner = ""
        self.context: list[JsonBody] = []
        """Every item the model sees, those of earlier answers included."""
        self.given: list[JsonBody] = []
        """The request's own items."""
        self.compacts = False
        """The answer is a compaction."""
        self.searched: tuple[str, ...] = ()
        """What it did on the web first."""
        self._numbers = itertools.count()

    def key(self, headers: Mapping[str, str]) -> str:
        """The bearer token; what is stored belongs to it."""
        key = super().key(headers)
        self.owner = key_digest(key)
        return key

    def read(self, body: JsonBody) -> Prompt:
        """Read a request, with what the answers before it were."""
        model, script = model_of(body)
        check(body, model)
        self.body = body
        self.given = self.store.items_of(body.get("input"))
        self.context = [*self._before(), *self.given]
        self.store.check_references(self.given, self.owner)
        self.context = [self.store.resolved(item, self.owner) for item in self.context]
        self.compacts = self.context[-1:] == [{"type": COMPACT_NOW}]
        if self.compacts:
            self.context.pop()
        check_calls(self.context)
        self._check_seals()
        prefixes = Prefixes()
        tools = self._tools(prefixes)
        text = body.get("text")
        form = text.get("format") if isinstance(text, dict) else None
        if form:
            prefixes.add(form, tokens(msgspec.json.encode(form).decode()))
        if instructions := string(body.get("instructions")):
            prefixes.add(["instructions", instructions], TOKENS_PER_MESSAGE + tokens(instructions))
        for item in self.context:
            prefixes.add(item, item_tokens(item))
        last = self.context[-1] if self.context else {}
        cap = body.get("max_output_tokens")
        force, barred = self._choice()
        asked = asked_of(last.get("content")) if last.get("role") == "user" else ""
        hosted = [string(tool.get("type")) for tool in objects(body.get("tools"))]
        if "search the web" in asked.lower() and any(t.startswith("web_search") for t in hosted):
            self.searched = SEARCHES
        return Prompt(
            wire="openai",
            model=model,
            digest=digest_of("responses", model, {**body, "input": self.context}, _IGNORED),
            segments=tuple(prefixes.segments),
            input_tokens=prefixes.total,
            stream=body.get("stream") is True,
            output_tokens_max=cap if isinstance(cap, int) else None,
            asked=asked,
            tools=() if self.compacts else tools,
            force_tool=force,
            tools_barred=barred,
            parallel_tools=body.get("parallel_tool_calls") is not False,
            schema=_schema(form),
            reasoning=self._effort(model),
            service=string(body.get("service_tier")),
            script=script,
            searches=self.searched.count("search"),
        )

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """A `response` object."""
        return msgspec.json.encode(self.finished(prompt, answer, usage))

    def finished(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> JsonBody:
        """The object at its end, which is kept unless the request says otherwise."""
        choice = answer.choices[0]
        cut = _ENDS.get(choice.finish)
        output = [item for item, _ in self._items(answer)]
        data = self.response(prompt, answer, "incomplete" if cut else "completed", output)
        data["incomplete_details"] = {"reason": cut} if cut else None
        data["completed_at"] = None if cut else answer.created_s
        if usage is not None:
            data["usage"] = usage_json(usage)
        if self.body.get("store") is not False:
            self.keep(data)
        return data

    def keep(self, data: JsonBody) -> None:
        """Store an answer with what led to it."""
        output = objects(data.get("output"))
        self.store.put(Stored(data, self.given, [*self.context, *output], self.owner))

    def response(
        self, prompt: Prompt, answer: Answer, status: str, output: list[JsonBody]
    ) -> JsonBody:
        """The object, repeating what the request said."""
        body = self.body
        reasoning = body.get("reasoning")
        text = body.get("text")
        return {
            "id": answer.id,
            "object": "response",
            "created_at": answer.created_s,
            "status": status,
            "background": body.get("background") is True,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": body.get("max_tool_calls"),
            "model": answer.model,
            "output": output,
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": body.get("previous_response_id"),
            "prompt_cache_key": body.get("prompt_cache_key"),
            "reasoning": {
                "effort": prompt.reasoning or None,
                "summary": reasoning.get("summary") if isinstance(reasoning, dict) else None,
            },
            "safety_identifier": body.get("safety_identifier"),
            "service_tier": prompt.service or DEFAULT_SERVICE,
            "store": body.get("store") is not False,
            "temperature": body.get("temperature", 1.0),
            "text": {"format": {"type": "text"}, **(text if isinstance(text, dict) else {})},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": objects(body.get("tools")),
            "top_logprobs": body.get("top_logprobs") or 0,
            "top_p": body.get("top_p", 1.0),
            "truncation": body.get("truncation") or "disabled",
            "usage": None,
            "user": body.get("user"),
            "metadata": body.get("metadata") or {},
        }

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The answer is there, and in progress."""
        del usage
        begun = self.response(prompt, answer, "in_progress", [])
        yield self._event("response.created", {"response": begun})
        yield self._event("response.in_progress", {"response": begun})

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """The output's items in order, one delta per token."""
        del prompt
        for index, (item, text) in enumerate(self._items(answer)):
            place: JsonBody = {"item_id": item["id"], "output_index": index}
            begun = {**item, **_EMPTY[string(item["type"])]}
            yield self._event("response.output_item.added", {"output_index": index, "item": begun})
            if item["type"] == "message":
                yield from self._text(place, item, text)
            elif item["type"] == "function_call":
                delta = "response.function_call_arguments"
                yield from self._deltas(f"{delta}.delta", place, text)
                yield self._event(
                    f"{delta}.done", {**place, "name": item["name"], "arguments": text}
                )
            elif text and item["type"] == "reasoning":
                yield from self._summary(place, text)
            whole = answer.choices[0].visible_tokens if item["type"] == "compaction" else 0
            done = {"output_index": index, "item": item}
            yield self._event("response.output_item.done", done, whole)

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """The whole answer once more, with its usage; no end marker follows."""
        data = self.finished(prompt, answer, usage)
        yield self._event(f"response.{data['status']}", {"response": data})

    def failed(self, prompt: Prompt, answer: Answer) -> JsonBody:
        """The object of an answer that the model did not finish."""
        data = self.response(prompt, answer, "failed", [])
        data["error"] = {
            "code": "server_error",
            "message": "The model produced an error while answering (simulated).",
        }
        return data

    def failing(self, prompt: Prompt, answer: Answer) -> Chunk:
        """The event that ends a stream whose answer failed."""
        return self._event("response.failed", {"response": self.failed(prompt, answer)})

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return (
            b"event: response.output_text.delta\n"
            b'data: {"type":"response.output_text.delta","item_id":"msg_bro\n\n'
        )

    def _before(self) -> list[JsonBody]:
        previous = self.body.get("previous_response_id")
        if not previous:
            return []
        found = self.store.get(string(previous), self.owner)
        if found is None:
            raise RefusalError(
                400,
                f"Previous response with id '{previous}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return found.context

    def _check_seals(self) -> None:
        for item in self.context:
            sealed = string(item.get("encrypted_content"))
            begins = self._seal("")
            if item.get("type") == "reasoning":
                begins = sealed and self._seal(sealed[-8:])
            elif item.get("type") != "compaction":
                continue
            if not sealed.startswith(begins):
                raise RefusalError(
                    400,
                    f"The encrypted content for item {item.get('id')} could not be verified. "
                    "Reason: Encrypted content organization_id did not match the target "
                    "organization.",
                    code="invalid_encrypted_content",
                    param=None,
                )

    def _seal(self, thought: str) -> str:
        return f"{SEALED}{self.owner.removeprefix('sha256:')}{thought}"

    def _tools(self, prefixes: Prefixes) -> tuple[Tool, ...]:
        given = objects(self.body.get("tools"))
        brought = [tool for item in self.context for tool in objects(item.get("tools"))]
        if not given and not brought:
            return ()
        counting = COUNTING.get()
        hosted = sum(string(tool.get("type")).startswith(HOSTED) for tool in given + brought)
        more = counting.tools + hosted * counting.hosted_tool
        prefixes.add(given, more + tokens(msgspec.json.encode(given).decode()))
        return tuple(
            Tool(string(tool.get("name")), tool.get("parameters"))
            for tool in given + brought
            if tool.get("type") == "function"
        )

    def _choice(self) -> tuple[str, bool]:
        choice = self.body.get("tool_choice")
        if isinstance(choice, dict):
            return string(choice.get("name")), False
        return ("*" if choice == "required" else ""), choice == "none"

    def _effort(self, model: str) -> str:
        reasoning = self.body.get("reasoning")
        effort = string(reasoning.get("effort")) if isinstance(reasoning, dict) else ""
        return effort or ("medium" if reasons_unasked(model) else "")

    def _items(self, answer: Answer) -> Iterator[tuple[JsonBody, str]]:
        """The output's items as they are at the end, each with the text that streams in."""
        choice, tail = answer.choices[0], answer.id.removeprefix(self.id_prefix)
        if self.compacts:
            yield self.compaction(answer), ""
            return
        for number, action in enumerate(self.searched):
            done: JsonBody = {"type": action, **_ACTIONS[action]}
            found = {"id": f"ws_{number}{tail}", "type": "web_search_call", "status": "completed"}
            yield {**found, "action": done}, ""
        if choice.reasoning_tokens:
            yield self._reasoning(f"rs_{tail}", choice)
        status = "incomplete" if choice.finish in _ENDS else "completed"
        if choice.text or not (choice.calls or choice.finish == "length"):
            yield (
                {
                    "id": f"msg_{tail}",
                    "type": "message",
                    "status": status,
                    "role": "assistant",
                    "content": [_text_part(choice.text)],
                },
                choice.text,
            )
        for number, call in enumerate(choice.calls):
            item: JsonBody = {
                "id": f"fc_{number}{tail}",
                "type": "function_call",
                "status": status,
                "arguments": call.arguments,
                "call_id": call.id,
                "name": call.name,
            }
            yield item, call.arguments

    def compaction(self, answer: Answer) -> JsonBody:
        """The item that stands for the earlier ones; nobody else can read it."""
        text = answer.choices[0].text
        sealed = self._seal("A" * len(text.encode("utf-8", "surrogatepass")))
        tail = answer.id.removeprefix(self.id_prefix)
        return {"id": f"cmp_{tail}", "type": "compaction", "encrypted_content": sealed}

    def _reasoning(self, item_id: str, choice: Choice) -> tuple[JsonBody, str]:
        asked = self.body.get("reasoning")
        summary = ""
        if isinstance(asked, dict) and asked.get("summary"):
            summary = f"**Weighing it**\n\nThis took {choice.reasoning_tokens} tokens of thought."
        parts = [{"type": "summary_text", "text": summary}] if summary else []
        item: JsonBody = {"id": item_id, "type": "reasoning", "summary": parts}
        included = self.body.get("include")
        if isinstance(included, list) and "reasoning.encrypted_content" in included:
            item["encrypted_content"] = self._seal(f"{choice.reasoning_tokens:08d}")
        return item, summary

    def _text(self, place: JsonBody, item: JsonBody, text: str) -> Iterator[Chunk]:
        place = {**place, "content_index": 0}
        yield self._event("response.content_part.added", {**place, "part": _text_part("")})
        yield from self._deltas("response.output_text.delta", {**place, "logprobs": []}, text)
        done = {**place, "text": text, "logprobs": []}
        yield self._event("response.output_text.done", done)
        part = objects(item["content"])[0]
        yield self._event("response.content_part.done", {**place, "part": part})

    def _summary(self, place: JsonBody, text: str) -> Iterator[Chunk]:
        place = {**place, "summary_index": 0}
        part: JsonBody = {"type": "summary_text", "text": ""}
        name = "response.reasoning_summary"
        yield self._event(f"{name}_part.added", {**place, "part": part})
        for delta in self._deltas(f"{name}_text.delta", place, text):
            yield Chunk(delta.data)  # a summary is not part of what is billed
        yield self._event(f"{name}_text.done", {**place, "text": text})
        yield self._event(f"{name}_part.done", {**place, "part": {**part, "text": text}})

    def _deltas(self, name: str, place: JsonBody, text: str) -> Iterator[Chunk]:
        options = self.body.get("stream_options")
        shown = isinstance(options, dict) and options.get("include_obfuscation") is False
        for piece, added in pieces(text):
            data: JsonBody = {**place, "delta": piece}
            if not shown:
                data["obfuscation"] = "x" * (OBFUSCATED_CHARACTERS - len(piece))
            yield self._event(name, data, added)

    def _event(self, name: str, data: JsonBody, added: int = 0) -> Chunk:
        payload = msgspec.json.encode(
            {"type": name, "sequence_number": next(self._numbers), **data}
        )
        return Chunk(b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n", added)


class CompactWire(ResponsesWire):
    """One call of `POST /v1/responses/compact`."""

    def read(self, body: JsonBody) -> Prompt:
        """Read a request."""
        check_compaction(body)
        return replace(super().read(body), tools=(), schema=None)

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """What is left of the conversation: what the user said, and what stands for the rest."""
        said = [
            {"id": f"msg_{number:04d}{answer.id[5:]}", "status": "completed", **item}
            for number, item in enumerate(self.context)
            if item.get("role") == "user"
        ]
        data: JsonBody = {
            "id": answer.id,
            "object": "response.compaction",
            "created_at": answer.created_s,
            "output": [*said, self.compaction(answer)],
        }
        if "service_tier" in self.body:
            data["service_tier"] = prompt.service or DEFAULT_SERVICE
        if usage is not None:
            data["usage"] = usage_json(usage)
        return msgspec.json.encode(data)


def usage_json(usage: Usage) -> JsonBody:
    """`usage` of a response."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def item_tokens(item: JsonBody) -> int:
    """Tokens of one item of the input."""
    count = TOKENS_PER_MESSAGE + tokens(text_of(item.get("content")))
    for name in ("content", "output"):
        count += sum(map(_media_tokens, objects(item.get(name))))
    if item.get("tools"):
        count += tokens(msgspec.json.encode(item["tools"]).decode())
    for name in ("arguments", "input", "encrypted_content"):
        count += tokens(string(item.get(name)))
    return count + tokens(text_of(item.get("output"))) + tokens(text_of(item.get("summary")))


_EMPTY: Mapping[str, JsonBody] = {
    "message": {"status": "in_progress", "content": []},
    "function_call": {"status": "in_progress", "arguments": ""},
    "reasoning": {"summary": []},
    "compaction": {"encrypted_content": ""},
    "web_search_call": {"status": "in_progress"},
}
"""What an item lacks when it is announced."""


_ACTIONS: Mapping[str, JsonBody] = {
    "search": {"query": "weather in Bern", "queries": ["weather in Bern", "Bern rain"]},
    "open_page": {"url": "https://example.org/bern"},
}


def _text_part(text: str) -> JsonBody:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _media_tokens(part: JsonBody) -> int:
    if part.get("type") == "input_file":
        names = ("file_data", "file_url", "file_id")
        return file_tokens(next((part[name] for name in names if part.get(name)), ""))
    if part.get("type") != "input_image":
        return 0
    return COUNTING.get().small_image if part.get("detail") == "low" else COUNTING.get().image


def _schema(form: object) -> object:
    if not isinstance(form, dict) or form.get("type") not in ("json_object", "json_schema"):
        return None
    return form.get("schema") or {}
