"""Requests over HTTP to every deployment whose wire is one of ours.

Which wire is spoken follows from the caller's and the deployment's (`wires.outbound`); the wire
writes the request and reads the answer, and here it is sent. Of the caller's headers, only those are
forwarded that its wire names (`Inbound.passes`), and only where the deployment speaks that wire. The
trace context is sent only to a deployment that the configuration says is to have it.

A server that refuses the name of a cap (`caps`), or `stream_options`, is called again without, and
remembered. One that refuses what only this request is at fault for is asked once more with what the
wire makes of it (`Written.eased`). An answer in the form that was not asked for is put into the one
that was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace as at

from msgspec.structs import replace

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.addresses import target_of, with_headers
from spanledger.providers.base import Call, Passage, PassedAnswer
from spanledger.providers.bodies import content_type_of
from spanledger.providers.caps import CapName, Caps, renamed
from spanledger.providers.endpoints import Endpoint
from spanledger.providers.event_stream import EventStream
from spanledger.providers.forward import ForwardingTransport
from spanledger.providers.misconfigured import Misconfigured
from spanledger.providers.proxies import WayOut
from spanledger.providers.request_ids import provider_request_id
from spanledger.providers.transport import REPEATABLE, Body, Limits, ProviderReply
from spanledger.wires import outbound
from spanledger.wires.base import (
    Answer,
    Frame,
    Habits,
    Outbound,
    ReadsUsual,
    Seen,
    StreamsApart,
    Written,
)
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import invalid, malformed, refusal
from spanledger.wires.side import TokenCounter

MAX_TARGETS = 4_096
"""Addresses that are kept ready."""
MAX_REMEMBERED_REFUSALS = 4096
"""Deployments that are known to refuse `stream_options`."""


class HttpProvider:
    """One adapter for all deployments that speak a wire of ours."""

    def __init__(
        self,
        limits: Limits | None = None,
        clock: Clock | None = None,
        way_out: WayOut | None = None,
    ) -> None:
        self._transport = ForwardingTransport(limits or Limits(), way_out)
        self._clock = clock or Clock()
        self._caps = Caps()
        self._misconfigured = Misconfigured()
        self._targets: dict[
            tuple[str, str | None, str | None, str, bool, bool], tuple[Endpoint, Outbound]
        ] = {}
        self._refuses_options: set[str] = set()

    async def complete(self, call: Call) -> Answer:
        """Ask for a complete answer."""
        target, wire = self._target(call)
        written, reply = await self._exchanged(call, target, wire)
        return self._read(call, target, wire, written, reply)

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of events."""
        target, wire = self._target(call, stream=True)
        written, source = await self._opened(call, target, wire)
        if isinstance(source, ProviderReply):
            yield wire.frame(call, self._read(call, target, wire, written, source))
            return
        reader = wire.reader(written, self._seen(call, source.headers, wire))
        read = reader.read
        if call.pass_on is not None and isinstance(reader, ReadsUsual):
            source.pass_on_usual(reader.usual, call.pass_on)
        try:
            while not reader.ended:
                try:
                    batch = await source.batch()
                except ProviderError as error:
                    if reader.survives(error):
                        break
                    raise
                if batch is None:
                    batch = reader.rest(source.tail)
                    if batch is None:
                        raise source.interrupted("the stream closed")
                    source.tail = b""
                for payload in batch:
                    frame = read(payload)
                    if frame is not None:
                        if frame.content:
                            source.producing = True
                        yield frame
                    if reader.ended:
                        break
            last = reader.last()
            if last is not None:
                yield last
        finally:
            source.close(clean=reader.ended)

    async def count(self, call: Call, counter: TokenCounter) -> bytes:
        """Have the provider count a request's input."""
        target, _ = self._target(call, counter.sent_to)
        ends_at = self._clock.monotonic() + call.timeout_s
        reply = await self._transport.exchange(call, target, counter.request(call), twice=True)
        if (fields := counter.eased(call, reply.status, reply.body)) is not None:
            call = self._again(replace(call, fields=fields), ends_at)
            reply = await self._transport.exchange(call, target, counter.request(call))
        if not 200 <= reply.status < 300:
            raise refusal(call.deployment, reply.status, read_failure(reply.body))
        if not counter.is_count(reply.body):
            raise malformed(call.deployment, "its answer is not a count of tokens")
        return reply.body

    async def kept(self, call: Call, method: str, path: str, query: str) -> bytes:
        """Read or change an answer that the provider keeps; `path` goes behind the wire's own."""
        target, _ = self._target(call)
        url = target.url.with_path(target.url.raw_path + path, encoded=True, keep_query=True)
        url = url.update_query(query) if query else url
        target = at(target, url=url, method=method)
        twice = method in REPEATABLE
        reply = await self._transport.exchange(call, target, b"", twice=twice)
        if not 200 <= reply.status < 300:
            raise refusal(call.deployment, reply.status, read_failure(reply.body))
        return reply.body

    async def forward(self, call: Call, passage: Passage) -> PassedAnswer:
        """Send on a request as it is."""
        return await self._transport.forward(call, passage)

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    async def _exchanged(
        self, call: Call, target: Endpoint, wire: Outbound
    ) -> tuple[Written, ProviderReply]:
        """The complete answer; asked for once more where the name of the cap was refused."""
        ends_at = self._clock.monotonic() + call.timeout_s
        if not wire.spelled:
            written = wire.request(call, False, Habits())
            reply = await self._transport.exchange(call, *_sent(call, target, written))
            if (eased := self._eased(call, written, reply, ends_at)) is not None:
                written = wire.request(eased, False, Habits())
                reply = await self._transport.exchange(eased, *_sent(eased, target, written))
            return written, reply
        call = self._caps.applied(call)
        name = self._caps.name(call.deployment)
        written = wire.request(call, False, Habits(name))
        reply = await self._transport.exchange(call, target, written.body)
        other = self._caps.other(call, reply.status, reply.body)
        if other is not None:
            call = self._again(renamed(call, other), ends_at)
            written = wire.request(call, False, Habits(other))
            reply = await self._transport.exchange(call, target, written.body)
            if 200 <= reply.status < 300:
                self._caps.remember(call.deployment, other)
        return written, reply

    async def _opened(
        self, call: Call, target: Endpoint, wire: Outbound
    ) -> tuple[Written, EventStream | ProviderReply]:
        """The stream; asked for again where the name of the cap was refused, and where
        `stream_options` were: each once at most."""
        ends_at = self._clock.monotonic() + call.timeout_s
        if not wire.spelled:
            written = wire.request(call, True, Habits())
            source = await self._transport.events(call, *_sent(call, target, written))
            if isinstance(source, ProviderReply) and (
                (eased := self._eased(call, written, source, ends_at)) is not None
            ):
                written = wire.request(eased, True, Habits())
                source = await self._transport.events(eased, *_sent(eased, target, written))
            return written, source
        call = self._caps.applied(call)
        name, other = self._caps.name(call.deployment), None
        ask_usage = takes_options = call.deployment.id not in self._refuses_options
        while True:
            written = wire.request(call, True, Habits(name, ask_usage))
            source = await self._transport.events(call, target, written.body)
            if isinstance(source, EventStream):
                break
            found: CapName | None = None
            if other is None:
                found = self._caps.other(call, source.status, source.body)
            if found is not None:
                name = other = found
                call = self._again(renamed(call, found), ends_at)
            elif ask_usage and written.options_ours and _refuses_options(source):
                ask_usage = False
                call = self._again(call, ends_at)
            else:
                break
        # Only what was seen to help is remembered: a refusal may quote a caller's own words.
        if isinstance(source, EventStream) or 200 <= source.status < 300:
            if other is not None:
                self._caps.remember(call.deployment, other)
            if (
                takes_options
                and not ask_usage
                and len(self._refuses_options) < MAX_REMEMBERED_REFUSALS
            ):
                self._refuses_options.add(call.deployment.id)
        return written, source

    def _eased(
        self, call: Call, written: Written, reply: ProviderReply, ends_at: float
    ) -> Call | None:
        """The call with what the wire makes of a refusal; None where the answer stands."""
        fields = written.eased and written.eased(call, reply.status, reply.body)
        return self._again(replace(call, fields=fields), ends_at) if fields else None

    def _again(self, call: Call, ends_at: float) -> Call:
        """The call in what is left of its time."""
        return replace(call, timeout_s=max(0.0, ends_at - self._clock.monotonic()))

    def _seen(self, call: Call, headers: Mapping[str, str], wire: Outbound) -> Seen:
        created = self._clock.now_ns() // 1_000_000_000
        unique = provider_request_id(headers, wire.id_header)
        return Seen(unique, created, call.request_id, content_type_of(headers))

    def _target(
        self, call: Call, path: str = "", *, stream: bool = False
    ) -> tuple[Endpoint, Outbound]:
        """Where a call goes, and the wire it is spoken in; `path` replaces the wire's own."""
        deployment = call.deployment
        base, secret = deployment.api_base, deployment.api_key
        apart = deployment.tools_apart != "" and deployment.is_apart(call.fields)
        key = (deployment.id, base, secret, path or call.wire.name, apart, stream)
        found = self._targets.get(key)
        if found is None:
            wire = outbound(call.wire, deployment.speaks_for(call.fields))
            if wire is None:
                whose = deployment.provider[:1].upper() + deployment.provider[1:]
                what = f"{whose} has no {call.wire.name}; choose another model"
                raise invalid(what, param="model")
            if len(self._targets) >= MAX_TARGETS:  # a wildcard's address may have the model in it
                self._targets.clear()
            if stream and isinstance(wire, StreamsApart):
                path = wire.stream_path
            found = self._targets[key] = target_of(deployment, wire, path), wire
        target, wire = found
        if call.headers and wire.passes:
            target = with_headers(target, call.headers)
        if call.trace_headers:
            target = with_headers(target, call.trace_headers)
        return target, wire

    def _read(
        self, call: Call, target: Endpoint, wire: Outbound, written: Written, reply: ProviderReply
    ) -> Answer:
        """The answer in a reply, or its refusal."""
        if not 200 <= reply.status < 300:
            raise self._refused(call, target, reply)
        return wire.answer(written, reply.body, self._seen(call, reply.headers, wire))

    def _refused(self, call: Call, target: Endpoint, reply: ProviderReply) -> ProviderError:
        """The error in a reply. A caller that raises it must not keep it in a variable, because its
        traceback would hold the request in memory."""
        error = refusal(
            call.deployment,
            reply.status,
            read_failure(reply.body),
            headers=reply.headers,
            now_s=self._clock.now_ns() / 1e9,
        )
        now = self._clock.monotonic()
        self._misconfigured.refused(call.deployment.id, target.url, error, now)
        return error


def _sent(call: Call, target: Endpoint, written: Written) -> tuple[Endpoint, Body]:
    """Where a request goes and its body, which may be a form."""
    pieces, upload = written.pieces, call.upload
    if pieces is None or upload is None:
        return target, written.body
    kind = {"content-type": pieces.content_type}
    if (body := upload.whole(pieces)) is not None:
        return with_headers(target, kind), body
    size = {"content-length": str(pieces.size)}
    return with_headers(target, kind | size), upload.chunks(pieces)


def _refuses_options(reply: ProviderReply) -> bool:
    """Whether a server refuses a request for its `stream_options`."""
    return reply.status in (400, 415, 422, 501) and b"stream_options" in reply.body
