"""A collector of spans over real HTTP, in the format of OTLP."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.serving import free_port, serving


@dataclass(frozen=True, slots=True)
class Collected:
    name: str
    service: str
    trace_id: str
    id: str
    parent_id: str
    facts: dict[str, str | int]
    failed: bool


@dataclass(slots=True)
class Collector:
    url: str = ""
    spans: list[Collected] = field(default_factory=list)
    raw: bytes = b""

    def of(self, trace_id: str) -> list[Collected]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            body = await Request(scope, receive).body()
            self.raw += body
            self.spans.extend(_read(body))
            await Response(b"", media_type="application/x-protobuf")(scope, receive, send)


def _read(body: bytes) -> Iterator[Collected]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Collected(
                    name=span.name,
                    service=about["service.name"],
                    trace_id=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    facts={
                        one.key: one.value.string_value or one.value.int_value
                        for one in span.attributes
                    },
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )


@asynccontextmanager
async def a_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    async with serving(collector, free_port()) as url:
        collector.url = url
        yield collector
