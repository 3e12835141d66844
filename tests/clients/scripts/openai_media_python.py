"""OpenAI's package for Python, on audio and on changing images."""

from __future__ import annotations

import base64
import os
from typing import Any

from said import run

# setup
import openai

client = openai.OpenAI()
# end

AUDIO = base64.b64decode(os.environ["TRY_AUDIO"])
IMAGE = base64.b64decode(os.environ["TRY_IMAGE"])


def speech(model: str) -> dict[str, Any]:
    asked = client.audio.speech.with_streaming_response.create(
        model=model, voice="alloy", input="Good morning, everybody."
    )
    with asked as answer:
        return {"data": sum(map(len, answer.iter_bytes()))}


def transcript(model: str) -> dict[str, Any]:
    answer = client.audio.transcriptions.create(model=model, file=("Straße.wav", AUDIO))
    return {"text": answer.text}


def dictation(model: str) -> dict[str, Any]:
    events = client.audio.transcriptions.create(model=model, file=("a.wav", AUDIO), stream=True)
    return {"pieces": [e.delta for e in events if e.type == "transcript.text.delta"]}


def edit(model: str) -> dict[str, Any]:
    answer = client.images.edit(model=model, image=("cat.png", IMAGE), prompt="A hat", n=2)
    return {"data": len(answer.data or [])}


run(speech=speech, transcript=transcript, dictation=dictation, edit=edit)
