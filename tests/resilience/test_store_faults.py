"""An object store that fails: every record refers to existing bytes, and nothing is paid twice."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from app import create_app
from edge.dev_tokens import DevelopmentIssuer
from settings import ProviderSettings, Settings
from tests.api.test_outputs import retry
from tests.clients import Data, GraphQLClient
from tests.operations import send, start, until_finished
from tests.resilience.checks.credits import against_credits
from tests.resilience.checks.images import against_bytes, against_images
from tests.resilience.evidence import History, read_stored
from tests.resilience.processes import Documents, wait_until_answering
from tests.resilience.scale import THOROUGH, WHY_NOT
from tests.serving import free_port, serving
from tests.simulators.fal import KEY, FalSimulator, serving_fal
from tests.unlimited import UNLIMITED
from tests.waits import eventually

AWAY_SECONDS = 3.0
LONG_AWAY_SECONDS = 75.0
"""Longer than a picture that has been paid for is held."""
DELIVERED_SECONDS = 20.0
DISK_BYTES = 16 * 2**20
_RESULT = re.compile(r"/fal-ai/flux-2-max/requests/[^/]+")
CREDITS = "{ viewer { credits { balance reserved } } }"


@dataclass(frozen=True, slots=True)
class StoreSetup:
    """A Darkroom, the folder that its pictures go to, and the vendor that it buys them from."""

    client: GraphQLClient
    folder: Path
    """The object store's: a link to `volume`, as to a disk."""
    volume: Path
    vendor: FalSimulator
    documents: Documents

    async def order(self) -> Data:
        """One picture of the vendor's. It is delivered after a moment."""
        payload = await start(
            self.client,
            userMessage=f"A boat, {uuid4().hex} [fal seconds=1]",
            selectedModels=["img-flux-2-max"],
            options={"previews": 0},
        )
        turn: Data = payload["turn"]
        return turn

    async def delivered(self) -> None:
        """Wait until the vendor has reported its result: from here on it has to be stored."""
        until = len(self.vendor.jobs)

        async def is_reported() -> bool:
            results = [one for one in self.vendor.seen if _RESULT.fullmatch(one.path)]
            return sum(one.method == "GET" for one in results) >= until

        await eventually(is_reported, within=DELIVERED_SECONDS, what="the vendor has delivered")

    async def assert_sound(self) -> None:
        stored = await read_stored(self.documents, self.folder.parent)
        found = [*against_images(stored), *against_bytes(stored)]
        assert [*found, *against_credits(None, History([], [], stored))] == []

    def bought_for(self, turn: Data) -> int:
        """How many jobs of the vendor's there are for a turn."""
        return sum(entry.prompt == turn["userMessage"] for entry in self.vendor.bill)


Fault = Callable[[StoreSetup], AbstractContextManager[None]]


@asynccontextmanager
async def open_setup(mongodb_uri: str, folder: Path) -> AsyncIterator[StoreSetup]:
    vendor, port, name = FalSimulator(), free_port(), f"test_{uuid4().hex}"
    objects, volume = folder / "objects", folder / "volume"
    volume.mkdir(exist_ok=True)
    objects.symlink_to(volume)
    mongo: AsyncMongoClient[dict[str, Any]]
    async with (
        serving_fal(vendor) as fal_url,
        AsyncMongoClient(mongodb_uri, tz_aware=True) as mongo,
    ):
        settings = Settings(
            data_dir=folder,
            mongodb_uri=SecretStr(mongodb_uri),
            mongodb_database=name,
            port=port,
            limit=UNLIMITED,
            fal=ProviderSettings(key=SecretStr(KEY), url=fal_url),
        )
        try:
            async with serving(create_app(settings), port) as url:
                client = GraphQLClient(url, DevelopmentIssuer(folder).token("ana"))
                await wait_until_answering(client)  # with pictures, which need the store
                yield StoreSetup(client, objects, volume, vendor, mongo[name])
                await client.aclose()
        finally:
            await mongo.drop_database(name)


@pytest.fixture(scope="module")
async def store_setup(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StoreSetup]:
    async with open_setup(mongodb_uri, tmp_path_factory.mktemp("store_setup")) as store_setup:
        yield store_setup


