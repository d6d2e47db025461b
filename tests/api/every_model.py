"""Shared by tests of every model: all providers simulated side by side, models on all of their
routes, and a viewer who runs one of them.
"""

import asyncio
import functools
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, Final, Self, TypeAlias
from uuid import uuid4

import pytest
from PIL import Image
from pydantic import SecretStr

from assembly import catalogue, services
from domain.ids import ModelId
from domain.images import ProcessedImage
from domain.model_choice import MAX_MODELS
from domain.models import AspectRatio, ImageModel, ModelRegistry
from providers.catalogue import load_catalogue
from storage.imaging.samples import load_samples
from tests.api.test_credits import account
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, darkrooms
from tests.operations import samples, send, start, until_finished
from tests.providers.vendors import VENDORS, rows_of
from tests.simulators.bill import Entry
from tests.simulators.pictures import LONG_SIDE
from tests.simulators.simulator import Simulator, serving
from tests.waits import eventually

_PLACES: Final = 500
"""Enough that no request waits for capacity."""
_ASKING_AT_ONCE: Final = 6
"""How many viewers ask something of a Darkroom at the same time. Each request has some seconds of
real time: where more than these share a busy processor, they are refused as too many, which is
right, and tested elsewhere.
"""


CATALOGUE: Final = load_catalogue(rehearsals=False, with_credentials=VENDORS)
"""As it is where all providers have credentials."""
RETIRED: Final = [model for model in CATALOGUE.all() if model.retired]
Models: TypeAlias = Sequence[ImageModel]


def _on_all_routes() -> Iterator[ImageModel]:
    rows = {provider: {row.id: row for row in rows_of(provider)} for provider in VENDORS}
    for model in CATALOGUE.all():
        for provider in VENDORS:
            if model.id in rows[provider]:
                yield _as_made_by(provider, rows[provider][model.id])


def _as_made_by(provider: str, model: ImageModel) -> ImageModel:
    """Its own row if the catalogue's is run by another provider, or is retired."""
    sibling = model.edit_model_id
    return replace(
        model,
        id=_name_at(provider, model.id),
        aliases=(),
        edit_model_id=_name_at(provider, sibling) if sibling else None,
        retires_at=None,
        unavailable_reason=None,
    )


def _name_at(provider: str, model_id: ModelId) -> ModelId:
    row = CATALOGUE.get(model_id)
    assert row is not None
    is_its_own = row.available and row.provider == provider
    return model_id if is_its_own else ModelId(f"{model_id} at {provider}")


MODELS: Final = list(_on_all_routes())
"""Every model by every provider that makes it, those that have been retired as they were before."""
_ALL: Final = ModelRegistry([*CATALOGUE.all(), *MODELS])
_BY_ID: Final = {model.id: model for model in MODELS}


def editor_of(model: ImageModel) -> ImageModel | None:
    """The model that runs with references if this one is requested; None if there is none."""
    found = _ALL.for_references(model)
    return _BY_ID[found.id] if found is not None else None


def _room_for_references(model: ImageModel) -> int:
    editor = editor_of(model)
    return editor.max_references if editor is not None else 0


def _way_of_running(model: ImageModel) -> object:
    """What the calls to its provider depend on, options aside. How a run fails, is tried again,
    cancelled and resumed is the same for all models that share it.
    """
    return (
        model.provider,
        model.min_references > 0,
        model.runs_for(2),
        model.supports_previews,
        model.endpoint.count("/") > 1,
    )


def _one_of_each(kind: Callable[[ImageModel], object], models: Models) -> Models:
    """The first of these models of each kind."""
    return list({kind(model): model for model in reversed(models)}.values())


EDITING: Final = [model for model in MODELS if editor_of(model) is not None]
FROM_WORDS_ONLY: Final = [model for model in MODELS if editor_of(model) is None]
EDITORS: Final = _one_of_each(editor_of, EDITING)
"""One for each model that runs with references."""
WITH_ROOM_FOR: Final = _one_of_each(_room_for_references, EDITORS)
"""One for each number of references that such a model takes."""
WAYS_OF_RUNNING: Final = _one_of_each(_way_of_running, MODELS)
WITH_JOBS: Final = [model for model in WAYS_OF_RUNNING if VENDORS[model.provider].has_jobs]


