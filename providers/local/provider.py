"""The provider of the local models, which run in threads of this process.

A thread does one step at a time: Pillow releases the GIL during nearly all of its work, and between
two steps a cancelled run ends, or another run continues.
"""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final, ParamSpec, TypeVar

from PIL import Image as Pictures

from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ids import parent_of_output
from domain.images import Image
from domain.outputs import ProviderJob
from domain.ports.objects import ObjectStore
from domain.ports.providers import RunObserver
from providers.local import prints
from providers.local.editing import encodings
from providers.local.language.instructions import Instructions, read_instructions
from providers.local.language.operations import Gather
from providers.local.prints import Order, Steps
from providers.local.styles import style_of

THREADS: Final = 2
_LARGE_PIXELS: Final = 6_000_000
"""Larger pictures are made one at a time: each takes a few hundred megabytes."""

P = ParamSpec("P")
T = TypeVar("T")


class LocalProvider:
    """Makes pictures from plain words with Pillow alone. The same request gives the same bytes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="local-model")
        self._threads_free = asyncio.Semaphore(THREADS)
        self._large = asyncio.Lock()

    @property
    def name(self) -> str:
        return "local"

    @property
    def max_concurrent_runs(self) -> int:
        return THREADS

    async def cancel(self, job: ProviderJob) -> bool:  # noqa: ARG002 - there are none
        """Runs here have no jobs: they end with their task."""
        return True

    async def aclose(self) -> None:
        """End the threads. Running runs must have been cancelled before."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        editing = bool(request.references)
        instructions = read_instructions(request.prompt, editing=editing)
        chosen = _sources(request, instructions)
        sources = tuple([await self._store.get(image.key) for image in chosen])
        style = style_of(request.model.id)
        size = prints.size_of(request, instructions)
        orders = [
            Order(
                style=style,
                words=request.prompt,
                instructions=instructions,
                size=size,
                seed=seed,
                sources=sources,
                own=len(chosen) == 1 and chosen[0].model_id == request.model.id,
            )
            for seed in _seeds(request)
        ]
        async with AsyncExitStack() as stack:
            if size[0] * size[1] > _LARGE_PIXELS:
                await stack.enter_async_context(self._large)
            await stack.enter_async_context(self._threads_free)
            partials = []
            if request.preview_count > 0:
                draft = await self._finish(prints.full_picture(orders[0].draft()))
                partials = await self._run(_partials, draft, request.preview_count)
            progress = _Progress(observer, partials, len(orders))
            await progress.report(0, 0.0)
            images = []
            for index, order in enumerate(orders):
                picture = await self._finish(prints.full_picture(order), progress, index)
                data = await self._run(encodings.encode, picture, request.format or style.format)
                images.append(DeliveredImage(data, seed=order.seed))
        text = prints.report(
            instructions, style=style, gathered=orders[0].arrangement is not None, editing=editing
        )
        return Delivery(images=tuple(images), text=text)

    async def _finish(
        self, steps: Steps, progress: "_Progress | None" = None, index: int = 0
    ) -> Pictures.Image:
        while True:
            done = await self._run(_advance, steps)
            if isinstance(done, Pictures.Image):
                return done
            if progress is not None:
                await progress.report(index, done)

    async def _run(self, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        bound = functools.partial(work, *given, **named)
        return await asyncio.get_running_loop().run_in_executor(self._pool, bound)


class _Progress:
    """Reports to the run's observer: progress that only grows, and each preview once."""

    def __init__(self, observer: RunObserver, partials: Sequence[bytes], image_count: int) -> None:
        self._observer = observer
        self._partials = partials
        self._image_count = image_count
        self._reported = -1.0
        self._shown = 0

    async def report(self, index: int, fraction: float) -> None:
        """Report the progress of the picture with this index."""
        overall = min(1.0, (index + fraction) / self._image_count)
        if overall <= self._reported:
            return
        self._reported = overall
        await self._observer.progress(overall)
        # The previews are spread evenly: the last one comes well before the end.
        while self._shown < len(self._partials) and overall >= self._shown / len(self._partials):
            await self._observer.preview(self._partials[self._shown])
            self._shown += 1


def _advance(steps: Steps) -> float | Pictures.Image:
    """Do one step. Return the progress, or the picture after the last step."""
    try:
        return next(steps)
    except StopIteration as ended:
        # StopIteration cannot be raised into a future.
        picture: Pictures.Image = ended.value
        return picture


def _partials(draft: Pictures.Image, count: int) -> list[bytes]:
    shares = [(index + 1) / (count + 1) for index in range(count)]
    return [encodings.encode_small(prints.partial_picture(draft, share)) for share in shares]


def _sources(request: GenerationRequest, instructions: Instructions) -> tuple[Image, ...]:
    """The references to edit: all if the prompt combines them, otherwise one.

    If the first is an output, the output of its turn that this same model made is used instead, as
    a person expects who edits with two models at once.
    """
    references = request.references
    if len(references) < 2:
        return references
    if any(isinstance(operation, Gather) for operation in instructions.operations):
        return references
    first = references[0]
    if first.output_id is not None:
        turn, _ = parent_of_output(first.output_id)
        for image in references:
            if (
                image.model_id == request.model.id
                and image.output_id is not None
                and parent_of_output(image.output_id)[0] == turn
            ):
                return (image,)
    return (first,)


def _seeds(request: GenerationRequest) -> list[str]:
    """A seed for each picture. A request for one picture with it makes the same picture."""
    first = request.seed if request.seed is not None else _number(request.prompt)
    return [first, *(_number(f"{first}\n{index}") for index in range(1, request.image_count))]


def _number(text: str) -> str:
    return str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))
