"""The Responses API's calls: new answers, also in the background, and what is done with kept ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from spanledger.sim.bill import Usage
from spanledger.sim.call import Call, Sim
from spanledger.sim.channel import Channel
from spanledger.sim.prompt import Prompt, RefusalError, string
from spanledger.sim.responses_rules import check_count
from spanledger.sim.responses_store import JsonBody, Store, Stored
from spanledger.sim.responses_wire import CompactWire, ResponsesWire
from spanledger.sim.writer import Answer

PAGE_ITEMS_MAX = 100


@dataclass(slots=True)
class Responses:
    """The API of one simulator: its answers, and those being written."""

    sim: Sim
    store: Store = field(default_factory=Store)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def routes(self) -> list[BaseRoute]:
        """Where it is served."""
        one = "/v1/responses/{id}"
        return [
            Route("/v1/responses", _Create(self), methods=["POST"]),
            Route("/v1/responses/compact", _Compact(self), methods=["POST"]),
            Route("/v1/responses/input_tokens", self._count, methods=["POST"]),
            Route(one, self._of_kept(self._retrieve), methods=["GET"]),
            Route(one, self._of_kept(self._delete), methods=["DELETE"]),
            Route(f"{one}/cancel", self._of_kept(self._cancel), methods=["POST"]),
            Route(f"{one}/input_items", self._of_kept(self._input_items), methods=["GET"]),
        ]

    async def _count(self, request: Request) -> Response:
        """The size of a request's input; free of charge."""
        wire = ResponsesWire(self.store)
        try:
            wire.key(dict(request.headers))
            body = msgspec.json.decode(await request.body(), type=JsonBody)
            check_count(body)
            counted = {
                "object": "response.input_tokens",
                "input_tokens": wire.read(body).input_tokens,
            }
            return Response(msgspec.json.encode(counted), media_type="application/json")
        except RefusalError as refusal:
            return _refused(wire, refusal)

    def _of_kept(
        self, serve: Callable[[Request, Stored], JsonBody]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            wire = ResponsesWire(self.store)
            response_id = request.path_params["id"]
            try:
                wire.key(dict(request.headers))
                found = self.store.get(response_id, wire.owner)
                if found is None:
                    message = f"Response with id '{response_id}' not found."
                    raise RefusalError(404, message, code=None)
                body = msgspec.json.encode(serve(request, found))
                return Response(body, media_type="application/json")
            except RefusalError as refusal:
                return _refused(wire, refusal)

        return endpoint

    def _retrieve(self, request: Request, found: Stored) -> JsonBody:
        if request.query_params.get("stream") == "true":
            raise RefusalError(400, "This response cannot be streamed.", param="stream", code=None)
        return found.response

    def _delete(self, request: Request, found: Stored) -> JsonBody:
        del found
        response_id = request.path_params["id"]
        self.store.delete(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    def _cancel(self, request: Request, found: Stored) -> JsonBody:
        if found.response["background"] is not True:
            raise RefusalError(400, "Cannot cancel a synchronous response.", code=None)
        task = self.running.pop(request.path_params["id"], None)
        if task is not None:
            task.cancel()
            found.response = {**found.response, "status": "cancelled"}
        return found.response

    def _input_items(self, request: Request, found: Stored) -> JsonBody:
        asked = request.query_params
        size = asked.get("limit", "20")
        if not size.isdecimal() or not 1 <= int(size) <= PAGE_ITEMS_MAX:
            raise RefusalError(400, f"'limit' is from 1 to {PAGE_ITEMS_MAX}.", param="limit")
        items = [
            {"id": f"msg_{number:04d}{string(found.response['id'])[5:]}", **item}
            for number, item in enumerate(found.given)
        ]
        if asked.get("order", "desc") == "desc":
            items.reverse()
        ids = [item["id"] for item in items]
        if (after := asked.get("after")) in ids:
            items = items[ids.index(after) + 1 :]
        page = items[: int(size)]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > len(page),
        }


def _refused(wire: ResponsesWire, refusal: RefusalError) -> Response:
    error, headers = wire.refusal(refusal, "req_kept")
    shown = {name.decode(): value.decode() for name, value in headers}
    return Response(error, refusal.status, shown, "application/json")


class _Create:
    """An ASGI endpoint: each call has a wire of its own."""

    def __init__(self, responses: Responses) -> None:
        self.responses = responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = ResponsesWire(self.responses.store)
        channel = Channel(scope, receive, send)
        await _Creation(self.responses, wire, channel).responses()


class _Compact(_Create):
    """The same for what compacts a conversation."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = CompactWire(self.responses.store)
        call = Call(self.responses.sim, wire, Channel(scope, receive, send))
        call.operation = "compact"
        await call.chat()


class _Creation(Call):
    """One call of `POST /v1/responses`."""

    def __init__(self, responses: Responses, wire: ResponsesWire, channel: Channel) -> None:
        super().__init__(responses.sim, wire, channel)
        self.kept = responses
        self.writes = wire

    async def responses(self) -> None:
        """Serve a response."""
        await self._run(self._chat)

    async def _serve(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        fault = self.script.fault
        if fault is not None and fault.name == "failed" and not prompt.stream:
            self._book("failed", None, answer.id)
            body = msgspec.json.encode(self.writes.failed(prompt, answer))
            await self.channel.respond(200, body, self.wire.headers(self.request_id))
        elif self.writes.body.get("background") is True and not prompt.stream:
            await self._background(prompt, answer, usage)
        else:
            await super()._serve(prompt, answer, usage)

    async def _fail(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        self._book("failed", usage if usage.output_tokens else None, answer.id)
        await self.channel.write(self.writes.failing(prompt, answer).data, last=True)

    async def _background(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        queued = self.writes.response(prompt, answer, "queued", [])
        self.writes.keep(queued)
        self.booked = True  # by the task, when the answer is there
        task = asyncio.create_task(self._work(prompt, answer, usage))
        self.kept.running[answer.id] = task
        headers = self.wire.headers(self.request_id)
        await self.channel.respond(200, msgspec.json.encode(queued), headers)

    async def _work(self, prompt: Prompt, answer: Answer, usage: Usage) -> None:
        try:
            if self.sim.speed:
                slow = 1.0 if self.script.slow is None else self.script.slow
                await asyncio.sleep(answer.pace.due_s(answer.tokens) * slow / self.sim.speed)
        except asyncio.CancelledError:
            self.booked = False
            self._book("cancelled", self._input_only(usage), answer.id)
            return
        self.kept.running.pop(answer.id, None)
        self.writes.finished(prompt, answer, usage)
        self.booked = False
        self._book("answered", usage, answer.id)
