"""Models and providers that an operator switches off: no new turn uses them, waiting outputs fail
over or wait.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pydantic import SecretStr

from storage.mongo.backlog import MongoBacklogRepository
from storage.mongo.database import Database, open_database
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from tests.api.every_model import Simulated
from tests.api.test_credits import STARTING, account
from tests.api.test_routes import MODEL, Routed
from tests.clients import Data, GraphQLClient
from tests.commands import run_command
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import codes, start, start_or_refuse, until_finished
from tests.test_worker import nowhere

KNOWN_SECONDS = 5.0
"""Within which every process knows it."""
MODELS = '{ models(search: "local") { id available unavailableReason listed } }'
TURN = "query($id: ID!) { turn(id: $id) { outputs { status } } }"
NO_WORKER = {"nats_url": SecretStr(nowhere())}


@asynccontextmanager
async def database_of(darkroom: Darkroom) -> AsyncIterator[Database]:
    assert darkroom.settings.mongodb_uri is not None
    uri = darkroom.settings.mongodb_uri.get_secret_value()
    async with open_database(uri, darkroom.settings.mongodb_database) as database:
        yield database


async def known(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(KNOWN_SECONDS):
        while not await holds():  # noqa: ASYNC110 - another process is looked at
            await asyncio.sleep(0.1)


async def reason_for(client: GraphQLClient, model: str) -> str | None:
    found = {one["id"]: one for one in (await client(MODELS))["models"]}
    reason: str | None = found[model]["unavailableReason"]
    assert found[model]["listed"]
    assert found[model]["available"] == (reason is None)
    return reason


async def statuses(client: GraphQLClient, turn: Data) -> list[str]:
    outputs = (await client(TURN, id=turn["id"]))["turn"]["outputs"]
    return [one["status"] for one in outputs]


async def test_a_model_that_is_switched_off_is_unavailable_in_all_processes_within_seconds(
    start_darkroom: StartDarkroom,
) -> None:
    first, second = await start_darkroom(), await start_darkroom()
    here, there = first.client("ana"), second.client("ana")

    off = await run_command(first.settings, "models", "off", "local-silver", "--reason", "Too grey")

    async def is_off() -> bool:
        reasons = [await reason_for(one, "local-silver") for one in (here, there)]
        return reasons == ["SWITCHED_OFF", "SWITCHED_OFF"]

    await known(is_off)
    refused = await start_or_refuse(there, selectedModels=["local-silver"])
    by_default = await start(here, selectedModels=None)
    listed = await run_command(first.settings, "models", "list")
    shown = await run_command(first.settings, "status")
    on = await run_command(first.settings, "models", "on", "local-silver")

    async def is_on() -> bool:
        return await reason_for(there, "local-silver") is None

    await known(is_on)
    await until_finished(there, (await start(there, selectedModels=["local-silver"]))["turn"])
    assert (off.code, listed.code, on.code) == (0, 0, 0)
    assert codes(refused) == [("MODEL_UNAVAILABLE", "selectedModels.0")]
    assert [one["model"]["id"] for one in by_default["turn"]["outputs"]] == ["local-ink"]
    assert "SWITCHED_OFF since " in listed.said
    assert "Too grey" in listed.said
    assert "Too grey" in shown.said
    assert "is switched on" in on.said


async def test_outputs_keep_waiting_while_their_provider_is_switched_off(
    start_darkroom: StartDarkroom,
) -> None:
    without_worker = await start_darkroom(**NO_WORKER)
    client = without_worker.client("ana")
    waiting = (await start(client, selectedModels=["local-silver"]))["turn"]
    async with database_of(without_worker) as database:
        switches = MongoModelAvailabilityRepository(database)
        await switches.switch_off("local-silver", reason="a test")

        working = await start_darkroom()
        other = await start(working.client("bob"), selectedModels=["local-ink"])
        await until_finished(working.client("bob"), other["turn"])
        assert await statuses(client, waiting) == ["QUEUED"]
        backlog = await MongoBacklogRepository(database).list_backlogs()
        assert [(one.model_id, one.count) for one in backlog] == [("local-silver", 1)]

        assert await switches.switch_on("local-silver")
        assert not await switches.switch_on("local-silver")
    assert (await until_finished(client, waiting))["status"] == "COMPLETED"
    assert await account(client) == (STARTING - 2, 0, 0)


async def test_waiting_outputs_fail_over_to_another_provider_of_their_model(
    start_darkroom: StartDarkroom, providers: Simulated
) -> None:
    simulators, settings = providers
    without_worker = await start_darkroom(**settings, **NO_WORKER)
    client = without_worker.client("ana")
    options = {"previews": 0}
    waiting = await start(client, selectedModels=[MODEL], options=options)
    async with database_of(without_worker) as database:
        await MongoModelAvailabilityRepository(database).switch_off("fal", reason="a test")

    working = await start_darkroom(**settings)
    before = await until_finished(client, waiting["turn"])
    after = await Routed(working, simulators).made({})

    assert before["outputs"][0]["provider"] == "gemini"
    assert after.output["provider"] == "gemini"
    assert after.billed == ["gemini"]


async def test_waiting_outputs_without_another_provider_end_by_their_deadline(
    start_darkroom: StartDarkroom, providers: Simulated
) -> None:
    """It was planned for fal, which makes PNGs; gemini does not."""
    _, settings = providers
    few = {name: settings[name] for name in ("fal", "gemini")}
    without_worker = await start_darkroom(**few, **NO_WORKER)
    client = without_worker.client("ana")
    options = {"previews": 0, "format": "PNG"}
    waiting = (await start(client, selectedModels=[MODEL], options=options))["turn"]
    async with database_of(without_worker) as database:
        await database.turns.update_one(
            {"_id": waiting["id"]}, {"$set": {"outputs.0.deadlineSeconds": 3}}
        )
        await MongoModelAvailabilityRepository(database).switch_off("fal", reason="a test")

    await start_darkroom(**few)
    ended = await until_finished(client, waiting)

    assert ended["outputs"][0]["error"]["code"] == "PROVIDER_UNAVAILABLE"
    assert ended["outputs"][0]["error"]["retryable"]
    assert await account(client) == (STARTING, 0, 0)


async def test_an_unknown_model_or_provider_name_is_refused_with_a_message(
    start_darkroom: StartDarkroom,
) -> None:
    settings = (await start_darkroom()).settings

    unknown = await run_command(settings, "models", "off", "img-canary", "--reason", "a test")
    on = await run_command(settings, "models", "on", "local")

    assert unknown.code == 1
    assert unknown.said == "img-canary is neither a model nor a provider of the catalogue.\n"
    assert (on.code, on.said) == (0, "local was neither switched off nor withdrawn.\n")