@dataclass(frozen=True, slots=True)
class Gallery:
    """A conversation with one picture more than any model takes."""

    viewer: str
    conversation_id: str
    output_ids: Sequence[str]
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One sends at a time, as a person does: where several send to a conversation at the same time,
    one of them succeeds and the others plan again, and on a busy machine their time ends.
    """


async def _fill_gallery(darkroom: Darkroom) -> Gallery:
    viewer, client = "a collector", darkroom.client("a collector")
    makers = [one.id for one in MODELS if one.provider == "fal" and not one.min_references]
    wanted = {"selectedModels": makers[:MAX_MODELS], "options": {"previews": 0}}
    payload = await start(client, **wanted)
    conversation_id = payload["conversation"]["id"]
    turns = [await until_finished(client, payload["turn"])]
    while len(turns) * MAX_MODELS <= max(model.max_references for model in MODELS):
        payload = await send(client, conversation_id, **wanted, previousOutputIds=[])
        turns.append(await until_finished(client, payload["turn"]))
    assert {turn["status"] for turn in turns} == {"COMPLETED"}
    outputs = [output["id"] for turn in turns for output in turn["outputs"]]
    return Gallery(viewer, conversation_id, outputs)


@dataclass
class House:
    """A Darkroom with credentials for all providers, each of which is simulated."""

    darkroom: Darkroom
    simulators: Mapping[str, Simulator]
    asking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ASKING_AT_ONCE))
    _begun: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    _gallery: asyncio.Task[Gallery] | None = None

    async def gallery(self) -> Gallery:
        """One for everybody: it takes a while to fill."""
        if self._gallery is None:
            self._gallery = asyncio.create_task(_fill_gallery(self.darkroom), name="gallery")
        return await asyncio.shield(self._gallery)

    def story(self, model: ImageModel, *, viewer: str | None = None) -> "Story":
        """A viewer of this model; a new one if none is named."""
        client = self.darkroom.client(viewer)
        return Story(model, self.simulators[model.provider], client, asking=self.asking)

    def begin(self, test: "Body", model: ImageModel) -> asyncio.Task[None]:
        """The test of this model, which is begun once."""
        key = test.__name__, model.id
        if key not in self._begun:
            self._begun[key] = asyncio.create_task(test(self, model), name=" ".join(key))
        return self._begun[key]

    async def end(self) -> None:
        """End what was started, and what no test has waited for."""
        tasks = [*self._begun.values(), *filter(None, [self._gallery])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Body = Callable[[House, ImageModel], Coroutine[Any, Any, None]]


def of_each(models: Models, *, ahead: int = 6) -> Callable[[Body], Body]:
    """Make one test for each of these models.

    A test spends most of its time waiting, so this many run at the same time.
    """

    def tests(body: Body) -> Body:
        @functools.wraps(body)
        async def test(house: House, model: ImageModel) -> None:
            place = models.index(model)
            for one in models[place : place + ahead]:
                house.begin(body, one)
            await house.begin(body, model)

        made: Body = pytest.mark.parametrize("model", models, ids=lambda one: str(one.id))(test)
        return made

    return tests


class Story:
    """The requests of one viewer to one model, and their entries on the provider's bill."""

    def __init__(
        self,
        model: ImageModel,
        simulator: Simulator,
        client: GraphQLClient,
        *,
        asking: asyncio.Semaphore,
    ) -> None:
        self.model = model
        self.simulator = simulator
        self.client = client
        self.asking = asking
        self._words = uuid4().hex
        """In every prompt: it identifies this viewer's entries of the bill."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    @property
    def bill(self) -> list[Entry]:
        return [entry for entry in self.simulator.settled() if self._words in entry.prompt]

    @property
    def references_sent(self) -> list[int]:
        count = VENDORS[self.model.provider].references
        return [count(entry.payload) for entry in self.bill]

    def times_asked(self) -> int:
        """How many requests the provider received, failed ones included. To be called once."""
        entry = self.bill[0]
        return self.simulator.count(entry.endpoint, f"{entry.script} {entry.prompt}")

    def input(self, script: str = "", *, image_count: int = 1, **input: Any) -> Data:
        """The message for the model, whose provider follows the script."""
        return {
            "userMessage": f"{self._words} [{self.simulator.provider} {script}]",
            "selectedModels": [self.model.id],
            "options": {"imagesPerModel": image_count, "previews": 0},
            **input,
        }

    async def needed(self) -> Data:
        """The input without which this model makes nothing: pictures, where it only edits."""
        if not self.model.min_references:
            return {}
        # With two of them all that edit take a shape; with one, some keep the picture's.
        first, *more = (await self.samples())[: min(2, self.model.max_references)]
        return {"sourceImageId": first, "manualReferenceIds": more}

    async def samples(self) -> list[str]:
        """The viewer's sample pictures, which may take a while to come."""
        async with self.asking:
            return [image["id"] for image in await samples(self.client)]

    async def start(self, script: str, **input: Any) -> Data:
        """The output as it is at first."""
        async with self.asking:
            payload = await start(self.client, **self.input(script, **input))
        turn: Data = payload["turn"]
        return turn

    async def made(self, script: str, **input: Any) -> Data:
        """The output once it is over."""
        return await self.end_of(await self.start(script, **input))

    async def send(self, conversation_id: str, **input: Any) -> Data:
        async with self.asking:
            payload = await send(self.client, conversation_id, **self.input(**input))
        turn: Data = payload["turn"]
        return turn

    async def end_of(self, turn: Data) -> Data:
        (output,) = (await until_finished(self.client, turn))["outputs"]
        ended: Data = output
        return ended

    async def account(self) -> tuple[int, int, int]:
        return await account(self.client)

    async def until(self, wanted: Callable[[], bool]) -> None:
        await eventually(wanted, what="the bill is as expected", every=0.02)


