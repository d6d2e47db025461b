"""The dispatcher with an in-process queue: from a hint to a run, on a real database."""

# ruff: noqa: ARG002 - the provider here ignores its arguments

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from domain.captions import CaptionDelivery, CaptionModelRegistry, CaptionRequest
from domain.claims import Hint, Waiting
from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.execution import dispatcher as dispatching
from domain.execution import failover
from domain.execution.dispatcher import Dispatcher, never
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.permits import Permits
from domain.execution.runner import OutputRunner
from domain.generation import Delivery, GenerationRequest
from domain.ids import ModelId, OutputId, ViewerId, viewer_id_of
from domain.models import ModelRegistry
from domain.outputs import ProviderJob
from domain.ports.providers import CaptionObserver, Provider, RunObserver
from domain.posts import Post, PostStatus
from domain.signing import Signer
from domain.turns import Turn
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from storage.mongo.permits import MongoPermitRepository
from storage.mongo.posts import MongoPostRepository
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import ANA, a_caption_model, a_conversation, a_model, a_post
from tests.waits import PATIENCE_SECONDS, eventually

BOB = viewer_id_of("tests", "bob")
ROOM = 6
REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


class Hangs:
    """A provider that runs outputs until they may fail."""

    name = "local"
    max_concurrent_runs = ROOM

    def __init__(self) -> None:
        self.begun = 0
        self.requests: set[str] = set()
        self.may_end = asyncio.Event()
        self._changed = asyncio.Condition()

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        self.requests.add(REQUEST.get())
        async with self._changed:
            self.begun += 1
            self._changed.notify_all()
        await self.may_end.wait()
        raise GenerationFailed(GenerationErrorCode.INTERNAL, retryable=False)

    async def cancel(self, job: ProviderJob) -> bool:
        raise AssertionError(job)

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.begun >= count)


@pytest.fixture
def provider() -> Hangs:
    return Hangs()


class Rejects:
    """A provider that takes nothing."""

    name = "rejecting"
    max_concurrent_runs = 3 * ROOM

    def __init__(self) -> None:
        self.asked = 0

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        assert request.model.provider == self.name
        self.asked += 1
        raise NotSubmitted(GenerationErrorCode.PROVIDER_RATE_LIMITED)

    async def cancel(self, job: ProviderJob) -> bool:
        raise AssertionError(job)


class Drops:
    """A provider that does not have the model any more."""

    name = "dropping"
    max_concurrent_runs = ROOM

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        assert request.model.provider == self.name
        failure = GenerationFailed(GenerationErrorCode.MODEL_RETIRED, retryable=False)
        failure.nothing_taken = True
        raise failure

    async def cancel(self, job: ProviderJob) -> bool:
        raise AssertionError(job)


class Writes:
    """A writer that writes two words, and the second one when it may."""

    name = "local"
    max_concurrent_runs = 1

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.asked: list[CaptionRequest] = []

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        self.asked.append(request)
        await observer.text("Two")
        await self.may_end.wait()
        return CaptionDelivery(text="Two words")


@pytest.fixture
def dispatcher(database: Database, provider: Hangs, tmp_path: Path) -> Dispatcher:
    return a_dispatcher(database, tmp_path, ModelRegistry([a_model()]), [provider])


def a_dispatcher(
    database: Database,
    folder: Path,
    registry: ModelRegistry,
    those: Sequence[Hangs | Rejects | Drops],
    *writers: Writes,
    claims: MongoClaimRepository | None = None,
    permits: Permits | None = None,
    is_ending: Callable[[], bool] = never,
) -> Dispatcher:
    claims = claims or MongoClaimRepository(database)
    objects = FolderObjectStore(folder / "objects", public_url="", signer=Signer(b"x" * 32))
    providers: dict[str, Provider] = {one.name: one for one in those}
    runner = OutputRunner(
        claims=claims,
        images=MongoImageRepository(database),
        image_writer=ImageWriter(objects),
        image_processor=ThreadedImageProcessor(),
        registry=registry,
        providers=providers,
        caption_models=CaptionModelRegistry([a_caption_model()]),
        writers={one.name: one for one in writers},
        availability=ModelAvailability(MongoModelAvailabilityRepository(database), registry),
    )
    permits = permits or Permits(MongoPermitRepository(database), {})
    return Dispatcher(claims, runner, permits, is_ending=is_ending)


