"""OpenAI and Azure, against their simulator: requests, previews and deliveries."""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pictures

from domain.errors import GenerationErrorCode
from domain.generation import GenerationRequest, Mask
from domain.images import Image
from domain.models import ImageFormat, Quality, Resolution
from domain.outputs import Usage
from providers.openai.backends import AzureBackend, OpenAIBackend, Verb
from providers.openai.provider import OpenAIProvider
from providers.vocabulary import word_of
from tests.providers.pictures import Shelf, a_reference, opened
from tests.providers.runs import QUICK, Played, Witness
from tests.providers.vendors import DEPLOYMENTS as OUR_DEPLOYMENTS
from tests.providers.vendors import VENDORS, RemoteProvider, rows_of
from tests.simulators.openai import KEY, TOKENS_PER_PARTIAL, TOKENS_PER_PICTURE
from tests.simulators.openai_models import DEPLOYMENTS

Code = GenerationErrorCode
a_run = VENDORS["openai"].run
run_at_azure = VENDORS["azure"].run


def azure_of(
    openai: Played,
    *,
    api_version: str = "preview",
    deployments: Mapping[str, str] = OUR_DEPLOYMENTS,
) -> RemoteProvider:
    """Azure, on the same simulator."""
    backend = AzureBackend(
        key=KEY, url=openai.url, api_version=api_version, deployments=deployments
    )
    return openai.closing(
        OpenAIProvider(openai.references(), backend, max_concurrent_runs=20, pace=QUICK)
    )


async def a_picture(shelf: Shelf, format: str = "PNG", mode: str = "RGB") -> Image:
    written = io.BytesIO()
    drawn = Pictures.new("RGB", (64, 48), (200, 90, 20))
    if mode == "RGBA":
        drawn.putalpha(Pictures.linear_gradient("L").resize(drawn.size))
    drawn.save(written, format)
    image = await a_reference(shelf, drawn, data=written.getvalue())
    return replace(image, content_type=f"image/{format.lower()}")


def test_every_model_of_the_catalogue_can_be_requested() -> None:
    endpoints = {row.endpoint for row in (*rows_of("openai"), *rows_of("azure"))}

    assert endpoints == set(DEPLOYMENTS.values())


PAYLOADS: list[Any] = [
    pytest.param(
        a_run(model="img-gpt-image-2-5-sunburst", aspect_ratio="21:9", resolution=Resolution.TWO_K),
        {"model": "gpt-image-2.5-sunburst", "size": "3136x1344"},
        id="GPT-Image 2.5 Sunburst",
    ),
    pytest.param(
        a_run(model="img-gpt-image-2-5-sunburst", preview_count=2, quality=Quality.HIGH),
        {
            "model": "gpt-image-2.5-sunburst",
            "quality": "high",
            "stream": True,
            "partial_images": 2,
        },
        id="GPT-Image 2.5 Sunburst with previews",
    ),
    pytest.param(
        a_run(model="img-gpt-image-2-5-flare", size=(816, 2448), format=ImageFormat.WEBP),
        {"model": "gpt-image-2.5-flare", "size": "816x2448", "output_format": "webp"},
        id="GPT-Image 2.5 Flare",
    ),
    pytest.param(
        a_run(model="img-gpt-image-2-5-flare", preview_count=9, image_count=3),
        {"model": "gpt-image-2.5-flare", "n": 3},
        id="no previews of several pictures",
    ),
    pytest.param(
        a_run(model="img-gpt-image-2", aspect_ratio="9:16", format=ImageFormat.JPEG),
        {"model": "gpt-image-2", "size": "768x1360", "output_format": "jpeg"},
        id="GPT-Image 2",
    ),
    pytest.param(
        a_run(model="img-gpt-image-1-5", aspect_ratio="4:3", image_count=4, quality=Quality.HIGH),
        {"model": "gpt-image-1.5", "size": "1536x1024", "n": 4, "quality": "high"},
        id="GPT-Image 1.5",
    ),
    pytest.param(
        a_run(model="img-gpt-image-1-5-edit", aspect_ratio="3:4", preview_count=9),
        {"model": "gpt-image-1.5", "size": "1024x1536", "stream": True, "partial_images": 3},
        id="GPT-Image 1.5 Edit",
    ),
    pytest.param(
        run_at_azure(model="img-gpt-image-1", aspect_ratio="3:4", format=ImageFormat.PNG),
        {"model": "gpt-image-1", "size": "1024x1536", "output_format": "png"},
        id="GPT-Image 1",
    ),
    pytest.param(
        run_at_azure(model="img-gpt-image-1-edit", preview_count=1),
        {"model": "gpt-image-1", "stream": True, "partial_images": 1},
        id="GPT-Image 1 Edit",
    ),
]


