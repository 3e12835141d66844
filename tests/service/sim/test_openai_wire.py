"""The OpenAI client cannot tell the simulator from the real provider."""

from __future__ import annotations

import base64
import json
import struct

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from spanledger.sim.host import RunningSim
from spanledger.sim.tokens import tokens
from tests.service.sim.books import only_entry

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How are you today?"}]
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "enum": ["Berlin", "Rome"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 7},
                },
                "required": ["city", "days"],
            },
        },
    }
    for name in ("get_weather", "get_news")
]


def test_plain_answer(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """Usage counts four bytes per token and three tokens per message."""
    raw = gpt.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=ASK)
    answer = raw.parse()
    assert answer.usage is not None
    text = answer.choices[0].message.content or ""

    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "gpt-4o-mini"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 3 + tokens("How are you today?") == 8
    assert answer.usage.completion_tokens == tokens(text)
    assert answer.usage.total_tokens == 8 + tokens(text)
    assert raw.headers["x-request-id"] == only_entry(web)["request_id"]


def test_stream_is_one_token_a_chunk(gpt: openai.OpenAI) -> None:
    """A stream's usage matches its chunks, is sent only on request, and stays within the cap."""
    chunks = list(
        gpt.chat.completions.create(
            model="gpt-4o-mini",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
            max_completion_tokens=7,
        )
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    usage = chunks[-1].usage
    assert usage is not None
    silent = gpt.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True)

    assert [len(piece.encode()) for piece in pieces] == [4] * 7
    assert chunks[-2].choices[0].finish_reason == "length"
    assert (chunks[-1].choices, usage.completion_tokens) == ([], 7)
    assert all(chunk.usage is None and chunk.choices for chunk in silent)


async def test_async_client_and_several_choices(sim: RunningSim) -> None:
    """Several choices are streamed alternately and are all counted."""
    async with openai.AsyncOpenAI(base_url=sim.openai_url, api_key="k") as client:
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=ASK,
            n=3,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    contents = [c.choices[0].index for c in chunks if c.choices and c.choices[0].delta.content]
    usage = chunks[-1].usage
    assert usage is not None

    assert contents == [0, 1, 2] * 5
    assert usage.completion_tokens == 15


def test_forced_tool(gpt: openai.OpenAI) -> None:
    """A tool the caller requires is called, with arguments that fit its schema."""
    answer = gpt.chat.completions.create(
        model="gpt-4o", messages=ASK, tools=TOOLS, tool_choice="required"
    )
    calls = answer.choices[0].message.tool_calls or []
    assert calls[0].type == "function"
    arguments = json.loads(calls[0].function.arguments)

    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    assert arguments["city"] in ("Berlin", "Rome")
    assert 1 <= arguments["days"] <= 7


def test_tools_in_a_stream_and_their_result(gpt: openai.OpenAI) -> None:
    """Tools the prompt names are streamed piece by piece; their results are answered with text."""
    history: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "use get_weather and get_news"}
    ]
    with gpt.chat.completions.stream(model="gpt-4o", messages=history, tools=TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    calls = message.tool_calls or []
    history.append(
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in calls
            ],
        }
    )
    history.extend(
        {"role": "tool", "tool_call_id": call.id, "content": "get_news: sunny"} for call in calls
    )
    answer = gpt.chat.completions.create(model="gpt-4o", messages=history, tools=TOOLS)

    assert [call.function.name for call in calls] == ["get_weather", "get_news"]
    assert all(set(json.loads(call.function.arguments)) == {"city", "days"} for call in calls)
    assert len({call.id for call in calls}) == 2
    assert answer.choices[0].finish_reason == "stop"


class Step(BaseModel):
    """A part of a structured answer."""

    title: str
    minutes: int


class Plan(BaseModel):
    """A structured answer."""

    goal: str
    urgent: bool
    steps: list[Step]


def test_json_answers(gpt: openai.OpenAI) -> None:
    """JSON mode returns an object, and a schema is followed, including references."""
    mode = gpt.chat.completions.create(
        model="gpt-4o", messages=ASK, response_format={"type": "json_object"}
    )
    parsed = gpt.chat.completions.parse(model="gpt-4o", messages=ASK, response_format=Plan)

    assert isinstance(json.loads(mode.choices[0].message.content or ""), dict)
    assert isinstance(parsed.choices[0].message.parsed, Plan)


def test_reasoning_is_output(gpt: openai.OpenAI) -> None:
    """Reasoning tokens are part of the output, grow with effort and count against the cap."""
    low, high = (
        gpt.chat.completions.create(
            model="o4-mini", messages=ASK, reasoning_effort=effort, max_completion_tokens=2_000
        ).usage
        for effort in ("low", "high")
    )
    capped = gpt.chat.completions.create(model="o4-mini", messages=ASK, max_completion_tokens=5)
    for usage in (low, high, capped.usage):
        assert usage is not None
        assert usage.completion_tokens_details is not None
        assert (
            0 < (usage.completion_tokens_details.reasoning_tokens or 0) <= usage.completion_tokens
        )

    assert capped.choices[0].finish_reason == "length"
    assert capped.choices[0].message.content == ""
    assert capped.usage is not None
    assert capped.usage.completion_tokens == 5


