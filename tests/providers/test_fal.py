"""fal, against its simulator: requests, reports and deliveries."""

import io
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pictures

from domain.errors import GenerationErrorCode
from domain.generation import GenerationRequest, Mask
from domain.images import Image
from domain.models import ImageFormat, Quality, Resolution
from providers.fal.jobs import FalQueue
from providers.fal.wire import Endpoint
from tests.providers.pictures import (
    Shelf,
    a_reference,
    brightness,
    opened,
)
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS, rows_of
from tests.simulators.fal import KEY
from tests.simulators.fal_models import MODELS as FAL_MODELS

Code = GenerationErrorCode
a_run = VENDORS["fal"].run


async def a_picture(shelf: Shelf, shade: int = 0) -> Image:
    return await a_reference(shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


def test_every_model_of_the_catalogue_can_be_requested() -> None:
    rows = rows_of("fal")

    wires = [row.wire for row in rows if isinstance(row.wire, Endpoint)]
    others = {wire.for_several.name for wire in wires if wire.for_several}
    assert {model.endpoint for model in rows} | others == set(FAL_MODELS)


SEVERAL = {"fal-ai/reve/edit": "fal-ai/reve/remix"}
PAYLOADS: list[Any] = [
    pytest.param(
        a_run(model="img-imagen4-preview", aspect_ratio="3:4", resolution=Resolution.TWO_K),
        {"aspect_ratio": "3:4", "resolution": "2K", "num_images": 1},
        id="Imagen 4",
    ),
    pytest.param(
        a_run(model="img-seedream-v4", aspect_ratio="16:9", image_count=2, seed="1"),
        {
            "image_size": {"width": 1360, "height": 768},
            "num_images": 2,
            "max_images": 1,
            "seed": 1,
        },
        id="Seedream v4",
    ),
    pytest.param(
        a_run(model="img-seedream-v4-edit", aspect_ratio="9:16", resolution=Resolution.TWO_K),
        {"image_size": {"width": 1536, "height": 2720}, "num_images": 1, "max_images": 1},
        id="Seedream v4 Edit",
    ),
    pytest.param(
        a_run(model="img-flux-kontext-pro", aspect_ratio="16:9", format=ImageFormat.PNG, seed="3"),
        {
            "aspect_ratio": "16:9",
            "guidance_scale": 6.5,
            "num_images": 1,
            "output_format": "png",
            "seed": 3,
        },
        id="FLUX Kontext Pro",
    ),
    pytest.param(
        a_run(model="img-gpt-image-1-5", aspect_ratio="4:3", quality=Quality.HIGH, image_count=3),
        {"image_size": "1536x1024", "quality": "high", "num_images": 3},
        id="GPT-Image 1.5",
    ),
    pytest.param(
        a_run(model="img-gpt-image-1-5-edit", aspect_ratio="3:4", format=ImageFormat.WEBP),
        {
            "image_size": "1024x1536",
            "quality": "medium",
            "num_images": 1,
            "output_format": "webp",
        },
        id="GPT-Image 1.5 Edit",
    ),
    pytest.param(
        a_run(model="img-hunyuan-v21", aspect_ratio="16:9", negative_prompt="fog", seed="9"),
        {
            "image_size": "landscape_16_9",
            "num_images": 1,
            "negative_prompt": "fog",
            "seed": 9,
        },
        id="Hunyuan Image 2.1",
    ),
    pytest.param(
        a_run(model="img-hunyuan-v3", image_count=2, format=ImageFormat.JPEG),
        {"image_size": "square_hd", "num_images": 2, "output_format": "jpeg"},
        id="Hunyuan Image 3.0",
    ),
    pytest.param(
        a_run(model="img-wan-v22-a14b", aspect_ratio="9:16", negative_prompt="fog"),
        {"image_size": "portrait_16_9", "negative_prompt": "fog"},
        id="Wan v2.2 A14B",
    ),
    pytest.param(
        a_run(model="img-reve", aspect_ratio="4:3", image_count=4),
        {"aspect_ratio": "4:3", "num_images": 4},
        id="Reve",
    ),
    pytest.param(
        a_run(model="img-reve-edit", aspect_ratio="4:3", image_count=2),
        {"aspect_ratio": "4:3", "num_images": 2},
        id="Reve Edit of several",
    ),
    pytest.param(
        a_run(model="img-nano-banana", aspect_ratio="21:9", image_count=4, seed="7"),
        {"aspect_ratio": "21:9", "num_images": 4, "limit_generations": True, "seed": 7},
        id="Nano Banana",
    ),
    pytest.param(
        a_run(model="img-nano-banana-edit", format=ImageFormat.WEBP),
        {
            "aspect_ratio": "1:1",
            "num_images": 1,
            "limit_generations": True,
            "output_format": "webp",
        },
        id="Nano Banana Edit",
    ),
    pytest.param(
        a_run(model="img-nano-banana-pro", aspect_ratio="5:4", resolution=Resolution.FOUR_K),
        {
            "aspect_ratio": "5:4",
            "resolution": "4K",
            "num_images": 1,
            "limit_generations": True,
        },
        id="Nano Banana Pro",
    ),
    pytest.param(
        a_run(model="img-nano-banana-pro-edit", image_count=2, format=ImageFormat.PNG),
        {
            "aspect_ratio": "1:1",
            "resolution": "1K",
            "num_images": 2,
            "limit_generations": True,
            "output_format": "png",
        },
        id="Nano Banana Pro Edit",
    ),
    pytest.param(
        a_run(
            model="img-seedream-v45",
            aspect_ratio="16:9",
            resolution=Resolution.TWO_K,
            image_count=3,
            seed="2147483647",
        ),
        {
            "image_size": {"width": 2720, "height": 1536},
            "num_images": 3,
            "max_images": 1,
            "seed": 2147483647,
        },
        id="Seedream v4.5",
    ),
    pytest.param(
        a_run(model="img-seedream-v45-edit", aspect_ratio="3:4", resolution=Resolution.FOUR_K),
        {"image_size": {"width": 3536, "height": 4720}, "num_images": 1, "max_images": 1},
        id="Seedream v4.5 Edit",
    ),
    pytest.param(
        a_run(model="img-kling-o1", aspect_ratio="3:2", resolution=Resolution.TWO_K, image_count=4),
        {"aspect_ratio": "3:2", "resolution": "2K", "num_images": 4},
        id="Kling O1",
    ),
    pytest.param(
        a_run(
            model="img-flux-2-max",
            aspect_ratio="9:16",
            format=ImageFormat.JPEG,
            seed="not a number",
        ),
        {"image_size": "portrait_16_9", "output_format": "jpeg", "seed": 514902779},
        id="Flux 2 Max",
    ),
    pytest.param(
        a_run(model="img-flux-2-max-edit", aspect_ratio="4:3", format=ImageFormat.PNG),
        {"image_size": "landscape_4_3", "output_format": "png"},
        id="Flux 2 Max Edit",
    ),
]


@pytest.mark.parametrize(("request_", "expected"), PAYLOADS)
async def test_a_payload_has_exactly_the_fields_of_the_model(
    fal: Played, request_: GenerationRequest, expected: dict[str, object]
) -> None:
    editing = request_.model.min_references > 0
    shades = (0, 200)[: request_.model.max_references]
    references = [await a_picture(fal.shelf, shade) for shade in shades] if editing else []

    await fal.made(replace(request_, references=tuple(references)))

    (entry,) = fal.bill
    sent = dict(entry.payload)
    links = sent.pop("image_urls", None) or [sent.pop("image_url")] if editing else []
    assert entry.endpoint == SEVERAL.get(request_.model.endpoint, request_.model.endpoint)
    if "wan" not in entry.endpoint:
        expected = {"sync_mode": False, **expected}
    assert sent == {"prompt": "A lighthouse", **expected}
    assert len(links) == len(references)
    assert len(set(links)) == len(links)
    assert all(link.startswith("data:image/png;base64,iVBORw0KGgo") for link in links)


async def test_a_mask_is_a_url_in_its_own_field(fal: Played) -> None:
    reference = await a_picture(fal.shelf)
    mask = Mask(await a_picture(fal.shelf, 255), feather=0)
    request = a_run("", reference, model="img-gpt-image-1-5-edit", aspect_ratio="1:1", mask=mask)

    await fal.made(request)

    (entry,) = fal.bill
    link = entry.payload["mask_image_url"]
    picture = Pictures.open(io.BytesIO(b64decode(link.removeprefix("data:image/png;base64,"))))
    assert entry.endpoint == "fal-ai/gpt-image-1.5/edit"
    assert (picture.mode, picture.size) == ("RGBA", (reference.width, reference.height))
    assert len(entry.payload["image_urls"]) == 1


async def test_a_single_image_for_reve_is_edited_and_keeps_its_shape(fal: Played) -> None:
    reference = await a_picture(fal.shelf)

    await fal.made(a_run("", reference, model="img-reve-edit", aspect_ratio="16:9"))

    (entry,) = fal.bill
    link = entry.payload["image_url"]
    assert entry.endpoint == "fal-ai/reve/edit"
    assert entry.payload == {
        "prompt": "A lighthouse",
        "sync_mode": False,
        "num_images": 1,
        "image_url": link,
    }


async def test_a_submission_has_the_key_and_its_maximum_waiting_time(fal: Played) -> None:
    await fal.made(a_run(seconds_left=45.7))

    headers = fal.simulator.seen[0].headers
    assert headers["authorization"] == f"Key {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["x-fal-request-timeout"] == "45"
    assert "x-fal-no-retry" not in headers


async def test_all_calls_about_a_job_omit_the_path_of_the_endpoint(fal: Played) -> None:
    await fal.made(a_run(model="img-seedream-v45", resolution=Resolution.TWO_K))

    submitted, *others = fal.calls
    request_id = fal.bill[0].request_id
    assert submitted == "POST /fal-ai/bytedance/seedream/v4.5/text-to-image"
    assert set(others) == {
        f"GET /fal-ai/bytedance/requests/{request_id}/status",
        f"GET /fal-ai/bytedance/requests/{request_id}",
    }


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("fal-ai/flux-pro/kontext", "fal-ai/flux-pro"),
        ("fal-ai/imagen4/preview", "fal-ai/imagen4"),
        ("workflows/somebody/something/more", "workflows/somebody/something"),
        ("comfy/somebody/something", "comfy/somebody/something"),
    ],
)
def test_the_rule_for_paths_is_that_of_fal(endpoint: str, name: str) -> None:
    job = FalQueue("https://queue.fal.run/").build_job("r1", endpoint=endpoint)

    assert job is not None
    assert job.response_url == f"https://queue.fal.run/{name}/requests/r1"
    assert job.status_url == f"{job.response_url}/status"
    assert job.cancel_url == f"{job.response_url}/cancel"


