"""OpenAI's client on speech, transcriptions and translations, against the whole gateway."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.service.gateway.audio_files import mp3, ogg, wav
from tests.service.gateway.endpoints import Site, running_site
from tests.service.gateway.harness import wait_for

MODELS = {
    "say": "openai/tts-1",
    "say-hd": "openai/tts-1-hd",
    "speak": "openai/gpt-4o-mini-tts",
    "hear": "openai/whisper-1",
    "listen": "openai/gpt-4o-transcribe",
    "quick": "groq/whisper-large-v3",
    "chat": "openai/gpt-4o-mini",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Models that bill characters, seconds and tokens."""
    folder = tmp_path_factory.mktemp("gateway")
    fallbacks = {"say": "say-hd", "listen": "hear"}
    with running_site(folder, MODELS, fallbacks=fallbacks, poor_nano=10**6) as found:
        yield found


def speak(site: Site, key: str = "rich", **fields: Any) -> tuple[bytes, httpx.Headers]:
    """A file of speech, and the headers it came with."""
    with site.client(key, max_retries=0) as client:
        asked: Any = {"model": "say", "voice": "alloy", "input": "Good morning.", **fields}
        with client.audio.speech.with_streaming_response.create(**asked) as answer:
            return answer.read(), answer.headers


def hear(site: Site, key: str = "rich", name: str = "a.wav", **fields: Any) -> Any:
    """A transcript, raw."""
    data = fields.pop("data", None) or wav(2.3)
    with site.client(key, max_retries=0) as client:
        asked: Any = {"model": "hear", "file": (name, data), **fields}
        return client.audio.transcriptions.with_raw_response.create(**asked)


# speech -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "audio/mpeg"),
        ({"response_format": "wav", "input": "Grüße, 你好 🎉"}, "audio/wav"),
        ({"model": "say-hd", "response_format": "opus", "speed": 0.5}, "audio/opus"),
        ({"model": "speak", "instructions": "Whisper."}, "audio/mpeg"),
        ({"model": "speak", "response_format": "pcm", "stream_format": "audio"}, "audio/pcm"),
    ],
    ids=str,
)
def test_a_file_of_speech(site: Site, fields: dict[str, Any], kind: str) -> None:
    """The audio comes with its content type, and the ledger has the provider's bill."""
    before = len(site.billed())
    audio, headers = speak(site, **fields)

    assert audio
    assert headers["content-type"] == kind
    (entry,) = site.check(headers["x-request-id"], before)
    assert entry["nano_usd"] > 0
    assert site.attempts(headers["x-request-id"])[0][2] == 0
    assert len(audio) == (entry["usage"]["output_tokens"] * 400 or len(audio))


def test_speech_as_events(site: Site) -> None:
    """Events go through as they come, and hold the same audio as the file."""
    before = len(site.billed())
    body, headers = speak(site, model="speak", stream_format="sse")

    assert headers["content-type"].startswith("text/event-stream")
    lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    events = [httpx.Response(200, content=line[6:]).json() for line in lines]
    assert events[-1]["type"] == "speech.audio.done"
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert audio == speak(site, model="speak")[0]
    site.check(headers["x-request-id"], before, exact=False)
    assert b": spanledger cost_usd=" in body


@pytest.mark.parametrize("fault", ["429;retry_after=0", "500", "reset", "cut:0"])
def test_another_voice_takes_over(site: Site, fault: str) -> None:
    """Where the first model fails before any audio."""
    site.fault(fault, model="tts-1")
    try:
        _, headers = speak(site)
    finally:
        site.fault("")
    assert headers["x-spanledger-deployment"] == "d-say-hd"
    request_id = headers["x-request-id"]
    assert site.attempts(request_id)[-1][0] == site.billed()[-1]["nano_usd"]


def test_a_file_that_breaks_off_is_not_taken_for_whole(site: Site) -> None:
    """The connection breaks, because half a sentence must not pass for all of it."""
    before = len(site.billed())
    site.fault("cut:1", model="tts-1")
    try:
        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            speak(site, input="A longer text. " * 20)
    finally:
        site.fault("")
    request_id = site.last_request()
    site.check(request_id, before, exact=False)
    assert site.attempts(request_id)[0][3] == "stream_interrupted"
    assert speak(site)[0]


