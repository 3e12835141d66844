"""Providers of audio that answer in other ways than OpenAI."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spanledger.config import parse_config
from tests.service.gateway.audio_files import mp3, wav
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Gateway, Running
from tests.support.ledgers import store_at
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider

ROUTES = {
    "say": "openai/tts-1",
    "speak": "openai/gpt-4o-mini-tts",
    "mine": "openai/kokoro-tts",
    "hear": "openai/whisper-1",
    "listen": "openai/gpt-4o-transcribe",
}
SSE = "text/event-stream"


class Odd(Gateway):
    """The gateway in front of a scripted provider."""

    provider: RawProvider

    def speech(self, answer: Any, **fields: Any) -> httpx.Response:
        """Ask for speech that is answered like this."""
        self.provider.answer = answer if callable(answer) else lambda _: answer
        asked = {"model": "say", "input": "Good morning", "voice": "alloy", **fields}
        return httpx.post(f"{self.url}/v1/audio/speech", json=asked, timeout=20)

    def transcript(self, answer: Any, data: bytes = b"", **fields: str) -> httpx.Response:
        """Ask for a transcript that is answered like this."""
        self.provider.answer = answer if callable(answer) else lambda _: answer
        return httpx.post(
            f"{self.url}/v1/audio/transcriptions",
            data={"model": "hear", **fields},
            files={"file": ("a.wav", data or wav(3.5))},
            timeout=20,
        )

    def booked(self) -> tuple[Any, ...]:
        """Cost, whether estimated, input and output tokens, and error of the newest attempt."""
        wait_for(lambda: self.rows("ended_ns")[-1][0] is not None)
        names = "cost_nano, estimated, input_tokens, output_tokens, error_type"
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            query = f"SELECT {names} FROM attempts ORDER BY started_ns DESC LIMIT 1"
            found: tuple[Any, ...] = connection.execute(query).fetchone()
            return found


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    """Without keys, so without budgets."""
    ledger = tmp_path_factory.mktemp("odd") / "ledger.db"
    store_at(ledger).records("create").close()
    with raw_provider(lambda _: Sent()) as provider:
        config = parse_config(
            {
                "model_list": [
                    {
                        "model_name": route,
                        "litellm_params": {
                            "model": model,
                            "api_base": f"{provider.url}/v1",
                            "api_key": "k",
                            **({"beam_size": 5} if route == "listen" else {}),
                        },
                    }
                    for route, model in ROUTES.items()
                ],
                "router_settings": {"num_retries": 0, "cooldown_time": 0},
                "gateway": {"port": 0, "total_timeout_s": 20},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            found = Odd(url, provider.url, ledger, {})
            found.provider = provider
            yield found


def events(*data: dict[str, Any]) -> bytes:
    """A stream of events."""
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in data)


# speech -----------------------------------------------------------------------------------


def test_events_become_the_file(odd: Odd) -> None:
    """A model that bills tokens is asked for events, whatever the caller asked for."""
    audio = [base64.b64encode(part).decode() for part in (b"ID3 one", b" and two")]
    deltas = [{"type": "speech.audio.delta", "audio": one} for one in audio]
    usage = {"input_tokens": 7, "output_tokens": 90, "total_tokens": 97}
    done = {"type": "speech.audio.done", "usage": usage}

    answer = odd.speech(Sent(body=events(*deltas, done), kind=SSE), model="speak")

    assert (answer.status_code, answer.content) == (200, b"ID3 one and two")
    assert answer.headers["content-type"] == "audio/mpeg"
    assert odd.provider.received[-1].json()["stream_format"] == "sse"
    assert odd.booked()[:4] == (7 * 600 + 90 * 12_000, 0, 7, 90)


def test_a_server_that_does_not_know_events(odd: Odd) -> None:
    """It is asked again without, and what it costs is estimated."""

    def answer(request: Received) -> Sent:
        if "stream_format" in request.json():
            error = {"error": {"message": "Unknown parameter: 'stream_format'."}}
            return Sent(400, json.dumps(error).encode())
        return Sent(body=b"\0" * 48_000, kind="audio/pcm")

    found = odd.speech(answer, model="speak", response_format="pcm")

    assert (found.status_code, len(found.content)) == (200, 48_000)
    cost, estimated, _, output, _ = odd.booked()
    assert estimated
    assert output == 20  # a second
    assert cost > 0


def test_a_file_for_a_caller_who_wants_events(odd: Odd) -> None:
    """The file is put into events."""
    answer = odd.speech(
        Sent(body=b"RIFF audio", kind="audio/wav"), model="mine", stream_format="sse"
    )

    assert answer.headers["content-type"].startswith(SSE)
    found = [json.loads(x[6:]) for x in answer.text.split("\n") if x.startswith("data: ")]
    assert [one["type"] for one in found] == ["speech.audio.delta", "speech.audio.done"]
    assert base64.b64decode(found[0]["audio"]) == b"RIFF audio"


@pytest.mark.parametrize(
    "sent",
    [
        Sent(body=b'{"error": {"message": "no voice", "code": "bad"}}'),
        Sent(body=b"<html>It works</html>", kind="text/html"),
        Sent(body=b"", kind="audio/mpeg"),
        Sent(body=events({"type": "error", "error": {"message": "lost"}}), kind=SSE),
        Sent(body=b"data: {broken\n\n", kind=SSE),
    ],
    ids=["error", "page", "empty", "error event", "garbage"],
)
def test_what_is_not_audio_is_an_error(odd: Odd, sent: Sent) -> None:
    """Nothing of it reaches the caller as a file."""
    answer = odd.speech(sent)
    assert answer.status_code >= 400
    assert "error" in answer.json()


def test_a_content_type_that_no_header_can_have_is_replaced(odd: Odd) -> None:
    """The file is still relayed."""
    answer = odd.speech(Sent(body=b"\xff\xf3 audio", kind="audio/" + "x" * 200))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert odd.booked()[0] == 12 * 15_000


# transcripts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "more", "wanted"),
    [
        ({"type": "duration", "seconds": 4}, {}, (400_000, 0)),
        ({"type": "duration", "seconds": 3.2}, {}, (400_000, 0)),
        (None, {"duration": 3.5}, (400_000, 0)),
        (None, {"duration": "3.500"}, (400_000, 0)),
        (None, {}, (400_000, 1)),
        ({"type": "duration", "seconds": "?"}, {}, (400_000, 1)),
        ({"type": "duration", "seconds": -5}, {}, (400_000, 1)),
    ],
    ids=str,
)
def test_seconds_in_whatever_form(
    odd: Odd, usage: Any, more: dict[str, Any], wanted: tuple[int, int]
) -> None:
    """Those that are reported count, rounded up; else those of the file."""
    body = {"text": "Hello", **more, **({} if usage is None else {"usage": usage})}
    answer = odd.transcript(Sent(body=json.dumps(body).encode()))

    assert answer.json() == body
    assert odd.booked()[:2] == wanted


def test_subtitles_count_where_the_file_says_less(odd: Odd) -> None:
    """Of a compressed file, the length is a guess; the end of the last subtitle is not."""
    srt = b"1\n00:00:00,000 --> 00:01:05,500\nHello\n\n"
    data = mp3(40, 64)
    answer = odd.transcript(Sent(body=srt, kind="text/plain"), data, response_format="srt")

    assert (answer.content, answer.headers["content-type"]) == (srt, "text/plain")
    assert odd.booked()[:2] == (66 * 100_000, 1)


def test_silence_is_an_answer(odd: Odd) -> None:
    """In each format."""
    assert odd.transcript(Sent(body=b'{"text": ""}')).json() == {"text": ""}
    answer = odd.transcript(Sent(body=b"", kind="text/plain"), response_format="text")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("kind", ["json", "text", "srt"])
def test_an_error_with_status_200(odd: Odd, kind: str) -> None:
    """Is an error, also where text was asked for."""
    body = json.dumps({"error": {"message": "broken", "code": "oops"}}).encode()
    assert odd.transcript(Sent(body=body), response_format=kind).status_code >= 400


def test_a_stream_in_the_form_of_chat(odd: Odd) -> None:
    """As vLLM streams transcripts."""
    chunks = [
        {"object": "transcription.chunk", "choices": [{"delta": {"content": text}}]}
        for text in ("Hel", "lo")
    ]
    last = {"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}
    body = events(*chunks, last) + b"data: [DONE]\n\n"
    answer = odd.transcript(Sent(body=body, kind=SSE), stream="true", model="listen")

    assert answer.headers["content-type"].startswith(SSE)
    assert '"content": "lo"' in answer.text
    assert odd.booked()[1] == 1


def test_a_stream_that_nobody_asked_for(odd: Odd) -> None:
    """Its last event is the answer."""
    usage = {"type": "tokens", "input_tokens": 40, "output_tokens": 3, "total_tokens": 43}
    done = {"type": "transcript.text.done", "text": "Hello", "usage": usage}
    body = events({"type": "transcript.text.delta", "delta": "Hello"}, done)

    answer = odd.transcript(Sent(body=body, kind=SSE), model="listen")
    assert answer.json()["text"] == "Hello"
    assert odd.booked()[1:4] == (0, 40, 3)


def test_what_the_file_says_of_a_deployment_holds_for_forms(odd: Odd) -> None:
    """A default is added to the form, and the caller's own wins."""
    odd.transcript(Sent(body=b'{"text": "x"}'), model="listen")
    assert b'name="beam_size"\r\n\r\n5\r\n' in odd.provider.received[-1].body
    odd.transcript(Sent(body=b'{"text": "x"}'), model="listen", beam_size="1")
    body = odd.provider.received[-1].body
    assert b'name="beam_size"\r\n\r\n1\r\n' in body
    assert body.count(b'"beam_size"') == 1
