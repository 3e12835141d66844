"""The simulated provider as an app: two wires, a control plane, and helpers to run it.

    POST /v1/chat/completions  /v1/embeddings      OpenAI's wire
    POST /v1/responses and what is done with kept answers: `responses.py`
    POST, GET /v1/files  /v1/batches  and one of them: `files.py`
    POST /v1/completions  /v1/moderations          the same
    POST /v1/rerank                                Cohere's and Jina's
    POST /v1/images/generations  …/edits  …/variations                        the same
    POST /v1/audio/speech  /v1/audio/transcriptions  /v1/audio/translations   the same
    POST /v1/messages  /v1/messages/count_tokens   Anthropic's wire
    POST /v1beta/models/{model}:{verb}             Google's wire: generateContent,
                                                   streamGenerateContent?alt=sse, countTokens
    POST /v1beta/openai/chat/completions           OpenAI's wire at Google's address
    GET  /v1/models  /v1/models/{id}               either, by the `anthropic-version` header
    GET, DELETE        /sim/bill                   what was charged; `?entries=1` lists each call
    GET, POST, DELETE  /sim/faults                 active faults (grammar: scenarios.py)
    GET, PUT           /sim/prices                 pico-USD per token
    GET  /healthz

It imports nothing from spanledger but `money`, and shares no code with what it is used to test.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import asdict

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from spanledger.sim.anthropic_wire import AnthropicWire
from spanledger.sim.audio_wire import SpeechWire, TranscriptWire
from spanledger.sim.bill import LIST_PRICES, UNIT_PRICES, Bill, Price, read_prices
from spanledger.sim.call import Call, Sim
from spanledger.sim.channel import Channel, ClientGoneError
from spanledger.sim.completions_wire import CompletionsWire
from spanledger.sim.endpoints import OtherCall
from spanledger.sim.files import Files
from spanledger.sim.google_wire import GoogleWire
from spanledger.sim.host import RunningSim, SimServer, listen
from spanledger.sim.images_wire import EditsWire, ImagesWire
from spanledger.sim.openai_wire import OpenAIWire
from spanledger.sim.prompt import RefusalError
from spanledger.sim.responses import Responses
from spanledger.sim.wire import Wire

CONTROL_BYTES_MAX = 1024 * 1024
START_MAX_S = 10.0
MODELS_CREATED_S = 1_715_367_049
OPENAI = OpenAIWire()
ANTHROPIC = AnthropicWire()
BESIDE_CHAT: dict[str, tuple[Wire, Callable[[OtherCall], Awaitable[None]]]] = {
    "/v1/completions": (CompletionsWire(), OtherCall.completions),
    "/v1/moderations": (OPENAI, OtherCall.moderations),
    "/v1/rerank": (OPENAI, OtherCall.rerank),
    "/v1/images/generations": (ImagesWire(), OtherCall.images),
    "/v1/images/edits": (EditsWire(), OtherCall.image_edits),
    "/v1/images/variations": (EditsWire(prompted=False), OtherCall.image_edits),
    "/v1/audio/speech": (SpeechWire(), OtherCall.speech),
    "/v1/audio/transcriptions": (TranscriptWire(), OtherCall.transcripts),
    "/v1/audio/translations": (TranscriptWire(), OtherCall.transcripts),
}
"""Endpoints that are not a dialogue."""


def create_sim(
    seed: int = 1, speed: float = 1.0, prices: Mapping[str, Price] | None = None
) -> Starlette:
    """Build the app; `app.state.sim` is its `Sim`.

    Args:
        seed: answers and their timing depend only on it and the request's content.
        speed: how many times faster than real; 0 never waits.
        prices: added to the built-in list prices.
    """
    if speed < 0:
        raise ValueError("speed must be 0 or more")
    listed = {**LIST_PRICES, **UNIT_PRICES, **(prices or {})}
    sim, in_batches = Sim(seed, speed, Bill(prices=listed)), Sim(seed, 0, Bill(prices=listed))
    in_batches.files = sim.files
    control = _Control(sim)
    app = Starlette(
        routes=[
            *_answering(sim),
            *Files(sim, (Starlette(routes=_answering(in_batches)), in_batches)).routes(),
            Route("/v1/messages", _Endpoint(sim, ANTHROPIC, Call.chat), methods=["POST"]),
            Route("/v1/messages/count_tokens", control.count_tokens, methods=["POST"]),
            Route("/v1beta/models/{asked:path}", _Google(sim), methods=["POST"]),
            Route("/v1/models", control.models),
            Route("/v1/models/{model:path}", control.models),
            Route("/sim/bill", control.bill, methods=["GET", "DELETE"]),
            Route("/sim/faults", control.faults, methods=["GET", "POST", "DELETE"]),
            Route("/sim/prices", control.prices, methods=["GET", "PUT"]),
            Route("/healthz", control.health),
        ],
        exception_handlers={404: _not_found, 405: _not_found},
    )
    app.state.sim = sim
    return app


def _answering(sim: Sim) -> list[BaseRoute]:
    """What answers requests on OpenAI's wire, and those near it."""
    return [
        *(
            Route(f"{base}/chat/completions", _Endpoint(sim, OPENAI, Call.chat), methods=["POST"])
            for base in ("/v1", "/v1beta/openai")
        ),
        Route("/v1/embeddings", _Endpoint(sim, OPENAI, Call.embeddings), methods=["POST"]),
        *Responses(sim).routes(),
        *(
            Route(path, _Other(sim, *served), methods=["POST"])
            for path, served in BESIDE_CHAT.items()
        ),
    ]