def test_a_caller_who_leaves_pays_for_the_characters(site: Site) -> None:
    """What has arrived is relayed although the provider has fallen silent, and then all characters are
    charged."""
    site.fault("stall:3", model="tts-1")
    try:
        asked: Any = {"model": "say", "voice": "alloy", "input": "Many words. " * 300}
        with (
            site.client("rich", max_retries=0) as client,
            client.audio.speech.with_streaming_response.create(**asked) as answer,
        ):
            next(answer.iter_bytes())
            request_id = answer.headers["x-request-id"]
    finally:
        site.fault("")
    wait_for(lambda: all(row[4] for row in site.attempts(request_id)))
    assert site.attempts(request_id)[0][0] == 3_600 * 15_000


@pytest.mark.parametrize("model", ["say", "speak"])
def test_speech_is_held_for(site: Site, model: str) -> None:
    """A customer without the money for it gets none."""
    before = len(site.billed())
    with pytest.raises(openai.APIStatusError) as caught:
        speak(site, "poor", model=model, input="x" * 4_000)
    assert caught.value.code == "budget_exceeded"
    assert len(site.billed()) == before


def test_speech_without_usage_is_estimated(site: Site) -> None:
    """By its audio, within the hold."""
    site.fault("missing_usage", model="gpt-4o-mini-tts")
    try:
        _, headers = speak(site, model="speak")
    finally:
        site.fault("")
    cost, hold, estimated, *_ = site.attempts(headers["x-request-id"])[0]
    assert 0 < cost <= hold
    assert estimated


# transcriptions ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "verbose_json", "text", "srt", "vtt"])
def test_a_transcript_in_every_format(site: Site, kind: str) -> None:
    """Whatever the format, the file's seconds are what is billed, and the text is the provider's."""
    before = len(site.billed())
    raw = hear(site, response_format=kind)

    (entry,) = site.check(raw.headers["x-request-id"], before)
    assert entry["usage"]["units"] == 3
    wanted = "application/json" if "json" in kind else "text/plain; charset=utf-8"
    assert raw.headers["content-type"] == wanted
    told = "json" in kind
    assert site.attempts(raw.headers["x-request-id"])[0][2] == (not told)
    assert {"srt": "-->", "vtt": "WEBVTT"}.get(kind, "word") in raw.text


def test_a_transcript_by_tokens(site: Site) -> None:
    """Audio and text are both input."""
    before = len(site.billed())
    raw = hear(site, model="listen", prompt="Names: Ada, Grace.", data=wav(7.5))
    answer = raw.parse()

    (entry,) = site.check(raw.headers["x-request-id"], before)
    assert answer.usage.input_token_details.audio_tokens == 75
    assert entry["usage"]["input_tokens"] == answer.usage.input_tokens > 75
    assert site.rows("operation")[-1] == ("transcriptions",)


def test_a_streamed_transcript(site: Site) -> None:
    """Pieces of text, then all of it with the usage that is billed."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        file = ("a.wav", wav(4))
        events: list[Any] = list(
            client.audio.transcriptions.create(model="listen", file=file, stream=True)
        )
    said = "".join(event.delta for event in events[:-1])
    assert events[-1].type == "transcript.text.done"
    assert said == events[-1].text
    (entry,) = site.check(site.last_request(), before)
    assert entry["usage"]["output_tokens"] == events[-1].usage.output_tokens


def test_a_model_that_does_not_stream_answers_in_one_event(site: Site) -> None:
    """`whisper-1` ignores `stream`; a client that asked for it still reads events."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        file = ("a.wav", wav(4))
        (event,) = client.audio.transcriptions.create(model="hear", file=file, stream=True)
    assert event.type == "transcript.text.done"
    assert event.text
    site.check(site.last_request(), before)


def test_a_provider_that_reports_nothing(site: Site) -> None:
    """Groq's seconds are counted by us, and it bills ten at least."""
    before = len(site.billed())
    raw = hear(site, model="quick", data=wav(2))
    (entry,) = site.check(raw.headers["x-request-id"], before)
    assert entry["usage"]["units"] == 10
    assert site.attempts(raw.headers["x-request-id"])[0][2] == 1


