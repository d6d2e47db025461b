"""A history in which everything happens once and nothing fails: the checker has to accept it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import uuid4

from pydantic import SecretStr
from pymongo import AsyncMongoClient

from app import create_app
from domain.ids import ViewerId
from edge.dev_tokens import DevelopmentIssuer
from settings import ProviderSettings, Settings
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.database import Database, open_database
from tests.clients import Data, GraphQLClient
from tests.resilience.evidence import History, Kill, Snapshot, Terms, read_stored
from tests.resilience.followers import UNFINISHED, caught_up
from tests.resilience.load import Load, Viewer, turn_of
from tests.resilience.mutation_sender import MutationSender
from tests.resilience.operators import Operator
from tests.resilience.processes import Documents, wait_until_answering
from tests.resilience.sites import viewer_id
from tests.resilience.state_recorder import StateRecorder
from tests.serving import free_port, serving
from tests.simulators.fal import KEY, FalSimulator, serving_fal
from tests.unlimited import UNLIMITED
from tests.waits import eventually

TERMS: Final = Terms(starting_credits=100, max_active_outputs=8)
SMALL: Final = {"width": 256, "height": 256, "previews": 1, "imagesPerModel": 1}
OF_FAL: Final = {"previews": 0, "imagesPerModel": 2}
OVER_SECONDS: Final = 30.0


async def make_valid_history(mongodb_uri: str, folder: Path) -> History:
    simulator = FalSimulator(seconds_per_job=0.1)
    async with serving_fal(simulator) as fal_url, _a_database(mongodb_uri) as (database, documents):
        port = free_port()
        settings = Settings(
            data_dir=folder,
            mongodb_uri=SecretStr(mongodb_uri),
            mongodb_database=database.commands.name,
            port=port,
            limit=UNLIMITED,
            fal=ProviderSettings(key=SecretStr(KEY), url=fal_url),
            starting_credits=TERMS.starting_credits,
            max_active_outputs=TERMS.max_active_outputs,
        )
        recorder, operator = StateRecorder(documents), Operator(database)
        async with serving(create_app(settings), port) as url, recorder.writing():
            token = DevelopmentIssuer(folder).token
            sender = MutationSender(route=lambda: url, token=token)
            load = Load(sender, route=lambda: url, token=token, randomness=Random(0))
            client = GraphQLClient(url, token("ana"))
            await wait_until_answering(client)
            await client.aclose()
            await _do_everything(load, sender)
            await operator.grant(ViewerId(viewer_id("ana")), 10)
            proof = await MongoAccountRepository(database).prove()
            await recorder.caught_up()
            stored = await read_stored(documents, folder)
            await caught_up(load.followers, stored.parents, within=OVER_SECONDS)
            await load.close()
            await sender.aclose()
    bill = simulator.settled()
    return History(
        load.subscribers,
        sender.asked,
        stored,
        state_log=recorder.state_log,
        bill=[{name: getattr(entry, name) for name in _TOLD} for entry in bill],
        snapshots=[Snapshot(0.0, proof, 1)],
        grants=operator.grants,
        kills=[Kill("worker-0", "worker", 0.0, True, stopped=True, ended_after=1.0, exit_code=0)],
        terms=TERMS,
    )


_TOLD: Final = ("request_id", "endpoint", "prompt", "received_at", "outcome", "billed")


async def _do_everything(load: Load, sender: MutationSender) -> None:
    ana = load.viewer("ana")
    await load.start(
        ana,
        userMessage="A red boat",
        selectedModels=["local-silver", "local-ink", "rehearsal-fails"],
        options=SMALL,
        idempotencyKey="one",
    )
    await load.misuse_a_key(ana)
    first = await _finished(sender, ana.conversations[0].latest_turn_id)
    again = await sender.once(
        "ana", "retryOutput", {"outputId": first["outputs"][2]["id"], "idempotencyKey": "again"}
    )
    await _finished(sender, turn_of(again))

    await load.start(
        ana, userMessage="A sold boat", selectedModels=["img-nano-banana"], options=OF_FAL
    )
    sold = ana.conversations[-1]
    await _finished(sender, sold.latest_turn_id)
    await load.edit(ana, sold, userMessage="Sepia", options=OF_FAL)
    await _finished(sender, sold.latest_turn_id)
    await load.start(
        ana,
        userMessage="A lost boat [fal lose-answer]",
        selectedModels=["img-nano-banana"],
        options=OF_FAL,
    )
    await _finished(sender, ana.conversations[-1].latest_turn_id)

    await load.start(
        ana, userMessage="A slow boat", selectedModels=["rehearsal-slow"], options=SMALL
    )
    slow = await sender.read("ana", ana.conversations[-1].latest_turn_id)
    assert slow is not None
    await load.cancel_output(ana, slow["outputs"][0])
    await _make_a_post(load, sender, ana)
    await load.start(ana, userMessage="No boat", selectedModels=["rehearsal-slow"], options=SMALL)
    await load.delete(ana, ana.conversations[-1])


async def _make_a_post(load: Load, sender: MutationSender, ana: Viewer) -> None:
    models = ["local-silver", "rehearsal-fails-once"]
    await load.post(ana, userMessage="A post about boats", selectedModels=models, options=SMALL)
    (post_id,) = ana.posts
    post = await _finished(sender, post_id)
    await sender.once("ana", "retryOutput", {"outputId": post["outputs"][1]["id"]})
    await _finished(sender, post_id)
    await sender.once("ana", "regenerateCaption", {"postId": post_id, "idempotencyKey": "rewrite"})
    await _finished(sender, post_id)


async def _finished(sender: MutationSender, parent_id: str) -> Data:
    found: list[Data] = []

    async def has_finished() -> bool:
        parent = await sender.read("ana", parent_id)
        found[:] = [parent] if parent else []
        return parent is not None and parent["status"] not in UNFINISHED

    await eventually(has_finished, within=OVER_SECONDS, what=f"{parent_id} is over")
    return found[0]


@asynccontextmanager
async def _a_database(uri: str) -> AsyncIterator[tuple[Database, Documents]]:
    name = f"test_{uuid4().hex}"
    client: AsyncMongoClient[dict[str, Any]]
    async with AsyncMongoClient(uri, tz_aware=True) as client:
        try:
            async with open_database(uri, name) as database:
                yield database, client[name]
        finally:
            await client.drop_database(name)
