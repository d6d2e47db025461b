"""A bucket that fails in every way: every record refers to complete bytes, and nothing is paid
twice.

Each request to the bucket may meet a fault, which a seed decides: it is reset, answered 503, never
answered, cut in its body or in its answer, answered 200 with an error, or answered 200 by somebody
who has stored nothing and gives no `ETag`.

A server that gives an `ETag` for what it has not stored is not among them. An `ETag` is S3's
receipt: the server says that it holds the whole body, whose SHA-256 was signed. To look again would
cost a request for each object, and the same server would be asked; to demand that the tag is the
body's MD5 would refuse servers that encrypt with keys of their own, whose tags are none. A server
that loses what it has acknowledged is found by `python -m commands.objects compare`, like one
whose disk has died.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image as Pictures
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from app import create_app
from domain.ports.objects import Objects
from edge.dev_tokens import DevelopmentIssuer
from settings import ProviderSettings, Settings
from storage.objects.bucket import Bucket
from storage.objects.s3 import open_bucket
from tests.clients import Data, GraphQLClient
from tests.operations import send, start
from tests.resilience.checks.credits import against_credits
from tests.resilience.checks.images import against_bytes, against_images, orphans
from tests.resilience.evidence import History, Stored, read_stored
from tests.resilience.processes import Documents, wait_until_answering
from tests.resilience.scale import SEED, THOROUGH
from tests.resilience.storm import to_terminal
from tests.serving import free_port, serving
from tests.simulators.fal import KEY, FalSimulator, serving_fal
from tests.storage.faulty_proxy import Fault, FaultyProxy, open_faulty_proxy
from tests.storage.places import keys_in, new_bucket
from tests.unlimited import UNLIMITED
from tests.waits import eventually

FAULTS = 2_000 if THOROUGH else 60
SHARE = 0.45
"""Of all requests."""
UNLUCKY = 0.2
"""Of all new objects: none of them can ever be put, so that what was bought has to be kept, and put
under another key.
"""
ORDERING = 6
"""How many viewers send requests at once."""
LIMIT_SECONDS = 0.8
PATIENT_SECONDS = 30.0
OPERATION_SECONDS = 60.0
"""Pictures for a new viewer may take six, and a busy machine as long for all the rest."""
HEALED_SECONDS = 90.0
MODELS = ("img-flux-2-max", "local-silver")
TYPED = {"STORAGE_UNAVAILABLE"}
ERROR = b"<Error><Code>InternalError</Code><Message>Try again</Message></Error>"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def http_response(status: str, body: bytes, content_type: str = "application/xml") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(slots=True)
class FaultSequence:
    """What happens to requests, as its seed decides; the machine decides in which order they come.

    The number of faults is limited.
    """

    seed: str
    most: int
    seen: Counter[str] = field(default_factory=Counter)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    _randomness: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._randomness = random.Random(self.seed)

    def __call__(self, head: bytes) -> Fault:
        method, path, _ = head.decode().split(" ", 2)
        unlucky = method == "PUT" and random.Random(f"{self.seed} {path}").random() < UNLUCKY
        if self.enough.is_set() or not (unlucky or self._randomness.random() < SHARE):
            return Fault()
        length = _LENGTH.search(head)
        body = int(length[1]) if length else 0
        where = self._randomness.random()
        faults = {
            "reset": Fault(refuses=True),
            "503": Fault(answer=http_response("503 Slow Down", ERROR)),
            "slow": Fault(silent=True),
            "answer lost": Fault(cut_answer_after=0),
            "answer cut": Fault(cut_answer_after=round(1 + where * 150)),
            "200 with an error": Fault(answer=http_response("200 OK", ERROR)),
            "200, nothing stored": Fault(answer=http_response("200 OK", b"")),
            "200 of a page": Fault(
                answer=http_response("200 OK", b"<html>Welcome</html>", "text/html")
            ),
        }
        if body:
            faults["body cut"] = Fault(cut_request_after=len(head) + round(where * (body - 1)))
        if method == "GET":
            faults["object cut"] = Fault(cut_answer_after=round(500 + where * 300))
        kind = self._randomness.choice(list(faults))
        self.seen[f"{method} {kind}"] += 1
        if self.seen.total() >= self.most:
            self.enough.set()
        return faults[kind]


@dataclass(frozen=True, slots=True)
class StoreSetup:
    """A Darkroom, the way to its bucket, the bucket without a proxy, and the vendor."""

    clients: tuple[GraphQLClient, ...]
    proxy: FaultyProxy
    bucket: Bucket
    direct: Objects
    vendor: FalSimulator
    documents: Documents
    folder: Path

    async def stored(self) -> Stored:
        stored = await read_stored(self.documents, self.folder)
        return replace(stored, objects=await keys_in(self.bucket))

    async def order(self, client: GraphQLClient, *, of: str | None) -> Data:
        """A turn, of a conversation or a new one, once it is over."""
        options = {
            "userMessage": f"A boat, {uuid4().hex} [fal seconds=0]",
            "options": {"previews": 2},
        }
        if of is None:
            payload = await start(client, selectedModels=list(MODELS), **options)
        else:
            payload = await send(client, of, **options)
        turn_id = payload["turn"]["id"]

        async def have_finished() -> bool:
            found = await self.documents["turns"].find_one({"_id": turn_id})
            assert found is not None
            return found["status"] not in ("PENDING", "GENERATING")

        await eventually(have_finished, within=HEALED_SECONDS, what="a turn is over")
        turn: Data = payload["turn"]
        return turn


@asynccontextmanager
async def open_setup(
    mongodb_uri: str, server: Bucket, folder: Path, *, limit_seconds: float
) -> AsyncIterator[StoreSetup]:
    vendor, port, name = FalSimulator(), free_port(), f"test_{uuid4().hex}"
    bucket = await new_bucket(server)
    mongo: AsyncMongoClient[dict[str, Any]]
    async with (
        serving_fal(vendor) as fal_url,
        open_faulty_proxy(bucket.endpoint) as proxy,
        open_bucket(bucket) as direct,
        AsyncMongoClient(mongodb_uri, tz_aware=True) as mongo,
    ):
        settings = Settings(
            data_dir=folder,
            mongodb_uri=SecretStr(mongodb_uri),
            mongodb_database=name,
            port=port,
            limit=UNLIMITED.model_copy(update={"operation_seconds": OPERATION_SECONDS}),
            fal=ProviderSettings(key=SecretStr(KEY), url=fal_url),
            s3_bucket=bucket.name,
            s3_endpoint=proxy.url,
            s3_public_endpoint=bucket.endpoint,
            s3_key_id=bucket.key_id,
            s3_secret=SecretStr(bucket.secret),
            s3_seconds=limit_seconds,
        )
        try:
            async with serving(create_app(settings), port) as url:
                issuer = DevelopmentIssuer(folder)
                clients = tuple(
                    GraphQLClient(url, issuer.token(f"viewer {number}"))
                    for number in range(ORDERING)
                )
                await wait_until_answering(clients[0])
                yield StoreSetup(clients, proxy, bucket, direct, vendor, mongo[name], folder)
                for client in clients:
                    await client.aclose()
        finally:
            await mongo.drop_database(name)


@pytest.fixture
async def store_setup(
    request: pytest.FixtureRequest, mongodb_uri: str, ministack_bucket: Bucket, tmp_path: Path
) -> AsyncIterator[StoreSetup]:
    limit = getattr(request, "param", LIMIT_SECONDS)
    async with open_setup(mongodb_uri, ministack_bucket, tmp_path, limit_seconds=limit) as setup:
        yield setup


async def test_no_fault_of_the_bucket_loses_bytes_or_credits(store_setup: StoreSetup) -> None:
    fault_sequence = FaultSequence(SEED, FAULTS)
    store_setup.proxy.choose_fault_by(fault_sequence)

    async def keep_ordering(client: GraphQLClient) -> None:
        while not fault_sequence.enough.is_set():
            turn = await store_setup.order(client, of=None)
            if not fault_sequence.enough.is_set():
                await store_setup.order(client, of="conv_" + turn["id"].split("_")[1])

    await asyncio.gather(*map(keep_ordering, store_setup.clients))
    store_setup.proxy.set_fault(Fault())

    stored = await store_setup.stored()
    found = [*against_images(stored), *against_bytes(stored)]
    found += [*against_credits(None, History([], [], stored)), *against_outputs(stored)]
    found += [
        *against_bill(stored, store_setup.vendor),
        *[one async for one in against_broken(store_setup, stored)],
    ]
    ends = Counter(
        output["error"]["code"] if output["error"] else output["status"]
        for turn in stored.turns
        for output in turn["outputs"]
    )
    to_terminal(
        f"seed {SEED}: {fault_sequence.seen.total()} faults: {dict(fault_sequence.seen)}; "
        f"{dict(ends)}; "
        f"{len(orphans(stored))} of {len(stored.objects)} objects left over"
    )
    assert found == []
    assert fault_sequence.seen.total() >= FAULTS
    assert ends["COMPLETED"] > 0


@pytest.mark.parametrize("store_setup", [PATIENT_SECONDS], indirect=True)
async def test_no_viewer_waits_for_the_sample_images_of_another(store_setup: StoreSetup) -> None:
    unanswered = asyncio.Event()
    paths: list[bytes] = []

    def never_answer_the_first_object(head: bytes) -> Fault:
        method, path, _ = head.split(b" ", 2)
        if method == b"PUT":
            paths.append(path)
            unanswered.set()
        return Fault(silent=method == b"PUT" and path == paths[0])

    store_setup.proxy.choose_fault_by(never_answer_the_first_object)
    _, first, second, *_ = store_setup.clients
    waiting = asyncio.create_task(start(first))
    await unanswered.wait()
    await start(second)
    assert not waiting.done()
    store_setup.proxy.set_fault(Fault())
    await waiting


def against_outputs(stored: Stored) -> Iterator[str]:
    for turn in stored.turns:
        for output in turn["outputs"]:
            name = f"{turn['_id']}/{output['slot']}"
            if output["status"] == "COMPLETED":
                if len(output["images"]) != 1:
                    yield f"{name} was completed with {len(output['images'])} images"
            elif output["status"] != "FAILED" or output["error"]["code"] not in TYPED:
                yield f"{name} ended {output['status']} with {output['error']}"


def against_bill(stored: Stored, vendor: FalSimulator) -> Iterator[str]:
    """Each output was tried once: so it was paid for once, or not at all if it failed."""
    jobs = Counter(entry.prompt for entry in vendor.bill)
    billed = Counter(entry.prompt for entry in vendor.bill if entry.billed)
    for turn in stored.turns:
        for output in turn["outputs"]:
            if output["model"].startswith("local"):
                continue
            name, prompt = f"{turn['_id']}/{output['slot']}", turn["userMessage"]
            least = 1 if output["status"] == "COMPLETED" else 0
            if not least <= jobs[prompt] <= 1 or jobs[prompt] != billed[prompt]:
                yield f"{name} ended {output['status']} with {jobs[prompt]} jobs at the vendor's"


async def against_broken(store_setup: StoreSetup, stored: Stored) -> AsyncIterator[str]:
    """Every object is a whole picture, also where nothing refers to it."""
    for key in stored.objects:
        if key.startswith("owners/"):
            continue
        try:
            with Pictures.open(BytesIO(await store_setup.direct.get(key))) as picture:
                picture.load()
        except OSError as error:
            yield f"{key} is broken: {error}"
