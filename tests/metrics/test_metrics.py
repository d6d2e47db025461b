"""Metrics of an API process and a worker, counted over real requests and runs."""

import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from domain.errors import GenerationErrorCode
from domain.images import new_key, shard_of
from domain.models import ModelRegistry
from domain.outputs import GenerationError
from domain.signing import Signer
from metrics.outputs import ObservedClaims
from metrics.series import Metrics
from metrics.storage import DatabaseMetrics, ObservedReconciler
from storage.mongo.database import Database, open_database
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.objects.folder import FolderObjectStore
from tests.api.posts import CANCEL_POST, ended, generate
from tests.conftest import StartDarkroom
from tests.http import open_http
from tests.metrics.scrapes import Scrape, scrape, status_of, until_seen
from tests.operations import FOLLOW, SMALL, conversation_with, start
from tests.serving import free_port
from tests.storage.builders import a_conversation, a_model, another_turn, as_stored
from tests.test_operators import STUCK
from tests.test_worker import nowhere, work
from tests.uploads import complete_or_refuse, create, declared, send_file

VIEWER = "{ viewer { id } }"
CANCEL = (
    "mutation($id: ID!) { cancelTurn(input: {turnId: $id}) { turn { id } userErrors { code } } }"
)
WORDS = frozenset(
    {
        *("query", "mutation", "subscription", "unknown", "client", "other"),
        *("graphql", "objects", "uploads", "logos", "studio", "healthz", "readyz"),
        *("put", "get", "delete", "ok", "away", "failed", "DELIVERED", "CUT", "OK"),
        *("granted", "reserved", "captured", "released", "forfeited"),
        *("local captions", "rehearsal captions"),
        *("local", "rehearsal", "QUEUED", "GENERATING", "COMPLETED", "CANCELLED"),
        *("UNAUTHENTICATED", "GRAPHQL_PARSE_FAILED", "UPLOAD_TYPE_UNSUPPORTED"),
        *(code.value for code in GenerationErrorCode),
    }
)
OF_THE_PROGRAM = frozenset({"repository", "implementation", "version", "patchlevel"})