def test_a_translation(site: Site) -> None:
    """It is billed as a transcription."""
    before = len(site.billed())
    with site.client("rich", max_retries=0) as client:
        raw = client.audio.translations.with_raw_response.create(
            model="hear", file=("a.mp3", mp3(12))
        )
    assert raw.parse().text
    site.check(raw.headers["x-request-id"], before)
    assert site.rows("operation")[-1] == ("translations",)


@pytest.mark.parametrize("size_s", [1, 200], ids=["in memory", "on disk"])
@pytest.mark.parametrize("fault", ["429;retry_after=0", "500", "reset"])
def test_another_model_hears_the_same_file(site: Site, fault: str, size_s: int) -> None:
    """The form is sent again, whole, also where it is kept on disk."""
    site.fault(fault, model="gpt-4o-transcribe")
    data = wav(size_s, fill=b"\x11")
    try:
        raw = hear(site, model="listen", data=data)
    finally:
        site.fault("")
    assert raw.headers["x-spanledger-deployment"] == "d-hear"
    # A kept connection that is reset may have been closed as unused, so it is asked once more.
    allowed = {"2", "3"} if fault == "reset" else {"2"}
    assert raw.headers["x-spanledger-attempts"] in allowed
    assert site.billed()[-1]["usage"]["units"] == size_s
    assert raw.parse().text == hear(site, data=data).parse().text


@pytest.mark.parametrize("name", ["Straße.wav", "我的录音.wav", 'a"b;c.wav', "space in it.wav"])
def test_names_of_files_go_on_as_they_came(site: Site, name: str) -> None:
    """Whatever characters they have."""
    assert hear(site, name=name).parse().text


def test_a_transcript_is_held_for(site: Site) -> None:
    """By the seconds of the file."""
    before = len(site.billed())
    with pytest.raises(openai.APIStatusError) as caught:
        hear(site, "poor", data=wav(60))
    assert caught.value.code == "budget_exceeded"
    assert len(site.billed()) == before


def test_audio_of_an_unknown_length_is_refused_under_a_budget(site: Site) -> None:
    """With what to send instead; a customer without a budget may send it."""
    before = len(site.billed())
    with pytest.raises(openai.APIStatusError) as caught:
        hear(site, data=b"no format that anybody knows", name="a.wav")
    assert caught.value.code == "unbounded_cost"
    assert "send WAV (PCM), MP3" in str(caught.value)
    assert len(site.billed()) == before
    with pytest.raises(openai.BadRequestError, match=r"rejected|corrupted"):
        hear(site, "free", data=b"no format that anybody knows", name="a.wav")


def test_a_chat_model_does_not_hear(site: Site) -> None:
    """And a model for speech does not chat: both are said before anything is sent."""
    with pytest.raises(openai.APIStatusError) as caught:
        hear(site, model="chat")
    assert "/v1/audio/transcriptions" in str(caught.value)
    with site.client("rich", max_retries=0) as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="say", messages=[{"role": "user", "content": "hi"}])


def test_nothing_is_held_too_low(site: Site) -> None:
    """Random requests never cost more than their hold."""
    rng = random.Random(5)
    for _ in range(60):
        before = len(site.billed())
        if rng.random() < 0.4:
            text = rng.choice(["x", "你", "word "]) * rng.randint(1, 800)
            speed = rng.choice([0.25, 1.0, 4.0])
            _, headers = speak(
                site, model=rng.choice(["say", "say-hd", "speak"]), input=text, speed=speed
            )
        else:
            seconds = rng.choice([0.2, 3.0, 45.0])
            name, data = rng.choice(
                [
                    ("a.wav", wav(seconds, rng.choice([8_000, 16_000]), rng.choice([1, 2]))),
                    ("a.mp3", mp3(seconds, rng.choice([8, 64, 160]))),
                    ("a.ogg", ogg(seconds)),
                ]
            )
            model = rng.choice(["hear", "listen", "quick"])
            headers = hear(site, model=model, data=data, name=name).headers
        site.check(headers["x-request-id"], before, exact=False)
        paid = [entry["nano_usd"] for entry in site.billed()[before:]]
        ((_, hold, *_),) = site.attempts(headers["x-request-id"])
        assert [hold >= cost for cost in paid] == [True]
