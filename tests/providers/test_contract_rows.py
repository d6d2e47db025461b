"""The contract of every model of the catalogue on every route: the provider accepts all that it
offers.

A row that is added to the catalogue is tested here without any further lines.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image as Pictures

from domain.errors import GenerationErrorCode, StoreUnavailable
from domain.generation import GenerationRequest
from domain.images import Image
from domain.models import ImageModel
from tests.providers.pictures import Shelf, a_colourful_picture, a_reference
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS, Vendor, rows_of

Code = GenerationErrorCode

ROWS: list[Any] = [
    pytest.param(name, row, id=f"{row.id} by {name}") for name in VENDORS for row in rows_of(name)
]


async def a_picture(shelf: Shelf, shade: int = 0) -> Image:
    return await a_reference(shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


def everything_of(
    vendor: Vendor, row: ImageModel, *references: Image
) -> Iterator[GenerationRequest]:
    """Requests that use each thing that a row offers."""

    def a_run(**options: Any) -> GenerationRequest:
        return vendor.run("", *references, model=row, **options)

    yield a_run(image_count=row.images_per_run or row.max_images)
    for ratio in row.aspect_ratios:
        for resolution in row.resolutions:
            yield a_run(aspect_ratio=str(ratio), resolution=resolution)
    if row.custom_size is not None:
        sides = row.custom_size.minimum, row.custom_size.maximum
        for size in [(width, height) for width in sides for height in sides]:
            yield a_run(size=size)
    for kind in row.formats:
        yield a_run(format=kind)
    for quality in row.qualities:
        yield a_run(quality=quality)
    if row.supports_seed:
        yield a_run(seed="a word")
    if row.supports_negative_prompt:
        yield a_run(negative_prompt="fog")
    if row.supports_previews:
        yield a_run(preview_count=4)


@pytest.mark.parametrize(("played", "row"), ROWS, indirect=["played"])
async def test_all_options_of_a_model_are_accepted(played: Played, row: ImageModel) -> None:
    provider = played.provider()
    references = [await a_picture(played.shelf) for _ in range(row.min_references)]
    asked = list(everything_of(played.vendor, row, *references))

    for run in asked:
        delivery = await provider.generate(run, Witness())
        assert len(delivery.images) == run.image_count

    assert [entry.outcome for entry in played.bill] == ["delivered"] * len(asked)


@pytest.mark.parametrize(("played", "row"), ROWS, indirect=["played"])
async def test_as_many_references_as_a_model_accepts_are_sent(
    played: Played, row: ImageModel
) -> None:
    references = [await a_picture(played.shelf, shade) for shade in range(row.max_references)]
    counts = sorted({max(1, row.min_references), len(references)}) if references else [0]

    for count in counts:
        await played.made(played.vendor.run("", *references[:count], model=row))

    assert [played.vendor.references(entry.payload) for entry in played.bill] == counts


def _edited(vendor: Vendor) -> ImageModel | None:
    return next((row for row in rows_of(vendor.name) if row.max_references), None)


async def test_an_unavailable_reference_costs_nothing(played: Played) -> None:
    row, witness = _edited(played.vendor), Witness()
    if row is None:
        return
    reference = await a_picture(played.shelf)
    await played.shelf.delete([reference.key])

    with pytest.raises(StoreUnavailable):
        await played.provider().generate(played.vendor.run("", reference, model=row), witness)

    assert witness.kinds == played.calls == []


async def test_references_that_are_too_large_together_are_not_sent(played: Played) -> None:
    row, witness = _edited(played.vendor), Witness()
    if row is None:
        return
    reference = await a_reference(played.shelf, a_colourful_picture())

    failure = await played.failed(
        played.vendor.run("", reference, model=row),
        provider=played.provider(max_together=100),
        observer=witness,
    )

    assert failure.code is Code.PROVIDER_REJECTED_INPUT
    assert witness.kinds == played.calls == []