def test_prompt_cache(gpt: openai.OpenAI) -> None:
    """A long prefix seen before is read from the cache, in steps of 128 tokens; another model's is not."""

    def cached(model: str, question: str) -> int | None:
        usage = gpt.chat.completions.create(
            model=model,
            messages=[
                {"role": "system", "content": "Rules of this house. " * 100},
                {"role": "user", "content": question},
            ],
        ).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens

    prefix = 3 + tokens("Rules of this house. " * 100)

    assert cached("gpt-4.1", "one") == 0
    assert cached("gpt-4.1", "two") == prefix // 128 * 128 > 0
    assert cached("gpt-4.1-mini", "two") == 0


def test_images_and_tools_are_input(gpt: openai.OpenAI) -> None:
    """An image costs 1,445 tokens, tools the tokens of their JSON."""
    usage = gpt.chat.completions.create(
        model="gpt-4o",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                ],
            }
        ],
        tools=TOOLS,
    ).usage
    assert usage is not None

    assert usage.prompt_tokens == 3 + 4 + 1_445 + tokens(json.dumps(TOOLS, separators=(",", ":")))


def test_embeddings(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """Vectors are the same in both encodings, have unit length, and bill their input."""
    ours = gpt.embeddings.create(model="text-embedding-3-small", input=["one", "two", "one"])
    theirs = web.post(
        "/v1/embeddings",
        json={"model": "text-embedding-3-small", "input": "one", "encoding_format": "base64"},
        headers={"authorization": "Bearer k"},
    ).json()
    packed = base64.b64decode(theirs["data"][0]["embedding"])
    vectors = [row.embedding for row in ours.data]
    short = gpt.embeddings.create(model="text-embedding-3-large", input=[[1, 2, 3]], dimensions=8)

    assert len(vectors[0]) == 1_536
    assert vectors[0] == vectors[2] != vectors[1]
    assert struct.unpack("<1536f", packed) == pytest.approx(vectors[0])
    assert sum(x * x for x in vectors[0]) == pytest.approx(1.0, abs=1e-4)
    assert ours.usage.prompt_tokens == 3
    assert (len(short.data[0].embedding), short.usage.prompt_tokens) == (8, 3)


def test_stop_and_scripted_answers(gpt: openai.OpenAI) -> None:
    """A scripted answer is returned unchanged, a stop sequence ends it, a scripted length is exact."""
    said = gpt.chat.completions.create(
        model="gpt-4o",
        messages=ASK,
        extra_headers={"x-sim-answer": "one two three"},
        stop=[" three"],
    )
    long = gpt.chat.completions.create(
        model="gpt-4o!tokens:40", messages=ASK, extra_headers={"x-sim-output-tokens": "41"}
    )
    named = gpt.chat.completions.create(model="gpt-4o!tokens:40", messages=ASK)
    noted = gpt.chat.completions.create(model="gpt-4o", messages=ASK, metadata={"sim": "tokens:42"})

    assert said.choices[0].message.content == "one two"
    assert [a.usage and a.usage.completion_tokens for a in (long, named, noted)] == [41, 40, 42]


def test_models(gpt: openai.OpenAI) -> None:
    """The list has the priced models; an unknown path is OpenAI's 404."""
    names = [model.id for model in gpt.models.list()]

    assert "gpt-4o-mini" in names
    assert gpt.models.retrieve("o4-mini").id == "o4-mini"
    with pytest.raises(openai.NotFoundError):
        gpt.get("/nothing", cast_to=object)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": ""}, 400),
        ({"model": "gpt-4o!nonsense"}, 400),
        ({"messages": []}, 400),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400),
        ({"n": 1_000}, 400),
        ({"max_tokens": 0}, 400),
        ({"stream_options": {"include_usage": True}}, 400),
    ],
)
def test_bad_requests(web: httpx.Client, change: dict[str, object], status: int) -> None:
    """A request OpenAI would reject is rejected in its format, and bills nothing."""
    body = {"model": "gpt-4o", "messages": ASK, **change}
    url = "/v1/chat/completions"
    answer = web.post(url, json=body, headers={"authorization": "Bearer k"})

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert only_entry(web)["billed"] is False


def test_hostile_bodies(web: httpx.Client) -> None:
    """No key, broken JSON, deep JSON, invalid UTF-8 and a huge body are rejected without a crash."""
    url, key = "/v1/chat/completions", {"authorization": "Bearer k"}
    bodies = (b"{", b"[" * 200_000, b'{"model":"\xff"}', b"[]", b'"x"')

    assert web.post(url, content=b"{}").status_code == 401
    assert [web.post(url, content=b, headers=key).status_code for b in bodies] == [400] * 5
    assert web.post(url, content=b"x" * (33 * 1024 * 1024), headers=key).status_code == 413