WITH_REFERENCES: list[Any] = [
    pytest.param(request, expected, count, id=f"{case.id}, {count} references")
    for case in PAYLOADS
    for request, expected in [case.values]
    for count in (0, 1, 3)
    if request.model.min_references <= count <= request.model.max_references
]


@pytest.mark.parametrize(("request_", "expected", "reference_count"), WITH_REFERENCES)
async def test_a_payload_has_exactly_the_fields_of_the_model(
    openai: Played,
    request_: GenerationRequest,
    expected: dict[str, object],
    reference_count: int,
) -> None:
    references = [await a_picture(openai.shelf) for _ in range(reference_count)]

    asked = replace(request_, references=tuple(references))
    is_azures = request_.model.provider == AzureBackend.provider
    provider = azure_of(openai) if is_azures else openai.provider()
    await provider.generate(asked, Witness())

    (entry,) = openai.bill
    (call,) = openai.calls
    files = entry.payload.get("image[]", [])
    sent = {name: value for name, value in entry.payload.items() if name != "image[]"}
    usual = {"prompt": "A lighthouse", "n": 1, "size": "1024x1024", "quality": "medium"}
    assert sent == {**usual, **expected}
    assert call.endswith("/images/edits" if references else "/images/generations")
    assert [file.split(" ")[:2] for file in files] == [
        [f"{number}.png", "image/png"] for number in range(1, reference_count + 1)
    ]
    assert all(file.endswith(" 89504e47") for file in files)


async def test_a_deployment_can_have_another_name(openai: Played) -> None:
    for model in ("img-gpt-image-2", "img-gpt-image-1-5"):
        await azure_of(openai).generate(a_run(model=model), Witness())

    assert [entry.payload["model"] for entry in openai.bill] == ["our-pictures", "gpt-image-1.5"]


async def test_the_key_is_sent_in_the_header_of_its_platform(openai: Played) -> None:
    await openai.made(a_run())
    await azure_of(openai).generate(a_run(), Witness())

    first, second = (seen.headers for seen in openai.simulator.seen)
    assert first["authorization"] == f"Bearer {KEY}"
    assert first["content-type"] == "application/json"
    assert "api-key" not in first
    assert second["api-key"] == KEY
    assert "authorization" not in second


@pytest.mark.parametrize(
    ("api_version", "url"),
    [
        ("", "/openai/v1/images/edits"),
        ("preview", "/openai/v1/images/edits?api-version=preview"),
        (
            "2025-04-01-preview",
            "/openai/deployments/our%20own/images/edits?api-version=2025-04-01-preview",
        ),
    ],
)
async def test_urls_of_azure_are_correct(openai: Played, api_version: str, url: str) -> None:
    root = "https://here.openai.azure.com"
    backend = AzureBackend(
        key="k", url=f"{root}/", api_version=api_version, deployments={"gpt-image-2": "our own"}
    )

    assert backend.url(Verb.EDIT, "gpt-image-2") == root + url
    written = url.replace("images/edits", "chat/completions")
    assert backend.url(Verb.WRITE, "gpt-image-2") == root + written
    assert backend.model_name("gpt-image-1.5") == "gpt-image-1.5"
    edit = a_run("", await a_picture(openai.shelf), model="img-gpt-image-2", preview_count=1)
    for request in (edit, replace(edit, references=())):
        provider = azure_of(openai, api_version=api_version)
        assert (await provider.generate(request, Witness())).images


def test_urls_of_openai_are_correct() -> None:
    backend = OpenAIBackend(key="k", url="https://api.openai.com/v1/")

    assert (
        backend.url(Verb.GENERATE, "gpt-image-2") == "https://api.openai.com/v1/images/generations"
    )


@pytest.mark.parametrize(
    ("format", "mode", "kind"),
    [
        ("WEBP", "RGB", "jpeg"),
        ("WEBP", "RGBA", "png"),
        ("PNG", "RGBA", "png"),
        ("JPEG", "RGB", "jpeg"),
    ],
)
async def test_azure_receives_the_file_types_it_accepts(
    openai: Played, format: str, mode: str, kind: str
) -> None:
    reference = await a_picture(openai.shelf, format, mode)

    await azure_of(openai).generate(a_run("", reference), Witness())
    await openai.made(a_run("", reference))

    azure, direct = (entry.payload["image[]"][0].split(" ")[:2] for entry in openai.bill)
    assert azure == [f"1.{kind}", f"image/{kind}"]
    assert direct == [f"1.{format.lower()}", f"image/{format.lower()}"]


@pytest.mark.parametrize("azure", [False, True])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
async def test_a_mask_is_sent_with_the_first_reference_in_its_size(
    openai: Played, format: str, azure: bool
) -> None:
    references = [await a_picture(openai.shelf, format) for _ in range(2)]
    mask = Mask(await a_picture(openai.shelf, "JPEG", "L"), feather=3)
    provider = azure_of(openai) if azure else openai.provider()

    await provider.generate(a_run("", *references, mask=mask), Witness())

    assert openai.bill[0].payload["mask"] == "mask.png image/png RGBA as the image"
    assert len(openai.bill[0].payload["image[]"]) == 2


