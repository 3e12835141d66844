"""Files and batches: what is uploaded, and batches that answer each line of a file.

The lines are answered by the same endpoints as other requests, on a bill of their own; a batch is one
entry on the provider's bill, at its price for batches. `metadata.sim` of a batch scripts it: `stall`
leaves it in progress, `expire` answers half of its lines, `break` refuses it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message

from spanledger.sim.bill import Usage, key_digest
from spanledger.sim.call import Sim
from spanledger.sim.openai_wire import OpenAIWire
from spanledger.sim.prompt import Recent, RefusalError, string
from spanledger.sim.responses_store import JsonBody

FILE_BYTES_MAX = 256 * 1024 * 1024
KEPT_MAX = 10_000
LINES_MAX = 50_000
PAGE_MAX = 10_000
DAY_S = 86_400
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_NOT_DOWNLOADED = ("assistants", "user_data", "vision")
_FORM_FIELDS = frozenset({"purpose", "file", "expires_after[anchor]", "expires_after[seconds]"})
_ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
)
_WIRE = OpenAIWire()


@dataclass(slots=True)
class Kept:
    """A file or a batch of one key."""

    owner: str
    body: JsonBody
    data: bytes = b""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Files:
    """The files and batches of one simulator.

    Attributes:
        answering: the endpoints that answer the lines of batches, and their own bill.
    """

    sim: Sim
    answering: tuple[ASGIApp, Sim]
    kept: Recent[Kept] = field(default_factory=lambda: Recent(KEPT_MAX))
    made: int = 0
    line: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while one line is answered: the bill of lines has one at a time."""

    def routes(self) -> list[BaseRoute]:
        """Where they are served."""
        file, batch = "/v1/files/{id}", "/v1/batches/{id}"
        return [
            Route("/v1/files", self._served(self._upload), methods=["POST"]),
            Route("/v1/files", self._served(self._list("file")), methods=["GET"]),
            Route(file, self._served(self._one("file")), methods=["GET"]),
            Route(file, self._served(self._delete), methods=["DELETE"]),
            Route(f"{file}/content", self._served(self._content), methods=["GET"]),
            Route("/v1/batches", self._served(self._create), methods=["POST"]),
            Route("/v1/batches", self._served(self._list("batch")), methods=["GET"]),
            Route(batch, self._served(self._one("batch")), methods=["GET"]),
            Route(f"{batch}/cancel", self._served(self._cancel), methods=["POST"]),
        ]

    def _served(
        self, serve: Callable[[Request, str], Awaitable[JsonBody | bytes]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            unique = self._unique("req_")
            try:
                key = _WIRE.key(dict(request.headers))
                found = await serve(request, key)
            except RefusalError as refusal:
                error, headers = _WIRE.refusal(refusal, unique)
                shown = {name.decode(): value.decode() for name, value in headers}
                return Response(error, refusal.status, shown, "application/json")
            headers_of = {name.decode(): value.decode() for name, value in _WIRE.headers(unique)}
            if isinstance(found, bytes):
                return Response(found, 200, headers_of, "application/octet-stream")
            return Response(msgspec.json.encode(found), 200, headers_of, "application/json")

        return endpoint

    # files --------------------------------------------------------------------------------

    async def _upload(self, request: Request, key: str) -> JsonBody:
        data = b""
        async for chunk in request.stream():
            data += chunk
            if len(data) > FILE_BYTES_MAX:
                raise RefusalError(413, "The file is too large.", code=None)
        form = _form(request.headers.get("content-type", ""), data)
        if unknown := form.keys() - _FORM_FIELDS:
            raise RefusalError(
                400, f"Unrecognized request argument supplied: {min(unknown)}", code=None
            )
        purpose = form.get("purpose", ("", b""))[1].decode("utf-8", "replace")
        if purpose not in PURPOSES:
            raise RefusalError(
                400, f"'{purpose}' is not one of {PURPOSES} - 'purpose'", param="purpose"
            )
        if "file" not in form:
            raise RefusalError(400, "'file' is a required property", param="file")
        name, content = form["file"]
        if purpose == "batch" and not name.endswith(".jsonl"):
            raise RefusalError(
                400, "Invalid file format for Batch API. Must be .jsonl", param="file", code=None
            )
        return self._keep_file(key, content, name, purpose)

    def _keep_file(self, key: str, content: bytes, name: str, purpose: str) -> JsonBody:
        body: JsonBody = {
            "object": "file",
            "id": self._unique("file-"),
            "purpose": purpose,
            "filename": name,
            "bytes": len(content),
            "created_at": int(time.time()),
            "expires_at": None,
            "status": "processed",
            "status_details": None,
        }
        self._put(Kept(key_digest(key), body, content))
        self.sim.files.put(string(body["id"]).encode(), key_digest(key))
        return body

    async def _delete(self, request: Request, key: str) -> JsonBody:
        found = self._find(request.path_params["id"], key, "file")
        unique = string(found.body["id"]).encode()
        self.kept.items.pop(unique, None)
        self.sim.files.items.pop(unique, None)
        return {"object": "file", "id": found.body["id"], "deleted": True}

    async def _content(self, request: Request, key: str) -> bytes:
        found = self._find(request.path_params["id"], key, "file")
        purpose = string(found.body["purpose"])
        if purpose in _NOT_DOWNLOADED:
            raise RefusalError(
                400, f"Not allowed to download files of purpose: {purpose}", code=None
            )
        return found.data

    # batches ------------------------------------------------------------------------------

    async def _create(self, request: Request, key: str) -> JsonBody:
        try:
            asked = msgspec.json.decode(await request.body(), type=JsonBody)
        except msgspec.DecodeError:
            raise RefusalError(400, "We could not parse the JSON body of your request.") from None
        known = {"input_file_id", "endpoint", "completion_window", "metadata"}
        if unknown := asked.keys() - known - {"output_expires_after"}:
            raise RefusalError(400, f"Unknown parameter: '{min(unknown)}'.", param=min(unknown))
        file = self._find(string(asked.get("input_file_id")), key, "file")
        if file.body["purpose"] != "batch":
            raise RefusalError(400, "Invalid file purpose.", param="input_file_id", code=None)
        if asked.get("endpoint") not in _ENDPOINTS:
            raise RefusalError(400, "Invalid value: 'endpoint'.", param="endpoint")
        if asked.get("completion_window") != "24h":
            raise RefusalError(
                400, "Invalid value: 'completion_window'.", param="completion_window"
            )
        now_s = int(time.time())
        batch: JsonBody = {
            "id": self._unique("batch_"),
            "object": "batch",
            "endpoint": asked["endpoint"],
            "errors": None,
            "input_file_id": file.body["id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now_s,
            "expires_at": now_s + DAY_S,
            "completed_at": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": asked.get("metadata"),
        }
        kept = Kept(key_digest(key), batch)
        self._put(kept)
        shown = dict(batch)
        kept.task = asyncio.create_task(self._work(kept, file.data, key, _script(asked)))
        return shown

    async def _cancel(self, request: Request, key: str) -> JsonBody:
        found = self._find(request.path_params["id"], key, "batch")
        status = found.body["status"]
        if status not in ("validating", "in_progress"):
            raise RefusalError(409, f"Cannot cancel a batch with status '{status}'.", code=None)
        if found.task is not None:
            found.task.cancel()
        found.body = {**found.body, "status": "cancelled", "cancelled_at": int(time.time())}
        return found.body

    async def _work(self, kept: Kept, data: bytes, key: str, script: str) -> None:
        lines = [line for line in data.split(b"\n") if line.strip()]
        errors = ["scripted"] if script == "break" else _errors(lines, kept.body["endpoint"])
        if errors:
            listed = [{"code": "invalid_request", "message": e, "line": None} for e in errors]
            found = {"object": "list", "data": listed}
            kept.body = {**kept.body, "status": "failed", "errors": found}
            return
        kept.body = {**kept.body, "status": "in_progress"}
        if script == "stall":
            return
        answered = lines[: len(lines) // 2] if script == "expire" else lines
        good: list[bytes] = []
        bad: list[bytes] = []
        usage, model = Usage(), ""
        for line in answered:
            asked = msgspec.json.decode(line)
            model = string(asked["body"].get("model"))
            status, body, used = await self._answered(asked["url"], asked["body"], key)
            usage = _plus(usage, used)
            response = {"status_code": status, "request_id": self._unique("req_"), "body": body}
            row = {
                "id": self._unique("batch_req_"),
                "custom_id": asked["custom_id"],
                "response": response,
                "error": None,
            }
            (good if status == 200 else bad).append(msgspec.json.encode(row))
        self._end(kept, key, script, len(lines), (good, bad), model, usage)

    def _end(
        self,
        kept: Kept,
        key: str,
        script: str,
        total: int,
        written: tuple[list[bytes], list[bytes]],
        model: str,
        usage: Usage,
    ) -> None:
        ids: JsonBody = {}
        for name, rows in zip(("output", "error"), written, strict=True):
            if rows:
                content = b"\n".join(rows) + b"\n"
                file = self._keep_file(key, content, f"{name}.jsonl", "batch_output")
                ids[f"{name}_file_id"] = file["id"]
        good, bad = written
        self.sim.bill.add(
            id=string(kept.body["id"]),
            request_id="",
            wire="openai",
            operation="batch",
            model=model,
            key=key_digest(key),
            outcome="answered",
            usage=usage,
            service="batch",
        )
        kept.body = {
            **kept.body,
            **ids,
            "status": "expired" if script == "expire" else "completed",
            "completed_at": int(time.time()),
            "model": model,
            "request_counts": {"total": total, "completed": len(good), "failed": len(bad)},
            "usage": {
                "input_tokens": usage.input_tokens,
                "input_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
                "total_tokens": usage.input_tokens + usage.output_tokens,
            },
        }

    async def _answered(self, url: str, body: JsonBody, key: str) -> tuple[int, JsonBody, Usage]:
        """One line's status, answer and usage, from the endpoint itself."""
        app, sim = self.answering
        data = msgspec.json.encode(body)
        got: list[Message] = []
        waiting = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await asyncio.sleep(3_600)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            got.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": url,
            "raw_path": url.encode(),
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {key}".encode())],
            "state": {},
        }
        async with self.line:
            sim.bill.reset()
            await app(scope, receive, send)
            billed = [entry.usage for entry in sim.bill.entries if entry.billed]
        whole = b"".join(message.get("body", b"") for message in got)
        return got[0]["status"], msgspec.json.decode(whole), billed[0] if billed else Usage()

    # both ---------------------------------------------------------------------------------

    def _one(self, kind: str) -> Callable[[Request, str], Awaitable[JsonBody]]:
        async def serve(request: Request, key: str) -> JsonBody:
            return self._find(request.path_params["id"], key, kind).body

        return serve

    def _list(self, kind: str) -> Callable[[Request, str], Awaitable[JsonBody]]:
        async def serve(request: Request, key: str) -> JsonBody:
            owner = key_digest(key)
            found = [k.body for k in self.kept.items.values() if k.owner == owner]
            rows = [body for body in found if body["object"] == kind][::-1][:PAGE_MAX]
            del request
            return {"object": "list", "data": rows, "has_more": False}

        return serve

    def _put(self, kept: Kept) -> None:
        self.kept.put(string(kept.body["id"]).encode(), kept)

    def _find(self, unique: str, key: str, kind: str) -> Kept:
        found = self.kept.get(unique.encode("utf-8", "surrogatepass"))
        if found is None or found.owner != key_digest(key) or found.body["object"] != kind:
            raise RefusalError(
                404, f"No such {kind.capitalize()} object: {unique}", param="id", code=None
            )
        return found

    def _unique(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}{self.sim.seed:04x}{self.made:020x}"


def _plus(first: Usage, second: Usage) -> Usage:
    names = (f.name for f in fields(Usage))
    return Usage(**{name: getattr(first, name) + getattr(second, name) for name in names})


def _script(asked: JsonBody) -> str:
    metadata = asked.get("metadata")
    return string(metadata.get("sim")) if isinstance(metadata, dict) else ""


def _errors(lines: list[bytes], endpoint: object) -> list[str]:
    """What the real API finds when it validates a file."""
    if not 1 <= len(lines) <= LINES_MAX:
        return [f"The batch must have 1 to {LINES_MAX} lines."]
    found: list[str] = []
    names: set[str] = set()
    models: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            asked = msgspec.json.decode(line, type=JsonBody)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [f"Line {number} is not parseable as JSON."]
        custom, body = string(asked.get("custom_id")), asked.get("body")
        if not custom or custom in names:
            found.append(f"Line {number}: the custom_id is missing or duplicate.")
        if asked.get("method") != "POST" or asked.get("url") != endpoint:
            found.append(f"Line {number}: the url does not match the endpoint of the batch.")
        if not isinstance(body, dict):
            return [f"Line {number} has no body."]
        names.add(custom)
        models.add(string(body.get("model")))
        if body.get("stream"):
            found.append(f"Line {number}: streaming is not supported in the Batch API.")
    if len(models) > 1:
        found.append("The model in each request must be the same within a batch.")
    return found


def _form(content_type: str, data: bytes) -> dict[str, tuple[str, bytes]]:
    """The parts of a form: file name and value by name. Raises RefusalError."""
    kind, _, boundary = content_type.partition("boundary=")
    if not kind.startswith("multipart/form-data") or not boundary:
        raise RefusalError(
            400, "The request must be multipart/form-data with a boundary.", code=None
        )
    mark = b"--" + boundary.strip('"').encode()
    found = {}
    for part in data.split(mark)[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        words = head.decode("utf-8", "replace").split(";")
        named = dict(word.strip().split("\r\n")[0].partition("=")[::2] for word in words[1:])
        name, file = named.get("name", "").strip('"'), named.get("filename", "").strip('"')
        found[name] = (file, value.removesuffix(b"\r\n"))
    return found
