"""An OTLP/HTTP endpoint that counts spans and stores nothing: `python sink.py PORT`."""

from __future__ import annotations

import gzip
import sys

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MAX_EXPORT_BYTES = 64 * 2**20


class Sink:
    """Counts what arrives."""

    def __init__(self) -> None:
        self.spans = 0

    async def traces(self, request: web.Request) -> web.Response:
        """Count the spans of one export."""
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            self.spans += sum(len(scope.spans) for scope in resource.scope_spans)
        return web.Response(content_type="application/x-protobuf")

    async def other(self, request: web.Request) -> web.Response:
        """Accept metrics, and report the number of spans."""
        if request.path == "/spans":
            return web.Response(text=str(self.spans))
        await request.read()
        return web.Response(content_type="application/x-protobuf")


def main(port: int) -> None:
    """Serve on loopback until stopped."""
    sink = Sink()
    app = web.Application(client_max_size=MAX_EXPORT_BYTES)
    app.router.add_post("/v1/traces", sink.traces)
    app.router.add_route("*", "/{path:.*}", sink.other)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
