"""Mutated responses: if a provider's own client finds an image, we deliver it.

The seed is printed; `DARKROOM_TEST_SEED` repeats it, and `DARKROOM_TEST_ANSWERS` says how many
answers there are for each provider.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import References
from storage.imaging.threaded import ThreadedImageProcessor
from tests.official import LIMIT_SECONDS, ask_sdk
from tests.providers.pictures import Shelf
from tests.providers.runs import Witness, ends_of
from tests.providers.vendors import VENDORS, RemoteProvider, Vendor
from tests.resilience.scale import SEED
from tests.simulators.canned_responses import CannedResponses, file_of
from tests.simulators.mutations import Maker, Mutated, picture_of

COUNT: Final = int(os.environ.get("DARKROOM_TEST_ANSWERS", "100"))
QUICK: Final = Pace(first=0.001, longest=0.02, growth=1.5, spare=0.02, last_words=0.1)
AT_ONCE: Final = 8
ERRORS: Final = min(100, COUNT // 2)
SECONDS_LEFT: Final = 180.0
"""On a busy machine, a body in hundreds of chunks takes its time."""
HOPELESS_SECONDS_LEFT: Final = 0.15
"""For answers in which the client finds nothing: they may never end."""
PICTURES: Final = 3
"""In one answer, at most."""
IMAGES: Final = 10
"""Enough that no picture is omitted if one is delivered several times."""
FLAGGED: Final = {"fal", "wavespeed"}
"""Providers whose flag on an image withholds it, which their clients leave to their users."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", VENDORS)
async def test_a_picture_that_the_official_client_reads_is_delivered(name: str) -> None:
    vendor = VENDORS[name]
    async with _opened(vendor) as (provider, served, url):
        made = [Maker(name, url, SEED).make(number) for number in range(COUNT)]
        served.exchanges = [one.exchange for one in made]
        endpoint = vendor.row().endpoint or vendor.row().id
        streamed = "".join(str(int(one.is_streamed)) for one in made)
        # A client that hangs is ended; one on a busy machine is not.
        limit = LIMIT_SECONDS + COUNT
        found = await ask_sdk(
            "answers", name, url, "a-key", endpoint, streamed, limit_seconds=limit
        )
        served.forget()
        places = asyncio.Semaphore(AT_ONCE)

        async def find_loss(number: int) -> str:
            async with places:
                return await _find_loss(provider, vendor, made[number], found[number])

        lost = await asyncio.gather(*map(find_loss, range(COUNT)))

    print(f"\n{name}: DARKROOM_TEST_SEED={SEED}, {sum(map(bool, found))} of {COUNT} have an image")  # noqa: T201
    losses = [one for one in lost if one]
    assert not losses, f"DARKROOM_TEST_SEED={SEED}: {len(losses)} lost\n" + "\n".join(losses[:20])
    # Many must have one, or nothing is proved; google-genai is the strictest.
    assert sum(map(bool, found)) > COUNT * 0.1


@pytest.mark.parametrize("name", VENDORS)
async def test_an_unusual_error_is_a_failure_and_raises_nothing_else(name: str) -> None:
    vendor = VENDORS[name]
    async with _opened(vendor) as (provider, served, url):
        made = [Maker(name, url, SEED).make_error(number) for number in range(ERRORS)]
        served.exchanges = [one.exchange for one in made]
        requests = [
            vendor.run(words=f"exchange {number}", seconds_left=HOPELESS_SECONDS_LEFT)
            for number in range(ERRORS)
        ]
        ends = await ends_of(provider, requests)

    for mutated, end in zip(made, ends, strict=True):
        said = f"DARKROOM_TEST_SEED={SEED}: {end!r}; {mutated.number}, {mutated.changes}"
        assert isinstance(end, GenerationFailed), said


@asynccontextmanager
async def _opened(vendor: Vendor) -> AsyncIterator[tuple[RemoteProvider, CannedResponses, str]]:
    """A provider whose answers are canned, and their URL."""
    served, image_processor = CannedResponses(), ThreadedImageProcessor(threads=1)
    async with served.served() as url:
        provider = vendor.open(
            References(Shelf(), image_processor),
            key="a-key",
            url=f"{url}{vendor.path}",
            max_concurrent_runs=AT_ONCE,
            pace=QUICK,
            max_bytes=MAX_BYTES,
        )
        try:
            yield provider, served, url
        finally:
            await provider.aclose()
            await image_processor.aclose()


def _pictures_of(number: int, found: Sequence[str]) -> set[str]:
    """Digests of the pictures that the client has found: it gives digests, and numbers of files.

    An answer also has pictures that are not its result, such as those of a thought. A client takes
    one for a result where the answer says so.
    """
    inside = {_digest(picture_of(number, index)) for index in range(PICTURES)}
    files = {one for one in found if one.isdecimal() and len(one) < 3}
    return {_digest(file_of(number, int(one))) for one in files} | inside.intersection(found)


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()


async def _find_loss(
    provider: RemoteProvider, vendor: Vendor, mutated: Mutated, found: Sequence[str]
) -> str:
    """What the client has found and we have not; empty if nothing is missing."""
    expected = _pictures_of(mutated.number, found)
    run = vendor.run_streamed if mutated.is_streamed else vendor.run
    request = run(
        words=f"exchange {mutated.number}",
        image_count=1 if mutated.is_streamed else IMAGES,
        seconds_left=SECONDS_LEFT if expected else HOPELESS_SECONDS_LEFT,
    )
    said = f"{mutated.number}: {', '.join(mutated.changes)}"
    try:
        delivery = await provider.generate(request, Witness())
    except GenerationFailed as failure:
        is_flagged = failure.code is GenerationErrorCode.CONTENT_REFUSED and vendor.name in FLAGGED
        return f"{failure}; {said}" if expected and not is_flagged else ""
    delivered = {_digest(image.data) for image in delivery.images}
    assert delivered
    (delivery.text or "").encode()
    needs_all = not mutated.is_streamed and vendor.name not in FLAGGED
    is_lost = not (expected <= delivered if needs_all else delivered & {*expected, *found})
    return f"other images delivered; {said}" if expected and is_lost else ""
