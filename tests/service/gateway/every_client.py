"""One question in each wire, asked by that wire's own client, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai

from tests.service.gateway.audio_files import wav
from tests.service.gateway.endpoints import Site

HELLO: Any = [{"role": "user", "content": "Say hello, please."}]
TEXT = "Say hello, please."
PATIENCE_S = 30.0
CAP = 1_500
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
Note = Callable[[str], None]
"""Gets each piece of content as it comes. What it raises ends the call, as when a program stops reading."""
Ask = Callable[[Site, str, str, bool, Note, float], str]
"""Asks a route for a customer. Returns how the answer ended, by the wire's own word."""


def chat(site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float) -> str:
    """Chat completions."""
    asked: Any = {"model": route, "messages": HELLO, "max_completion_tokens": CAP}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        if not stream:
            answer = client.chat.completions.create(**asked)
            note(answer.choices[0].message.content or "")
            return str(answer.choices[0].finish_reason)
        end = ""
        for chunk in client.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                if choice.delta.content:
                    note(choice.delta.content)
                end = choice.finish_reason or end
        return end


def responses(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """The Responses API."""
    asked: Any = {"model": route, "input": TEXT, "max_output_tokens": CAP}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        if not stream:
            answer = client.responses.create(**asked)
            note(answer.output_text)
            return str(answer.status)
        with client.responses.stream(**asked) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    note(event.delta)
            return str(events.get_final_response().status)


def compact(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """A compaction, which is never streamed."""
    assert not stream
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        answer = client.responses.compact(model=route, input=TEXT)
        note(answer.output[-1].type)
        return answer.object


def messages(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Anthropic's client."""
    asked: Any = {"model": route, "messages": HELLO, "max_tokens": CAP}
    key = site.keys[customer]
    with anthropic.Anthropic(
        base_url=site.url, api_key=key, max_retries=0, timeout=timeout_s
    ) as client:
        if not stream:
            answer = client.messages.create(**asked)
            note("".join(block.text for block in answer.content if block.type == "text"))
            return str(answer.stop_reason)
        with client.messages.stream(**asked) as events:
            for text in events.text_stream:
                note(text)
            return str(events.get_final_message().stop_reason)


def completions(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Legacy completions."""
    asked: Any = {"model": route, "prompt": TEXT, "max_tokens": CAP}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        if not stream:
            answer = client.completions.create(**asked)
            note(answer.choices[0].text)
            return str(answer.choices[0].finish_reason)
        end = ""
        for chunk in client.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                if choice.text:
                    note(choice.text)
                end = str(choice.finish_reason or end)
        return end


def images(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Image generation."""
    asked: Any = {"model": route, "prompt": "A cat", "quality": "low", "size": "1024x1024"}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        if not stream:
            answer = client.images.generate(**asked)
            note((answer.data or [])[0].b64_json or "")
            return "completed"
        end = ""
        for event in client.images.generate(**asked, stream=True, partial_images=3):
            note(event.b64_json)
            end = event.type.rpartition(".")[2]
        return end


def edits(site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float) -> str:
    """Edits of images."""
    asked: Any = {"model": route, "prompt": "A hat", "image": ("cat.png", PNG), "quality": "low"}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        if not stream:
            answer = client.images.edit(**asked)
            note((answer.data or [])[0].b64_json or "")
            return "completed"
        end = ""
        for event in client.images.edit(**asked, stream=True, partial_images=3):
            note(event.b64_json)
            end = event.type.rpartition(".")[2]
        return end


def transcriptions(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Transcriptions."""
    asked: Any = {"model": route, "file": ("a.wav", wav(40.0))}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        if not stream:
            note(client.audio.transcriptions.create(**asked).text)
            return "done"
        end = ""
        for event in client.audio.transcriptions.create(**asked, stream=True):
            if event.type == "transcript.text.delta":
                note(event.delta)
            end = event.type.rpartition(".")[2]
        return end


def speech(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Speech, as a file."""
    assert not stream
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        answer = client.audio.speech.create(model=route, input=TEXT, voice="alloy")
        note(str(len(answer.content)))
        return answer.response.headers["content-type"]


def embeddings(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Embeddings, which are never streamed."""
    assert not stream
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        answer = client.embeddings.create(model=route, input=TEXT)
        note(str(len(answer.data[0].embedding)))
        return answer.object


def moderations(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Moderations, which are never streamed."""
    assert not stream
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        answer = client.moderations.create(model=route, input=TEXT)
        note(str(answer.results[0].category_scores.violence))
        return "flagged" if answer.results[0].flagged else "passed"


def rerank(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """Rerank, in the form that Cohere's and Jina's clients share. Raises what OpenAI's client would."""
    assert not stream
    body = {"model": route, "query": TEXT, "documents": ["Hello.", "Bye."]}
    with site.client(customer, max_retries=0, timeout=timeout_s) as client:
        answer = client.post("/rerank", body=body, cast_to=httpx.Response)
    note(str(answer.json()["results"][0]["relevance_score"]))
    return str(len(answer.json()["results"]))


class GoogleError(Exception):
    """What Google's client raises for an error, also within a stream."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['status']}: {error['message']}")
        self.status_code = error["code"]


def generate(
    site: Site, customer: str, route: str, stream: bool, note: Note, timeout_s: float
) -> str:
    """`generateContent`, read as Google's client does: line by line, and strictly. The client itself is
    among those of tests/clients."""
    body = {
        "contents": [{"role": "user", "parts": [{"text": TEXT}]}],
        "generationConfig": {"maxOutputTokens": CAP},
    }
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    url = f"{site.url}/v1beta/models/{route}:{verb}"
    headers = {"x-goog-api-key": site.keys[customer]}
    end = ""
    with (
        httpx.Client(headers=headers, timeout=timeout_s) as client,
        client.stream("POST", url, json=body) as answer,
    ):
        if not stream or answer.status_code != 200:
            answer.read()
            return _generated(answer.json(), note)
        for line in answer.iter_lines():
            if line:
                assert line.startswith("data: "), line
                end = _generated(json.loads(line[6:]), note) or end
    return end


def _generated(data: dict[str, Any], note: Note) -> str:
    """Note what an answer or an event says. Returns its finish reason, once it has one."""
    if "error" in data:
        raise GoogleError(data["error"])
    (candidate,) = data["candidates"]
    text = "".join(part["text"] for part in candidate["content"]["parts"])
    if text:
        note(text)
    return str(candidate.get("finishReason", ""))


RATE_LIMITED = (openai.RateLimitError, anthropic.RateLimitError, GoogleError)
BROKEN = (openai.APIError, anthropic.APIError, GoogleError)
TIMED_OUT = (openai.APITimeoutError, anthropic.APITimeoutError, httpx.TimeoutException)