async def outputs_of(
    database: Database, count: int, *, viewer_id: ViewerId = ANA
) -> list[OutputId]:
    _, turn = await a_conversation(database, *["model"] * count, viewer_id=viewer_id)
    return ids_of(turn)


def ids_of(turn: Turn) -> list[OutputId]:
    return [output.id for output in turn.outputs]


async def given_back(database: Database, viewer_id: ViewerId, outputs: Iterable[OutputId]) -> bool:
    """Whether no lease holds any of them."""
    claims = MongoClaimRepository(database)
    return all([await claims.find_waiting(viewer_id, one) is not None for one in outputs])


async def test_a_caption_uses_no_capacity_of_images_and_its_images_follow_at_once(
    database: Database, provider: Hangs, tmp_path: Path
) -> None:
    writer, models = Writes(), ModelRegistry([a_model()])
    dispatcher = a_dispatcher(database, tmp_path, models, [provider], writer)
    others = [viewer_id_of("tests", name) for name in ("eve", "tom")]
    for viewer_id in others:
        outputs = await outputs_of(database, ROOM // 2, viewer_id=viewer_id)
        dispatcher.enqueue(viewer_id, outputs)
    await provider.until_begun(ROOM)
    post = await a_post(database)

    dispatcher.enqueue(ANA, [post.caption_output.id])
    await shows(database, post, "Two")
    assert provider.begun == ROOM
    provider.may_end.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while dispatcher.running.get(provider.name):  # noqa: ASYNC110 - runs end without notice
            await asyncio.sleep(0.02)
    writer.may_end.set()
    await provider.until_begun(ROOM + 1)

    assert writer.asked[0].options.tone == "$warm"
    await dispatcher.stop(grace_seconds=5)


async def test_another_process_continues_an_interrupted_caption(
    database: Database, provider: Hangs, tmp_path: Path
) -> None:
    models, writer, other = ModelRegistry([a_model()]), Writes(), Writes()
    stopping = a_dispatcher(database, tmp_path, models, [provider], writer)
    post = await a_post(database)
    stopping.enqueue(ANA, [post.caption_output.id])
    await shows(database, post, "Two")
    await stopping.stop(grace_seconds=5)
    other.may_end.set()

    continuing = a_dispatcher(database, tmp_path, models, [provider], other)
    await continuing.start_waiting(min_queued=timedelta(0), expired=False)
    await provider.until_begun(1)

    assert await shows(database, post, "Two words") is PostStatus.GENERATING_IMAGES
    assert [request.attempt for request in (*writer.asked, *other.asked)] == [1, 1]
    provider.may_end.set()
    await continuing.stop(grace_seconds=5)


async def shows(database: Database, post: Post, caption: str) -> PostStatus:
    """Wait until the post has this caption, and return its status."""
    posts = MongoPostRepository(database)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = (await posts.get_many(post.owner_id, [post.id]))[post.id]
            if found.caption == caption:
                return found.status
            await asyncio.sleep(0.02)


async def test_a_run_moves_to_another_provider_only_if_it_has_capacity(
    database: Database, provider: Hangs, tmp_path: Path
) -> None:
    rejects, other = Rejects(), replace(a_model(), provider=provider.name)
    model = replace(a_model(), provider=rejects.name, other_routes=(other,))
    dispatcher = a_dispatcher(database, tmp_path, ModelRegistry([model]), [rejects, provider])
    outputs = await outputs_of(database, ROOM)

    dispatcher.enqueue(ANA, outputs)
    await provider.until_begun(ROOM // 2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while rejects.asked < ROOM:  # noqa: ASYNC110 - a provider sends no notification of its calls
            await asyncio.sleep(0.02)

    # A viewer has at most half of each provider's runs: the others are searched for again later.
    assert provider.begun == ROOM // 2
    await dispatcher.stop(0)
    assert provider.begun == ROOM // 2


async def test_a_run_whose_provider_drops_the_model_waits_for_room_at_the_next_one(
    database: Database, provider: Hangs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repetitions = 0

    def next_try_seconds(*_: object, **__: object) -> float:
        nonlocal repetitions
        repetitions += 1
        return 0.01

    monkeypatch.setattr(failover, "next_try_seconds", next_try_seconds)
    dropping, other = Drops(), replace(a_model("two"), max_images=2, images_per_run=1)
    dropped = replace(other, provider=dropping.name, other_routes=(other,))
    models = ModelRegistry([a_model(), dropped])
    dispatcher = a_dispatcher(database, tmp_path, models, [dropping, provider])
    dispatcher.enqueue(ANA, await outputs_of(database, ROOM // 2))
    await provider.until_begun(ROOM // 2)
    _, turn = await a_conversation(database, "two", images_per_model=2)

    dispatcher.enqueue(ANA, ids_of(turn))

    await eventually(lambda: repetitions >= 6, what="both runs have been repeated")
    assert provider.begun == ROOM // 2
    await dispatcher.stop(0)


async def test_an_enqueued_output_runs(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    outputs = await outputs_of(database, 2)

    dispatcher.enqueue(ANA, outputs)

    await provider.until_begun(2)
    assert not await given_back(database, ANA, outputs)
    await dispatcher.stop(0)
    assert await given_back(database, ANA, outputs)


async def test_a_hint_enqueued_twice_runs_once(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    (output,) = await outputs_of(database, 1)

    dispatcher.enqueue(ANA, [output, output])
    dispatcher.enqueue(ANA, [output])
    await provider.until_begun(1)
    while dispatcher._hints:
        await asyncio.wait(dispatcher._hints)

    assert provider.begun == 1
    await dispatcher.stop(0)


async def test_a_hint_with_another_owner_starts_nothing(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    (output,) = await outputs_of(database, 1)

    assert await dispatcher.start(Hint(BOB, output)) is None

    assert provider.begun == 0


async def test_one_viewer_gets_half_the_capacity_and_the_rest_waits_in_the_database(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    outputs = await outputs_of(database, ROOM)
    dispatcher.enqueue(ANA, outputs)
    await provider.until_begun(ROOM // 2)

    other = await outputs_of(database, 1, viewer_id=BOB)
    await dispatcher.start_waiting(min_queued=timedelta(0), expired=False)
    await provider.until_begun(ROOM // 2 + 1)

    assert not await given_back(database, BOB, other)
    assert provider.begun == ROOM // 2 + 1
    await dispatcher.stop(0)


async def test_an_output_that_waits_starts_when_a_run_has_ended(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    filling = asyncio.create_task(dispatcher.fill())
    dispatcher.enqueue(ANA, await outputs_of(database, ROOM * 2))
    await provider.until_begun(ROOM // 2)

    provider.may_end.set()

    await provider.until_begun(ROOM * 2)
    filling.cancel()
    await asyncio.wait([filling])
    await dispatcher.stop(0)


class Counted(MongoClaimRepository):
    """Counts what is read to find outputs."""

    reads = 0

    async def find_waiting(self, viewer_id: ViewerId, output_id: OutputId) -> Waiting | None:
        self.reads += 1
        return await super().find_waiting(viewer_id, output_id)

    async def list_waiting(
        self,
        model_ids: Iterable[ModelId],
        *,
        begun_only: Iterable[ModelId] = (),
        min_queued: timedelta,
        expired: bool,
        limit: int,
    ) -> Sequence[Waiting]:
        self.reads += 1
        return await super().list_waiting(
            model_ids,
            begun_only=begun_only,
            min_queued=min_queued,
            expired=expired,
            limit=limit,
        )


async def test_outputs_enqueued_here_are_read_only_once_there_is_capacity_again(
    database: Database, provider: Hangs, tmp_path: Path
) -> None:
    claims = Counted(database)
    registry = ModelRegistry([a_model()])
    dispatcher = a_dispatcher(database, tmp_path, registry, [provider], claims=claims)
    filling = asyncio.create_task(dispatcher.fill())
    for _ in range(3):
        _, turn = await a_conversation(database, *["model"] * (ROOM // 2))
        dispatcher.enqueue_written(ANA, turn.outputs)
        await provider.until_begun(ROOM // 2)
        await asyncio.sleep(0.1)  # for as long as a search would wait

    assert claims.reads == 0
    provider.may_end.set()
    await provider.until_begun(ROOM // 2 * 3)
    assert claims.reads > 0
    filling.cancel()
    await asyncio.wait([filling])
    await dispatcher.stop(0)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10, 20, 40, 80, 160, 320])
async def test_no_output_is_claimed_after_the_stop_at_any_stage_of_a_hint(
    database: Database, dispatcher: Dispatcher, provider: Hangs, steps: int
) -> None:
    outputs = await outputs_of(database, 1)
    dispatcher.enqueue(ANA, outputs)
    for _ in range(steps):
        await asyncio.sleep(0)

    await dispatcher.stop(0)

    begun = provider.begun
    assert await given_back(database, ANA, outputs)
    dispatcher.enqueue(ANA, outputs)
    await asyncio.sleep(0.05)
    assert provider.begun == begun


async def test_nothing_is_begun_once_the_process_has_been_asked_to_end(
    database: Database, provider: Hangs, tmp_path: Path
) -> None:
    registry, asked = ModelRegistry([a_model()]), asyncio.Event()
    dispatcher = a_dispatcher(database, tmp_path, registry, [provider], is_ending=asked.is_set)
    first, second = await outputs_of(database, 2)
    assert await dispatcher.start(Hint(ANA, first))

    asked.set()

    assert await dispatcher.start(Hint(ANA, second)) is None
    await dispatcher.start_waiting(min_queued=timedelta(0), expired=False)
    assert sum(dispatcher.running.values()) == 1
    await dispatcher.stop(0)


async def test_a_cancelled_search_loses_no_claim(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    outputs = await outputs_of(database, 2)
    searching = asyncio.create_task(
        dispatcher.start_waiting(min_queued=timedelta(0), expired=False)
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not dispatcher._claiming:  # noqa: ASYNC110
            await asyncio.sleep(0)

    searching.cancel()
    await dispatcher.stop(0)

    assert await given_back(database, ANA, outputs)


async def test_a_recalled_output_is_stopped_and_the_others_continue(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    first, second = await outputs_of(database, 2)
    runs = [await dispatcher.start(Hint(ANA, output)) for output in (first, second)]
    await provider.until_begun(2)

    dispatcher.recall([first])

    assert runs[0] is not None
    assert runs[1] is not None
    await asyncio.wait([runs[0]], timeout=PATIENCE_SECONDS)
    assert runs[0].cancelled()
    assert not runs[1].done()
    await dispatcher.stop(0)


async def test_a_run_does_not_inherit_context_variables_of_its_request(
    database: Database, dispatcher: Dispatcher, provider: Hangs
) -> None:
    outputs = await outputs_of(database, 1)
    REQUEST.set("somebody's")

    dispatcher.enqueue(ANA, outputs)

    await provider.until_begun(1)
    assert provider.requests == {"none"}
    await dispatcher.stop(0)


async def test_too_many_hints_are_dropped_and_logged_once(
    database: Database, dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    (output,) = await outputs_of(database, 1)

    with caplog.at_level(logging.WARNING):
        dispatcher.enqueue(ANA, [output] * (dispatching.MAX_HINTS + 10))

    assert len(dispatcher._hints) == dispatching.MAX_HINTS
    assert [record.message for record in caplog.records] == ["hints dropped"]
    await dispatcher.stop(0)


def test_the_capacity_of_a_process_is_the_sum_of_its_providers_limits(
    dispatcher: Dispatcher,
) -> None:
    assert dispatcher.max_concurrent_runs == ROOM
