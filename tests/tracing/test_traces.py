"""Traces, as a real collector receives them from an API process and a worker."""

from pathlib import Path
from typing import Final

import pytest

from app import create_app
from settings import Settings, SettingsError
from tests.api.test_webhooks import a_webhook
from tests.clients import GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import START, until_finished
from tests.receivers import a_receiver
from tests.resilience.processes import wait_until_answering
from tests.resilience.sites import Arrangement, open_site
from tests.tracing.collector import Collected, Collector, a_collector
from tests.waits import eventually

TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
CANARY: Final = "canary at dawn"
SENDING: Final = {"DARKROOM_TRACES": "true", "OTEL_BSP_SCHEDULE_DELAY": "100"}


async def test_one_trace_covers_the_request_the_delivery_in_a_worker_and_the_webhook(
    tmp_path: Path,
) -> None:
    async with a_collector() as collector, a_receiver() as receiver:
        settings = {**SENDING, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        arrangement = Arrangement(apis=1, workers=1, fal=True, settings=settings)
        async with open_site(tmp_path, arrangement) as site:
            client = site.client(site.apis[0])
            await wait_until_answering(client)
            await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")
            await _start(client, {"traceparent": PARENT, "x-request-id": "mine"})
            (sent,) = await receiver.until_received(1)
            await _until_collected(collector, "webhook")
            log = site.workers[0].text_of_log()

    spans = {span.name: span for span in collector.of(TRACE_ID)}
    assert spans["request"].parent_id == "00f067aa0ba902b7"
    assert spans["request"].facts["http.response.status_code"] == 200
    assert spans["operation"].facts["graphql.operation.type"] == "mutation"
    for inner, outer in (
        ("operation", "request"),
        ("job", "operation"),
        ("attempt", "job"),
        ("landing", "job"),
        ("store put", "job"),
        ("database Claim", "landing"),
    ):
        assert _is_inside(collector, inner, spans[outer]), (inner, outer)
    assert spans["provider call"].facts["server.address"] == "127.0.0.1"
    assert spans["job"].facts["darkroom.outcome"] == "COMPLETED"
    assert {span.facts["darkroom.request.id"] for span in spans.values()} == {"mine"}
    assert not any(span.failed for span in spans.values())
    assert sent.headers["x-request-id"] == "mine"
    assert sent.headers["traceparent"] == f"00-{TRACE_ID}-{spans['webhook'].id}-01"
    assert f"request_id=mine trace_id={TRACE_ID}" in log.replace("\x1b", "")
    assert CANARY.encode() not in collector.raw


async def test_without_a_collector_everything_else_works(
    start_darkroom: StartDarkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")

    client = (await start_darkroom(traces=True)).client()

    response = await client.post({"query": "{ viewer { id } }"})
    assert response.json()["data"]
    assert response.headers["traceparent"].startswith("00-")


def test_an_unknown_exporter_is_reported_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "smoke")

    with pytest.raises(SettingsError, match="There is no exporter smoke of traces"):
        create_app(Settings(traces=True))


async def _start(client: GraphQLClient, names: dict[str, str]) -> None:
    given = {"userMessage": CANARY, "selectedModels": ["img-nano-banana"]}
    body = {"query": START, "variables": {"input": given}}
    answer = (await client.post(body, **names)).json()
    assert answer["data"]["startConversation"]["userErrors"] == []
    await until_finished(client, answer["data"]["startConversation"]["turn"])


async def _until_collected(collector: Collector, name: str) -> None:
    async def is_collected() -> bool:
        return any(span.name == name for span in collector.of(TRACE_ID))

    await eventually(is_collected, what=f"a span {name} is sent")


def _is_inside(collector: Collector, inner: str, outer: Collected) -> bool:
    by_id = {span.id: span for span in collector.spans}
    for span in collector.of(outer.trace_id):
        parent = by_id.get(span.parent_id)
        while span.name == inner and parent is not None:
            if parent is outer:
                return True
            parent = by_id.get(parent.parent_id)
    return False
