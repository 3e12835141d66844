"""OpenAI's legacy completions, as api.openai.com writes them.

Only models that have them answer, as at OpenAI. Each prompt gets `n` answers; all `best_of` of them are
written and billed, and the first ones are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, zip_longest

import msgspec

from spanledger.sim.bill import Usage
from spanledger.sim.openai_wire import OpenAIWire, usage_json
from spanledger.sim.prompt import Prompt, RefusalError, digest_of, model_of, string, whole
from spanledger.sim.tokens import pieces, tokens
from spanledger.sim.wire import Chunk
from spanledger.sim.writer import Answer, Choice

PROMPTS_MAX = 2_048
ANSWERS_MAX = 128
BEST_OF_MAX = 20
OUTPUT_TOKENS_DEFAULT = 16
_IGNORED = frozenset({"stream", "stream_options", "user", "metadata"})
_HAS_COMPLETIONS = re.compile(r"-instruct|^davinci-002|^babbage-002|^sim-")


class CompletionsWire(OpenAIWire):
    """Legacy completions."""

    id_prefix = "cmpl-"

    def read(self, body: dict[str, object]) -> Prompt:
        """Read a completion request."""
        model, script = model_of(body)
        if not _HAS_COMPLETIONS.search(model):
            raise RefusalError(
                404,
                "This is a chat model and not supported in the v1/completions endpoint. Did you "
                "mean to use v1/chat/completions?",
                code="model_not_found",
                param="model",
            )
        if "messages" in body:
            raise RefusalError(400, "Unrecognized request argument supplied: messages")
        prompts = read_prompts(body)
        stream = body.get("stream") is True
        options = body.get("stream_options")
        if options is not None and not stream:
            raise RefusalError(
                400,
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param="stream_options",
            )
        shown = whole(body, "n", 1, ANSWERS_MAX, 1) or 1
        best = whole(body, "best_of", 1, BEST_OF_MAX)
        if best is not None and best < shown:
            raise RefusalError(
                400,
                "You requested that the server return more choices than it "
                "will generate (best_of must be at least n).",
                param="best_of",
            )
        if best is not None and best > 1 and stream:
            raise RefusalError(400, "Cannot stream results with best_of > 1.", param="best_of")
        if len(prompts) * (best or shown) > ANSWERS_MAX:
            raise RefusalError(400, f"Too many answers: at most {ANSWERS_MAX}.", param="n")
        sizes = [tokens(item) if isinstance(item, str) else len(item) for item in prompts]
        cap = whole(body, "max_tokens", 0, 1_000_000, OUTPUT_TOKENS_DEFAULT)
        return Prompt(
            wire="openai",
            model=model,
            digest=digest_of("completions", model, body, _IGNORED),
            segments=(),
            input_tokens=sum(sizes),
            longest_input=max(sizes),
            stream=stream,
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
            choices=len(prompts) * (best or shown),
            output_tokens_max=cap,
            stop=_stops(body.get("stop")),
            script=script,
            shown=(shown, best or shown),
        )

    def plain(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> bytes:
        """A `text_completion` object."""
        shown, written = prompt.shown
        choices = [c for i, c in enumerate(answer.choices) if i % written < shown]
        rows = [_choice(i, choice.text, _finish(choice)) for i, choice in enumerate(choices)]
        return _object(answer, rows, usage)

    def opening(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Nothing comes before the first text."""
        del prompt, answer, usage
        return iter(())

    def content(self, prompt: Prompt, answer: Answer) -> Iterator[Chunk]:
        """One chunk per token, alternating between answers."""
        del prompt
        streams = [
            [(i, piece, added) for piece, added in pieces(choice.text)]
            for i, choice in enumerate(answer.choices)
        ]
        for token in chain.from_iterable(zip_longest(*streams)):
            if token is not None:
                index, piece, added = token
                yield Chunk(_event(_object(answer, [_choice(index, piece, None)], None)), added)

    def closing(self, prompt: Prompt, answer: Answer, usage: Usage | None) -> Iterator[Chunk]:
        """Each answer's finish reason, the usage if requested, and the end marker."""
        for index, choice in enumerate(answer.choices):
            yield Chunk(_event(_object(answer, [_choice(index, "", _finish(choice))], None)))
        if prompt.include_usage and usage is not None:
            yield Chunk(_event(_object(answer, [], usage)))
        yield Chunk(b"data: [DONE]\n\n")

    def broken(self) -> bytes:
        """An event with truncated JSON."""
        return b'data: {"id":"cmpl-broken","object":"text_completion","choi\n\n'


def read_prompts(body: dict[str, object]) -> list[str | list[int]]:
    """The prompts: texts or token lists. Raises RefusalError."""
    given = body.get("prompt", "<|endoftext|>")
    items = given if isinstance(given, list) else [given]
    if items and all(type(item) is int for item in items):
        items = [items]
    found: list[str | list[int]] = []
    for item in items:
        if isinstance(item, str) or (
            isinstance(item, list) and item and all(type(token) is int for token in item)
        ):
            found.append(item)
        else:
            raise RefusalError(400, "'prompt' must be text, tokens or a list.", param="prompt")
    if not 1 <= len(found) <= PROMPTS_MAX:
        raise RefusalError(400, f"'prompt' takes 1 to {PROMPTS_MAX} items.", param="prompt")
    return found


def _stops(stop: object) -> tuple[str, ...]:
    if isinstance(stop, str):
        return (stop,)
    return tuple(map(string, stop)) if isinstance(stop, list) else ()


def _finish(choice: Choice) -> str:
    return "stop" if choice.finish == "stop_sequence" else choice.finish


def _choice(index: int, text: str, finish: str | None) -> dict[str, object]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _object(answer: Answer, choices: list[dict[str, object]], usage: Usage | None) -> bytes:
    data: dict[str, object] = {
        "id": answer.id,
        "object": "text_completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": choices,
    }
    if usage is not None:
        data["usage"] = usage_json(usage)
    return msgspec.json.encode(data)


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