@contextlib.asynccontextmanager
async def running_sim(
    seed: int = 1,
    speed: float = 0.0,
    prices: Mapping[str, Price] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncGenerator[RunningSim]:
    """Serve a simulator from the running event loop."""
    app = create_sim(seed, speed, prices)
    sock, url = listen(host, port)
    server = SimServer(app)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        async with asyncio.timeout(START_MAX_S):
            while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event
                await asyncio.sleep(0.005)
        yield RunningSim(url, app.state.sim)
    finally:
        server.should_exit = True
        await task
        sock.close()


@contextlib.contextmanager
def sim_in_thread(
    seed: int = 1,
    speed: float = 0.0,
    prices: Mapping[str, Price] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Generator[RunningSim]:
    """Serve a simulator from its own thread, for callers without an event loop."""
    ready: list[RunningSim] = []
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_sim(seed, speed, prices, host=host, port=port) as sim:
            ready.append(sim)
            started.set()
            while not stop.is_set():  # noqa: ASYNC110 - the event belongs to another thread
                await asyncio.sleep(0.02)

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            started.set()

    thread = threading.Thread(target=run, name="sim", daemon=True)
    thread.start()
    started.wait(START_MAX_S)
    if not ready:
        raise RuntimeError("the simulator did not start")
    try:
        yield ready[0]
    finally:
        stop.set()
        thread.join(START_MAX_S)


class _Endpoint:
    """An ASGI endpoint that serves one call on one wire."""

    def __init__(self, sim: Sim, wire: Wire, serve: Callable[[Call], Awaitable[None]]) -> None:
        self.sim = sim
        self.wire = wire
        self.serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(Call(self.sim, self.wire, Channel(scope, receive, send)))


class _Other(_Endpoint):
    """The same for what is not a dialogue."""

    def __init__(self, sim: Sim, wire: Wire, serve: Callable[[OtherCall], Awaitable[None]]) -> None:
        self.sim = sim
        self.wire = wire
        self.other = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.other(OtherCall(self.sim, self.wire, Channel(scope, receive, send)))


class _Google:
    """An ASGI endpoint for one model and verb of Google's."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model, _, verb = scope["path_params"]["asked"].rpartition(":")
        request = Request(scope, receive, send)
        wire = GoogleWire(model, stream=verb == "streamGenerateContent")
        if verb == "countTokens":
            await (await _count_contents(request, wire))(scope, receive, send)
        elif verb == "generateContent" or (
            wire.stream and request.query_params.get("alt") == "sse"
        ):
            await Call(self.sim, wire, Channel(scope, receive, send)).chat()
        else:
            unknown = _refused(wire, RefusalError(404, f"Method {verb!r} is not simulated."))
            await unknown(scope, receive, send)


async def _count_contents(request: Request, wire: GoogleWire) -> Response:
    """Google's token counting; free of charge."""
    try:
        wire.key(dict(request.headers))
        data = await _read(request)
        body = data if isinstance(data, dict) else {}
        inner = body.get("generateContentRequest")
        if isinstance(inner, dict):
            body = {name: value for name, value in inner.items() if name != "model"}
        return _json({"totalTokens": wire.read(body).input_tokens})
    except RefusalError as refusal:
        return _refused(wire, refusal)
    except ValueError as error:
        return _refused(wire, RefusalError(400, str(error)))


class _Control:
    """Endpoints other than calls: the simulator's own, token counting, and the lists of models."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim

    async def health(self, _request: Request) -> Response:
        """Report liveness."""
        return _json({"status": "ok", "seed": self.sim.seed, "speed": self.sim.speed})

    async def bill(self, request: Request) -> Response:
        """Show the bill, or start a new one."""
        if request.method == "DELETE":
            self.sim.bill.reset()
            return Response(status_code=204)
        entries = request.query_params.get("entries", "") not in ("", "0")
        return _json(self.sim.bill.view(entries=entries))

    async def faults(self, request: Request) -> Response:
        """Show the active faults, switch one on, or switch one or all off."""
        if request.method == "DELETE":
            which = request.query_params.get("id")
            if which is not None and not which.isdecimal():
                return _json({"error": "`id` must be the number of a fault"}, 400)
            removed = self.sim.board.clear(None if which is None else int(which))
            return _json({"removed": removed})
        if request.method == "GET":
            return _json({"faults": self.sim.board.view()})
        try:
            rule = self.sim.board.add(await _read(request))
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        return _json(rule.view(self.sim.board.monotonic()), 201)

    async def prices(self, request: Request) -> Response:
        """Show the prices, or set some."""
        if request.method == "PUT":
            try:
                self.sim.bill.prices.update(read_prices(await _read(request)))
            except ValueError as error:
                return _json({"error": str(error)}, 400)
        return _json({name: asdict(price) for name, price in self.sim.bill.prices.items()})

    async def models(self, request: Request) -> Response:
        """The models that have a price, in either provider's format."""
        names = sorted(self.sim.bill.prices)
        wanted = request.path_params.get("model")
        anthropic = "anthropic-version" in request.headers
        rows: list[dict[str, object]]
        if anthropic:
            rows = [
                {
                    "type": "model",
                    "id": name,
                    "display_name": name,
                    "created_at": "2025-10-01T00:00:00Z",
                }
                for name in names
                if name.startswith("claude")
            ]
        else:
            rows = [
                {"id": name, "object": "model", "created": MODELS_CREATED_S, "owned_by": "sim"}
                for name in names
            ]
        if wanted is not None:
            found = [row for row in rows if row["id"] == wanted]
            return _json(found[0]) if found else await _not_found(request, None)
        if anthropic:
            ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {}
            return _json({"data": rows, "has_more": False, **ends})
        return _json({"object": "list", "data": rows})

    async def count_tokens(self, request: Request) -> Response:
        """Anthropic's token counting; free of charge."""
        try:
            ANTHROPIC.key(dict(request.headers))
            data = await _read(request)
            body = data if isinstance(data, dict) else {}
            prompt = ANTHROPIC.read_prompt(body, cap_required=False)
        except RefusalError as refusal:
            return _refused(ANTHROPIC, refusal)
        except ValueError as error:
            return _refused(ANTHROPIC, RefusalError(400, str(error)))
        return _json({"input_tokens": prompt.input_tokens})


async def _read(request: Request) -> object:
    """The JSON of a control request. Raises ValueError."""
    try:
        channel = Channel(request.scope, request.receive, request._send)
        return msgspec.json.decode(await channel.read(CONTROL_BYTES_MAX))
    except (RefusalError, ClientGoneError, RecursionError) as error:
        raise ValueError(str(error) or "the client disconnected") from None


async def _not_found(request: Request, _error: Exception | None) -> Response:
    """An unknown path or method, in the error format of the intended provider."""
    wire: Wire = ANTHROPIC if "anthropic-version" in request.headers else OPENAI
    message = f"Invalid URL ({request.method} {request.url.path})"
    return _refused(wire, RefusalError(404, message, code="unknown_url"))


def _refused(wire: Wire, refusal: RefusalError) -> Response:
    body, headers = wire.refusal(refusal, "req_unknown_path")
    shown = {name.decode(): value.decode() for name, value in headers}
    return Response(body, refusal.status, shown, "application/json")


def _json(data: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(data), status, media_type="application/json")