async def test_a_conversation_is_counted_from_its_request_to_its_last_frame(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    darkroom = await start_darkroom(metrics_port=port)
    client = darkroom.client()

    started = await start(
        client,
        selectedModels=["local-silver", "rehearsal-fails", "rehearsal-hangs"],
        options={**SMALL, "previews": 1},
    )
    conversation_id, turn = started["conversation"]["id"], started["turn"]
    async with client.subscribe(FOLLOW, id=conversation_id, after=started["cursor"]) as updates:
        await updates.until(
            lambda data: (
                [one["status"] for one in data["turnUpdated"]["turn"]["outputs"]]
                == ["COMPLETED", "FAILED", "GENERATING"]
            )
        )
        # The failure is delivered a moment before its run has ended.
        during = await until_seen(
            port, lambda now: now("darkroom_slots_taken", provider="rehearsal") < 2
        )
        await client(CANCEL, id=turn["id"])
        await updates.until(lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED")
    seen = await until_seen(port, lambda now: not now("darkroom_sockets"))

    assert during("darkroom_sockets") == 1
    assert during("darkroom_subscriptions") == 1
    assert during("darkroom_subscription_groups") == 1
    assert during("darkroom_followed_conversations") == 1
    assert during("darkroom_slots_taken", provider="rehearsal") == 1
    assert during("darkroom_slots", provider="rehearsal") > 1
    assert during("darkroom_operation_seconds_count", kind="mutation", code="OK") == 1
    assert during("darkroom_operation_seconds_count", kind="subscription", code="OK") == 1
    assert during("darkroom_http_responses_total", route="graphql", status="200") >= 1
    assert during("darkroom_commit_to_frame_seconds_count") >= 2
    assert during("darkroom_feed_lag_seconds_count") >= 2
    assert during("darkroom_output_queue_seconds_count") == 3
    assert during("darkroom_output_first_preview_seconds_count", provider="local") == 1
    assert during("darkroom_output_landing_seconds_count", provider="local") == 1
    ended = "darkroom_outputs_ended_total"
    assert during(ended, provider="local", outcome="COMPLETED") == 1
    assert during(ended, provider="rehearsal") == 1
    assert seen(ended, provider="rehearsal", outcome="CANCELLED") == 1
    runs = "darkroom_provider_run_seconds_count"
    assert seen(runs, provider="local", outcome="DELIVERED") == 1
    assert seen(runs, provider="rehearsal") == 2
    assert seen("darkroom_credits_total", movement="granted") == 10_000
    assert seen("darkroom_credits_total", movement="reserved") == 6
    assert seen("darkroom_credits_total", movement="captured") == 2
    assert seen("darkroom_credits_total", movement="released") == 4
    assert seen("darkroom_database_call_seconds_count", repository="Claim", outcome="ok") >= 5
    assert seen("darkroom_store_call_seconds_count", call="put", outcome="ok") >= 2
    assert seen("darkroom_subscriptions") == 0
    assert seen("darkroom_subscription_groups") == 0
    assert seen("darkroom_socket_closes_total", code="client") == 1
    assert seen("process_resident_memory_bytes") > 10_000_000
    # Prometheus sees no increase in a series that begins with its first event.
    assert seen.shown(runs, provider="local", outcome="PROVIDER_AUTHENTICATION") == [0]
    assert seen.shown("darkroom_operation_seconds_count", code="INTERNAL") == [0, 0, 0]
    assert seen.shown(ended, provider="local", outcome="OUTCOME_UNKNOWN") == [0]
    await until_seen(port, lambda now: now("darkroom_loop_lag_seconds_count") > 0)
    assert seen.has("darkroom_collector_pause_seconds_count")


async def test_captions_are_counted_as_runs_of_their_provider(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    client = (await start_darkroom(metrics_port=port)).client()

    for caption_model in ("local-writer", "rehearsal-caption-fails"):
        await ended(client, await generate(client, captionModel=caption_model))

    seen = await scrape(port)
    runs = "darkroom_provider_run_seconds_count"
    assert seen(runs, provider="local", outcome="DELIVERED") == 2  # and one image
    assert seen(runs, provider="rehearsal") == 1
    assert seen(runs, provider="rehearsal", outcome="DELIVERED") == 0
    outputs = "darkroom_outputs_ended_total"
    assert seen(outputs, provider="local", outcome="COMPLETED") == 2
    # The image that waited for the caption which failed.
    assert seen(outputs, provider="local", outcome="CANCELLED") == 1


async def test_outputs_cancelled_with_their_caption_are_counted(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    client = (await start_darkroom(metrics_port=port)).client()
    post = await generate(client, captionModel="rehearsal-caption-hangs")

    for _ in range(2):
        await client(CANCEL_POST, id=post["id"])

    seen = await scrape(port)
    outputs = "darkroom_outputs_ended_total"
    assert seen(outputs, provider="rehearsal", outcome="CANCELLED") == 1
    assert seen(outputs, provider="local", outcome="CANCELLED") == 1


async def test_labels_are_fixed_and_never_sent_by_clients(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    darkroom = await start_darkroom(metrics_port=port)
    client, nobody = darkroom.client("canary-viewer"), darkroom.anonymous()

    await conversation_with(client, userMessage="canary-prompt")
    await client.execute("{ canaryField }")
    await client.execute("{ canary ")
    await nobody.execute(VIEWER)
    await darkroom.with_token("canary-token").post({"query": VIEWER})
    await client.http.get("/canary-path/x?canary=1")
    await client.http.put("/graphql")
    seen = await scrape(port)

    assert "canary" not in seen.text.lower()
    for label, value in seen.labels():
        is_code = label == "code" and value.isupper()
        is_number = value.isdecimal() and len(value) <= 4
        assert value in WORDS or is_code or is_number or label in OF_THE_PROGRAM, (label, value)
    operations = "darkroom_operation_seconds_count"
    assert seen(operations, kind="query", code="GRAPHQL_VALIDATION_FAILED") == 1
    assert seen(operations, kind="unknown", code="GRAPHQL_PARSE_FAILED") == 1
    assert seen(operations, kind="query", code="UNAUTHENTICATED") == 1
    responses = "darkroom_http_responses_total"
    assert seen(responses, route="graphql", status="401") == 1
    assert seen(responses, route="graphql", status="405") == 1
    assert seen(responses, route="other", status="404") == 1


async def test_queued_outputs_are_counted_by_provider_without_a_worker(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    darkroom = await start_darkroom(metrics_port=port, nats_url=SecretStr(nowhere()))
    client = darkroom.client()
    before = await scrape(port)
    for name in ("darkroom_leases_taken_over_total", "darkroom_outputs_postponed_total"):
        assert before.has(name), "its first event would be no increase"
    database = open_database(
        darkroom.settings.mongodb_uri.get_secret_value(),  # type: ignore[union-attr]
        darkroom.settings.mongodb_database,
    )

    turn = (await start(client, selectedModels=["local-silver", "rehearsal-fails"]))["turn"]
    async with database as opened:
        for seconds in (40, 90):
            age = {"$subtract": ["$$NOW", seconds * 1000]}
            await opened.turns.update_one(
                {"_id": turn["id"]}, [{"$set": {"outputs.queuedAt": age}}]
            )
            aged = await until_seen(port, partial(_has_waited, seconds))
        await opened.turns.update_one({"_id": turn["id"]}, [STUCK])
        stuck = await until_seen(port, lambda now: now("darkroom_outputs_stuck") > 0)
        await opened.turns.update_one(
            {"_id": turn["id"]}, [{"$set": {"outputs.leaseUntil": "$$REMOVE"}}]
        )
        # Queued outputs are read before the counters.
        ended = await until_seen(
            port,
            lambda now: now("darkroom_outputs_overdue_total") > 1 and not now("darkroom_outputs"),
        )

    queued = "darkroom_outputs"
    assert before.has("darkroom_outputs_oldest_queued_seconds")
    assert before("darkroom_outputs_oldest_queued_seconds") == 0
    assert before(queued) == 0
    assert aged(queued, provider="local", status="QUEUED") == 1
    assert aged(queued, provider="rehearsal", status="QUEUED") == 1
    assert 90 <= aged("darkroom_outputs_oldest_queued_seconds", provider="local") < 120
    assert stuck("darkroom_outputs_stuck") == 2
    assert ended("darkroom_outputs_overdue_total") == 2
    assert ended("darkroom_outputs_ended_total", outcome="TIMED_OUT") == 2
    for name in ("darkroom_outputs_oldest_queued_seconds", "darkroom_outputs_stuck"):
        assert ended(name) == 0
    assert not stuck.has("darkroom_slots_taken")


async def test_takeovers_and_unknown_outcomes_are_counted(
    mongodb_uri: str, database: Database
) -> None:
    metrics, registry = Metrics(), ModelRegistry([a_model()])
    name = database.commands.name
    async with open_database(mongodb_uri, name, observer=DatabaseMetrics(metrics)) as observed:
        claims = ObservedClaims(observed, metrics, registry)
        _, turn = await a_conversation(observed)
        output_id = turn.outputs[0].id
        first = await claims.claim(
            await as_stored(database, output_id), lease=timedelta(milliseconds=1)
        )
        second = await claims.claim(
            await as_stored(database, output_id), lease=timedelta(minutes=1)
        )
        assert first
        assert second
        unknown = GenerationError(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True)
        assert not await claims.fail(first, unknown)
        assert await claims.fail(second, unknown)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("darkroom_leases_taken_over_total", provider="local") == 1
    assert value("darkroom_output_queue_seconds_count", provider="local") == 1
    ended = "darkroom_outputs_ended_total"
    assert value(ended, provider="local", outcome="OUTCOME_UNKNOWN") == 1
    assert value("darkroom_credits_total", movement="reserved") == 2
    assert value("darkroom_credits_total", movement="released") == 2


async def test_an_aborted_transaction_moves_no_credits(
    mongodb_uri: str, database: Database
) -> None:
    metrics = Metrics()
    name = database.commands.name
    async with open_database(mongodb_uri, name, observer=DatabaseMetrics(metrics)) as observed:
        conversation, _ = await a_conversation(observed)
        await another_turn(observed, conversation, max_active_outputs=1)

    reserved = metrics.registry.get_sample_value("darkroom_credits_total", {"movement": "reserved"})
    assert reserved == 2


async def test_refused_uploads_are_counted(start_darkroom: StartDarkroom) -> None:
    port = free_port()
    client = (await start_darkroom(metrics_port=port)).client()
    data = b"<html>canary</html>"

    (upload,) = await create(client, declared(data))
    await send_file(upload, data)
    await complete_or_refuse(client, upload["id"])

    seen = await scrape(port)
    assert seen("darkroom_uploads_refused_total", code="UPLOAD_TYPE_UNSUPPORTED") == 1


async def test_deleted_orphans_are_counted_with_their_size(
    database: Database, tmp_path: Path
) -> None:
    metrics = Metrics()
    store = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"-"))
    key = new_key("images", "image/png")
    await store.put(key, b"12345")
    reconciler = ObservedReconciler(store, MongoReferencedObjectRepository(database), metrics)

    await reconciler.delete((await reconciler.compare(shard_of(key))).orphans)

    value = metrics.registry.get_sample_value
    assert value("darkroom_orphaned_objects_deleted_total") == 1
    assert value("darkroom_orphaned_bytes_deleted_total") == 5
    assert value("darkroom_missing_objects_total") == 0
    await store.aclose()


async def test_a_worker_serves_metrics_on_its_own_address(
    tmp_path: Path, mongodb_uri: str, database_name: str
) -> None:
    port = free_port()
    async with work(
        tmp_path,
        DARKROOM_NATS_URL=nowhere(),
        DARKROOM_MONGODB_URI=mongodb_uri,
        DARKROOM_MONGODB_DATABASE=database_name,
        DARKROOM_METRICS_PORT=str(port),
    ) as worker:
        await worker.until("working")

        assert await status_of(port, "/healthz") == 200
        assert await status_of(port, "/readyz") == 200
        assert await status_of(port, "/graphql") == 404
        seen = await scrape(port)
        assert seen("darkroom_slots", provider="local") == 2
        assert seen.has("darkroom_outputs_oldest_queued_seconds")
        async with work(
            tmp_path,
            DARKROOM_NATS_URL=nowhere(),
            DARKROOM_MONGODB_URI=mongodb_uri,
            DARKROOM_METRICS_PORT=str(port),
        ) as second:
            assert await second.end() == 2
        assert await worker.end(signal.SIGTERM) == 0

    assert second.said == (
        f"Port {port} of 127.0.0.1 is in use: set DARKROOM_METRICS_PORT to another one.\n"
    )
    assert "Traceback" not in worker.said


async def test_without_a_port_no_metrics_are_served(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom()
    assert darkroom.settings.metrics_port is None

    async with open_http() as http:
        assert (await http.get(f"{darkroom.url}/metrics")).status_code == 404


def _has_waited(seconds: int, seen: Scrape) -> bool:
    return seen("darkroom_outputs_oldest_queued_seconds", provider="local") >= seconds