async def test_sixteen_references_keep_their_order(openai: Played) -> None:
    references = [await a_picture(openai.shelf, ("PNG", "JPEG")[n % 2]) for n in range(16)]

    await openai.made(a_run("", *references))

    names = [file.split(" ")[0] for file in openai.bill[0].payload["image[]"]]
    assert names == [f"{n + 1}.{('png', 'jpeg')[n % 2]}" for n in range(16)]


async def test_any_text_can_be_sent_in_a_form(openai: Played) -> None:
    words = 'Ein "Leuchtturm"\r\n--und\r\n\r\nname="n" ☃ '

    await openai.made(a_run("", await a_picture(openai.shelf), words=words))

    assert openai.bill[0].prompt == words


@pytest.mark.parametrize("azure", [False, True])
@pytest.mark.parametrize("edit", [False, True])
async def test_partial_images_are_shown_during_the_run(
    openai: Played, edit: bool, azure: bool
) -> None:
    witness = Witness()
    references = [await a_picture(openai.shelf)] if edit else []
    provider = azure_of(openai) if azure else openai.provider()

    delivery = await provider.generate(a_run("", *references, preview_count=3), witness)

    assert witness.kinds == ["submitting", *["progress", "preview"] * 3]
    assert witness.fractions == [0.25, 0.5, 0.75]
    everything = [*witness.previews, delivery.images[0].data]
    assert len(set(everything)) == 4
    assert all(data.startswith(b"\x89PNG") for data in everything)
    assert len(openai.bill) == 1


async def test_a_preview_is_shown_before_the_picture_arrives(openai: Played) -> None:
    class Waiting(Witness):
        async def preview(self, data: bytes) -> None:
            await super().preview(data)
            raise asyncio.CancelledError

    witness = Waiting()
    with pytest.raises(asyncio.CancelledError):
        await openai.provider().generate(a_run("hang=running", preview_count=1), witness)

    assert len(witness.previews) == 1


@pytest.mark.parametrize(
    ("script", "shown"), [("partials=0", 0), ("partials=1", 1), ("partials=5", 2), ("plain", 0)]
)
async def test_fewer_or_more_partial_images_are_accepted(
    openai: Played, script: str, shown: int
) -> None:
    witness = Witness()

    delivery = await openai.provider().generate(a_run(script, preview_count=2), witness)

    assert len(delivery.images) == 1
    assert len(witness.previews) == shown
    assert all(0 < fraction < 1 for fraction in witness.fractions)


async def test_no_previews_are_paid_for_if_none_are_requested(openai: Played) -> None:
    witness = Witness()

    delivery = await openai.provider().generate(a_run(), witness)

    assert witness.kinds == ["submitting"]
    assert delivery.usage == Usage(40, TOKENS_PER_PICTURE, 40 + TOKENS_PER_PICTURE)


async def test_token_counts_are_reported(openai: Played) -> None:
    streamed = await openai.made(a_run(preview_count=2))
    several = await openai.made(a_run(image_count=3))

    first = TOKENS_PER_PICTURE + 2 * TOKENS_PER_PARTIAL
    assert streamed.usage == Usage(40, first, 40 + first)
    assert several.usage == Usage(40, 3 * TOKENS_PER_PICTURE, 40 + 3 * TOKENS_PER_PICTURE)


@pytest.mark.parametrize("request_of", [{"preview_count": 2}, {"image_count": 3}, {}])
async def test_quality_and_size_are_sent_in_its_own_terms(
    openai: Played, request_of: dict[str, Any]
) -> None:
    delivery = await openai.made(a_run(quality=Quality.HIGH, **request_of))

    assert (delivery.quality, delivery.size) == ("high", "1024x1024")


@pytest.mark.parametrize("value", [None, 3, "", ["high"], "x" * 41, "high\n", "<b>", "§"])
def test_a_value_that_is_not_a_word_is_not_stored(value: object) -> None:
    assert word_of(value) is None


@pytest.mark.parametrize(("script", "count"), [("images=2", 2), ("images=9", 4), ("black=0,2", 2)])
async def test_the_pictures_that_arrived_are_a_delivery(
    openai: Played, script: str, count: int
) -> None:
    delivery = await openai.made(a_run(script, image_count=4))

    assert len(delivery.images) == len({image.data for image in delivery.images}) == count


async def test_a_picture_has_the_requested_shape(openai: Played) -> None:
    wide = await openai.made(a_run(aspect_ratio="16:9", preview_count=1, format=ImageFormat.JPEG))

    picture = opened(wide)
    assert picture.format == "JPEG"
    assert picture.width / picture.height == pytest.approx(16 / 9, abs=0.05)
    assert [image.seed for image in wide.images] == [None]
    assert wide.text is None