async def test_a_run_reports_its_states_in_order(fal: Played) -> None:
    witness = Witness()

    delivery = await fal.provider().generate(a_run("position=2 queue=0.2 seconds=0.05"), witness)

    assert witness.kinds[:3] == ["submitting", "submitted", "queued"]
    assert set(witness.kinds[3:]) <= {"queued"}
    assert witness.positions[0] == 2
    assert witness.positions == sorted(set(witness.positions), reverse=True)
    assert Pictures.open(io.BytesIO(delivery.images[0].data)).format == "PNG"
    assert fal.bill[0].billed


async def test_a_running_job_has_queue_position_zero(fal: Played) -> None:
    witness = Witness()

    await fal.provider().generate(a_run("position=5 seconds=0.5"), witness)

    assert witness.positions == [5, 0]


async def test_a_job_that_never_waits_has_no_position(fal: Played) -> None:
    witness = Witness()

    await fal.provider().generate(a_run("seconds=0.05"), witness)

    assert [position for position in witness.positions if position] == []
    assert "progress" not in witness.kinds


async def test_every_picture_has_its_seed(fal: Played) -> None:
    three = await fal.made(a_run("seed=99 images=3", image_count=3, seed="5"))
    sent = await fal.made(a_run(image_count=2, seed="5"))
    unknown = await fal.made(a_run())

    assert [image.seed for image in three.images] == ["99"] * 3
    assert [image.seed for image in sent.images] == ["5"] * 2
    assert [image.seed for image in unknown.images] == [None]
    assert len({image.data for image in three.images}) == 3


async def test_text_sent_with_a_picture_is_returned(fal: Played) -> None:
    silent, talkative = await fal.made(a_run()), await fal.made(a_run("text=Gladly"))

    assert (silent.text, talkative.text) == (None, "Gladly")


@pytest.mark.parametrize("script", ["one", "inside", "inside images=2", "urls=full", "urls=none"])
async def test_other_forms_of_the_same_response_are_read(fal: Played, script: str) -> None:
    delivery = await fal.made(a_run(script, image_count=2))

    assert all(image.data.startswith(b"\x89PNG") for image in delivery.images)
    assert delivery.images


async def test_withheld_pictures_are_omitted(fal: Played) -> None:
    delivery = await fal.made(a_run("black=0,2 images=4", image_count=4))

    means = [brightness(opened(delivery, index)) for index in range(len(delivery.images))]
    assert len(means) == 2
    assert min(means) > 0