@pytest.fixture
async def setup_with_small_disk(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[StoreSetup]:
    volume = tmp_path / "volume"
    volume.mkdir()
    if not _mount(volume):
        pytest.skip("a disk of its own cannot be mounted here")
    try:
        async with open_setup(mongodb_uri, tmp_path) as store_setup:
            yield store_setup
    finally:
        _run("umount", "--lazy", os.fspath(volume))


@contextmanager
def a_file_in_its_way(store_setup: StoreSetup) -> Iterator[None]:
    store_setup.folder.unlink()
    store_setup.folder.write_text("This is no folder.")
    yield
    store_setup.folder.unlink()
    store_setup.folder.symlink_to(store_setup.volume)


@contextmanager
def a_volume_that_is_gone(store_setup: StoreSetup) -> Iterator[None]:
    elsewhere = store_setup.volume.with_name("elsewhere")
    store_setup.volume.rename(elsewhere)
    yield
    elsewhere.rename(store_setup.volume)


@contextmanager
def no_room(store_setup: StoreSetup) -> Iterator[None]:
    filler = store_setup.volume / "filler"
    free = shutil.disk_usage(store_setup.volume).free
    filler.write_bytes(b"\0" * free)
    yield
    filler.unlink()


@pytest.mark.parametrize("fault", [a_file_in_its_way, a_volume_that_is_gone])
async def test_delivered_images_are_kept_until_the_store_is_available(
    store_setup: StoreSetup, fault: Fault
) -> None:
    await _is_kept_until_the_store_is_back(store_setup, fault)


async def test_delivered_images_are_kept_until_the_store_has_space(
    setup_with_small_disk: StoreSetup,
) -> None:
    await _is_kept_until_the_store_is_back(setup_with_small_disk, no_room)


async def test_nothing_is_requested_if_references_cannot_be_read(store_setup: StoreSetup) -> None:
    turn = await until_finished(store_setup.client, await store_setup.order())
    conversation_id = turn["id"].rpartition("_")[0].replace("turn_", "conv_")

    with a_volume_that_is_gone(store_setup):
        sent = await send(store_setup.client, conversation_id, options={"previews": 0})
        edit = await until_finished(store_setup.client, sent["turn"])

    assert edit["outputs"][0]["error"]["code"] == "STORAGE_UNAVAILABLE"
    assert store_setup.bought_for(sent["turn"]) == 0
    assert (await store_setup.client(CREDITS))["viewer"]["credits"]["reserved"] == 0
    await store_setup.assert_sound()


@pytest.mark.skipif(not THOROUGH, reason=WHY_NOT)
async def test_an_output_that_cannot_be_stored_is_not_charged_and_can_be_retried(
    store_setup: StoreSetup,
) -> None:
    before = (await store_setup.client(CREDITS))["viewer"]["credits"]
    turn = await store_setup.order()

    with a_volume_that_is_gone(store_setup):
        await store_setup.delivered()
        await asyncio.sleep(LONG_AWAY_SECONDS)
    lost = (await until_finished(store_setup.client, turn))["outputs"][0]
    after = (await store_setup.client(CREDITS))["viewer"]["credits"]
    retried = await until_finished(
        store_setup.client, (await retry(store_setup.client, lost))["turn"]
    )

    assert (lost["error"]["code"], lost["error"]["retryable"]) == ("STORAGE_UNAVAILABLE", True)
    assert after == before
    assert retried["status"] == "COMPLETED"
    assert store_setup.bought_for(turn) == 2
    await store_setup.assert_sound()


def _mount(volume: Path) -> bool:
    """Mount a small separate disk there, if that is permitted."""
    size = f"size={DISK_BYTES}"
    return _run("mount", "-t", "tmpfs", "-o", size, "tmpfs", os.fspath(volume))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


async def _is_kept_until_the_store_is_back(store_setup: StoreSetup, fault: Fault) -> None:
    turn = await store_setup.order()

    with fault(store_setup):
        await store_setup.delivered()
        await asyncio.sleep(AWAY_SECONDS)
    finished = await until_finished(store_setup.client, turn)

    assert finished["status"] == "COMPLETED"
    assert store_setup.bought_for(turn) == 1
    image = finished["outputs"][0]["images"][0]
    response = await store_setup.client.http.get(image["url"])
    assert (response.status_code, len(response.content)) == (200, image["byteSize"])
    await store_setup.assert_sound()
