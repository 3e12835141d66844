"""The OpenAI client's `responses` cannot tell the simulator from the real provider."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseInputParam
from pydantic import BaseModel

from spanledger.sim.server import running_sim
from spanledger.sim.tokens import tokens
from tests.service.sim.books import bill, only_entry

ASK = "How are you today?"
TOOLS: list[FunctionToolParam] = [
    {
        "type": "function",
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Berlin", "Rome"]}},
            "required": ["city"],
        },
    }
]
WEATHER = "use get_weather"


def test_plain_answer(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """Usage counts four bytes per token and three tokens per item, and is what is billed."""
    raw = gpt.responses.with_raw_response.create(model="gpt-4o-mini", input=ASK)
    answer = raw.parse()
    assert answer.usage is not None
    entry = only_entry(web)

    assert answer.id.startswith("resp_")
    assert (answer.status, answer.model) == ("completed", "gpt-4o-mini")
    assert answer.usage.input_tokens == 3 + tokens(ASK)
    assert answer.usage.output_tokens == tokens(answer.output_text)
    assert (entry["id"], entry["request_id"]) == (answer.id, raw.headers["x-request-id"])
    assert entry["usage"]["output_tokens"] == answer.usage.output_tokens


def test_stream_events(gpt: openai.OpenAI) -> None:
    """A stream announces each item and part, ends them, and ends with the whole answer."""
    events = list(gpt.responses.create(model="gpt-4o-mini", input=ASK, stream=True))
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert last.type == "response.completed"

    assert list(dict.fromkeys(kinds)) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(deltas) == last.response.output_text
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == len(deltas)


def test_cap_ends_incomplete(gpt: openai.OpenAI) -> None:
    """An answer cut by its cap is incomplete, and says why, whole and streamed."""
    whole = gpt.responses.create(model="gpt-4o-mini", input=ASK, max_output_tokens=16)
    events = list(
        gpt.responses.create(model="gpt-4o-mini", input=ASK, max_output_tokens=16, stream=True)
    )
    last = events[-1]
    assert last.type == "response.incomplete"

    for answer in (whole, last.response):
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"
        assert answer.usage is not None
        assert answer.usage.output_tokens == 16


def test_reasoning(gpt: openai.OpenAI) -> None:
    """Reasoning is an item before the text, with a summary if asked, and counted in the output."""
    with gpt.responses.stream(
        model="gpt-5-mini", input=ASK, reasoning={"effort": "high", "summary": "auto"}
    ) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    thought = answer.output[0]
    assert thought.type == "reasoning"
    assert answer.usage is not None
    hidden = answer.usage.output_tokens_details.reasoning_tokens
    spoken = [e.delta for e in events if e.type == "response.reasoning_summary_text.delta"]

    assert hidden > 0
    assert "".join(spoken) == thought.summary[0].text
    assert answer.usage.output_tokens == hidden + tokens(answer.output_text)


def test_tool_and_its_result(gpt: openai.OpenAI) -> None:
    """A tool's arguments stream piece by piece; its output is answered with text."""
    with gpt.responses.stream(model="gpt-5.6-terra", input=WEATHER, tools=TOOLS) as stream:
        answer = stream.get_final_response()
    call = answer.output[-1]
    assert call.type == "function_call"
    history: ResponseInputParam = [
        {"role": "user", "content": WEATHER},
        *[item.to_dict() for item in answer.output],  # type: ignore[list-item] # as its docs do
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    after = gpt.responses.create(model="gpt-5.6-terra", input=history, tools=TOOLS)

    assert json.loads(call.arguments)["city"] in ("Berlin", "Rome")
    assert after.output_text


def test_structured_output(gpt: openai.OpenAI) -> None:
    """A schema's answer parses into the client's own class."""

    class City(BaseModel):
        name: str
        people: int

    answer = gpt.responses.parse(model="gpt-4o-mini", input=ASK, text_format=City)

    assert isinstance(answer.output_parsed, City)


def test_kept_answers(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """An answer is kept for its key: read again, followed up with all its tokens, and deleted."""
    first = gpt.responses.create(model="gpt-4o-mini", input=ASK)
    follow = gpt.responses.create(
        model="gpt-4o-mini", input="And tomorrow?", previous_response_id=first.id
    )
    items = gpt.responses.input_items.list(first.id).data
    other = gpt.with_options(api_key="sk-other")
    with pytest.raises(openai.NotFoundError):
        other.responses.retrieve(first.id)
    read = gpt.responses.retrieve(first.id)
    gpt.responses.delete(first.id)

    assert read.output_text == first.output_text
    assert len(items) == 1
    assert follow.usage is not None
    asked = 3 + tokens(ASK) + 3 + tokens(first.output_text) + 3 + tokens("And tomorrow?")
    assert follow.usage.input_tokens == asked
    assert len(bill(web)["entries"]) == 2
    with pytest.raises(openai.NotFoundError, match="not found"):
        gpt.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.responses.create(model="gpt-4o-mini", input=ASK, previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"


def test_not_stored(gpt: openai.OpenAI) -> None:
    """With `store: false` nothing is kept, and reasoning must come back sealed, to its owner."""
    answer = gpt.responses.create(
        model="gpt-5-mini", input=ASK, store=False, include=["reasoning.encrypted_content"]
    )
    history: Any = [
        {"role": "user", "content": ASK},
        *[item.to_dict() for item in answer.output],
        {"role": "user", "content": "And tomorrow?"},
    ]
    gpt.responses.create(model="gpt-5-mini", input=history, store=False)
    with pytest.raises(openai.NotFoundError):
        gpt.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.with_options(api_key="sk-other").responses.create(model="gpt-5-mini", input=history)
    assert caught.value.code == "invalid_encrypted_content"
    del history[1]["encrypted_content"]
    with pytest.raises(openai.NotFoundError, match="not persisted"):
        gpt.responses.create(model="gpt-5-mini", input=history)


async def test_background() -> None:
    """A background answer is queued, then there, and billed once; one in progress is cancelled."""
    async with (
        running_sim(speed=1000) as sim,
        openai.AsyncOpenAI(base_url=sim.openai_url, api_key="k", max_retries=0) as client,
    ):
        queued = await client.responses.create(model="gpt-4o-mini", input=ASK, background=True)
        answer: Response = queued
        while answer.status in ("queued", "in_progress"):
            answer = await client.responses.retrieve(queued.id)
        slow = await client.responses.create(
            model="gpt-4o-mini!slow:10000", input=ASK, background=True
        )
        gone = await client.responses.cancel(slow.id)
        whole = await client.responses.create(model="gpt-4o-mini", input=ASK)
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            await client.responses.cancel(whole.id)
        outcomes = [entry.outcome for entry in sim.state.bill.entries]

    assert (queued.status, answer.status, gone.status) == ("queued", "completed", "cancelled")
    assert answer.output_text
    assert sorted(outcomes) == ["answered", "answered", "cancelled"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": []}, "unsupported_parameter", "messages"),
        ({"max_tokens": 5}, "unsupported_parameter", "max_tokens"),
        ({"seed": 5}, "unknown_parameter", "seed"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"input": None}, "missing_required_parameter", "input"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "missing_required_parameter",
            "tools[0].name",
        ),
        ({"reasoning": {"effort": "low"}}, "unsupported_parameter", "reasoning.effort"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "invalid_value",
            "input[0].content[0]",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            None,
            "input",
        ),
        (
            {"stream": True, "stream_options": {"include_usage": True}},
            "unknown_parameter",
            "stream_options.include_usage",
        ),
        ({"text": {"format": {"type": "json_schema"}}}, "missing_required_parameter", None),
        ({"background": True, "store": False}, None, "background"),
        (
            {"previous_response_id": "resp_1", "conversation": "conv_1"},
            "mutually_exclusive_parameters",
            None,
        ),
    ],
)
def test_refusals(
    gpt: openai.OpenAI, body: dict[str, Any], code: str | None, param: str | None
) -> None:
    """What the API refuses is refused, with its code and the field at fault."""
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.post("/responses", body={"model": "gpt-4o-mini", "input": ASK, **body}, cast_to=object)
    assert caught.value.code == code
    assert param is None or caught.value.param == param


@pytest.mark.parametrize(
    ("fault", "outcome"), [("cut:3", "cut"), ("malformed:3", "malformed"), ("failed:3", "failed")]
)
def test_broken_streams(gpt: openai.OpenAI, web: httpx.Client, fault: str, outcome: str) -> None:
    """A stream breaks as scripted; what was streamed is billed."""
    try:
        events = list(gpt.responses.create(model=f"gpt-4o-mini!{fault}", input=ASK, stream=True))
        assert events[-1].type == "response.failed"
    except (httpx.RemoteProtocolError, openai.APIError, json.JSONDecodeError):
        assert outcome != "failed"
    entry = only_entry(web)

    assert (entry["outcome"], entry["usage"]["output_tokens"]) == (outcome, 3)


def test_chat_refuses_what_needs_responses(gpt: openai.OpenAI) -> None:
    """Chat takes no tools with reasoning on new models, and no model that only Responses serves."""
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
    asked: Any = {"messages": [{"role": "user", "content": ASK}], "tools": [tool]}
    gpt.chat.completions.create(model="gpt-5.4", **asked)
    gpt.chat.completions.create(model="gpt-5.6", reasoning_effort="none", **asked)
    gpt.chat.completions.create(model="gpt-5.2", reasoning_effort="high", **asked)

    cases: list[tuple[str, Any]] = [("gpt-5.4", {"reasoning_effort": "low"}), ("gpt-5.5", {})]
    for model, more in cases:
        with pytest.raises(openai.BadRequestError, match="use /v1/responses") as caught:
            gpt.chat.completions.create(model=model, **asked, **more)
        assert (caught.value.param, caught.value.code) == ("reasoning_effort", None)
    for model in ("gpt-5-codex", "gpt-5.1-codex-mini", "gpt-5.4-pro", "o3-pro"):
        with pytest.raises(openai.NotFoundError, match="only supported in v1/responses"):
            gpt.chat.completions.create(model=model, messages=asked["messages"])