def error_of(output: Data) -> tuple[str, bool] | None:
    error = output["error"]
    return (error["code"], error["retryable"]) if error else None


def is_shaped(image: Data, asked: AspectRatio, model: ImageModel) -> bool:
    """Whether a picture's true shape is nearer to what was asked for than to all else on offer."""
    true = AspectRatio(image["width"], image["height"])
    return true.nearest(model.aspect_ratios) == asked


Simulated: TypeAlias = tuple[Mapping[str, Simulator], Mapping[str, Any]]
"""All providers, served, and the settings of a Darkroom that uses them."""


@asynccontextmanager
async def simulated() -> AsyncIterator[Simulated]:
    """All providers, served, and the settings of a Darkroom that uses them."""
    simulators: dict[str, Simulator] = {}
    settings: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        for name, vendor in VENDORS.items():
            simulator = simulators[name] = vendor.simulator()
            url = await stack.enter_async_context(serving(simulator))
            settings[name] = {
                "key": SecretStr(simulator.key),
                "url": f"{url}{vendor.path}",
                "places": _PLACES,
            }
        yield simulators, settings


def keep_catalogue(patch: pytest.MonkeyPatch, models: Iterable[ImageModel] = MODELS) -> None:
    """From here on Darkrooms have these models beside the catalogue's, or in their place.

    The catalogue is no setting; what is put in its place is made of its own rows by its own loader.
    """
    local = [model for model in CATALOGUE.all() if model.provider == "local"]
    rows = {model.id: model for model in (*local, *RETIRED, *models)}
    patch.setattr(catalogue, "load_catalogue", lambda **_: ModelRegistry(rows.values()))


def keep_samples_small(patch: pytest.MonkeyPatch) -> None:
    """From here on what viewers find is as small as what simulators make. How far an edit has
    drifted is measured for each of them, which takes most of its time with a larger base.
    """
    samples = [replace(sample, image=_small(sample.image)) for sample in load_samples()]
    patch.setattr(services, "load_samples", lambda: samples)


def _small(image: ProcessedImage) -> ProcessedImage:
    with Image.open(BytesIO(image.original.data)) as picture:
        picture.thumbnail((LONG_SIDE, LONG_SIDE))
        written = BytesIO()
        picture.save(written, "WEBP")
    width, height = picture.size
    original = replace(image.original, data=written.getvalue(), width=width, height=height)
    return replace(image, original=original, thumbnails=())


@asynccontextmanager
async def open_house(
    mongodb_uri: str,
    paths: pytest.TempPathFactory,
    models: Iterable[ImageModel] = MODELS,
) -> AsyncIterator[House]:
    async with (
        simulated() as (simulators, settings),
        darkrooms(mongodb_uri, paths.mktemp("house")) as start_one,
    ):
        with pytest.MonkeyPatch.context() as patch:
            keep_catalogue(patch, models)
            keep_samples_small(patch)
            house = House(await start_one(**settings), simulators)
        yield house
        await house.end()
