"""An OTLP/HTTP endpoint that counts spans and stores nothing: `python sink.py PORT`."""

from __future__ import annotations

import gzip
import sys

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KIND = "application/x-protobuf"


class Sink:
    """Counts what arrives."""

    def __init__(self) -> None:
        self.spans = 0

    async def traces(self, request: Request) -> Response:
        """Count the spans of one export."""
        body = await request.body()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            self.spans += sum(len(scope.spans) for scope in resource.scope_spans)
        return Response(media_type=KIND)

    async def metrics(self, request: Request) -> Response:
        """Accept metrics."""
        await request.body()
        return Response(media_type=KIND)

    async def count(self, _request: Request) -> Response:
        """The number of spans."""
        return Response(str(self.spans))


def main(port: int) -> None:
    """Serve on loopback until stopped."""
    sink = Sink()
    routes = [
        Route("/v1/traces", sink.traces, methods=["POST"]),
        Route("/v1/metrics", sink.metrics, methods=["POST"]),
        Route("/spans", sink.count),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_config=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
