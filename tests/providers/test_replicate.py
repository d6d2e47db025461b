"""Replicate, against its simulator: requests, reports and deliveries."""

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pictures
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode
from domain.images import Image
from domain.models import ImageFormat, ImageModel, Resolution
from tests.official import ask_sdk
from tests.providers.pictures import Shelf, a_colourful_picture, a_reference, opened
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS
from tests.simulators.replicate import KEY
from tests.simulators.replicate_models import VERSIONS

Code = GenerationErrorCode
a_run = VENDORS["replicate"].run
FLUX = VENDORS["replicate"].row("img-flux-schnell")
NANO_BANANA = VENDORS["replicate"].row("img-nano-banana-edit")
SEEDREAM = VENDORS["replicate"].row("img-seedream-v4-edit")


async def a_picture(shelf: Shelf, shade: int = 0) -> Image:
    return await a_reference(shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


INPUTS: list[Any] = [
    pytest.param(
        {"model": FLUX, "image_count": 4, "aspect_ratio": "21:9"},
        {"num_outputs": 4, "aspect_ratio": "21:9"},
        id="Flux Schnell",
    ),
    pytest.param(
        {"model": FLUX, "seed": "7", "format": ImageFormat.JPEG},
        {
            "num_outputs": 1,
            "aspect_ratio": "1:1",
            "seed": 7,
            "go_fast": False,
            "output_format": "jpg",
        },
        id="Flux Schnell with a seed",
    ),
    pytest.param(
        {"model": NANO_BANANA, "aspect_ratio": "4:5", "format": ImageFormat.PNG},
        {"aspect_ratio": "4:5", "output_format": "png"},
        id="Nano Banana",
    ),
    pytest.param(
        {"model": SEEDREAM, "aspect_ratio": "3:2", "resolution": Resolution.FOUR_K},
        {"aspect_ratio": "3:2", "size": "4K", "sequential_image_generation": "disabled"},
        id="Seedream 4",
    ),
]


@pytest.mark.parametrize(("asked", "expected"), INPUTS)
async def test_an_input_has_exactly_the_fields_of_the_model(
    replicate: Played, asked: dict[str, Any], expected: dict[str, object]
) -> None:
    await replicate.made(a_run(**asked))

    (entry,) = replicate.bill
    assert entry.endpoint == asked["model"].endpoint
    assert entry.payload == {"prompt": "A lighthouse", **expected}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("model", [NANO_BANANA, SEEDREAM])
async def test_references_are_sent_as_bytes_in_order(
    replicate: Played, model: ImageModel, count: int
) -> None:
    references = [await a_picture(replicate.shelf, shade * 50) for shade in range(count)]

    await replicate.made(a_run("", *references, model=model))

    links = replicate.bill[0].payload["image_input"]
    assert len(set(links)) == count
    assert all(link.startswith("data:image/png;base64,iVBORw0KGgo") for link in links)


async def test_a_model_without_references_never_receives_any(
    replicate: Played,
) -> None:
    reference = await a_picture(replicate.shelf)

    failure = await replicate.failed(a_run("", reference, model=FLUX))

    assert failure.code is Code.INTERNAL
    assert replicate.calls == []


async def test_references_are_reduced_to_fit_together(replicate: Played) -> None:
    noise = Pictures.effect_noise((1800, 1800), 80).convert("RGB")
    reference = await a_reference(replicate.shelf, noise)
    assert reference.byte_size > 3_000_000

    await replicate.made(a_run("", reference, reference, model=SEEDREAM))

    sent = [int(seen.headers.get("content-length", 0)) for seen in replicate.simulator.seen]
    assert 100_000 < max(sent) < 4_100_000
    links = replicate.bill[0].payload["image_input"]
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)


async def test_a_submission_has_the_key_and_a_deadline(replicate: Played) -> None:
    await replicate.made(a_run(seconds_left=45.2))

    headers = replicate.simulator.seen[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["cancel-after"] == "46s"
    assert headers["user-agent"]
    assert "prefer" not in headers


async def test_official_models_have_paths_and_community_models_have_versions(
    replicate: Played,
) -> None:
    held = f"{FLUX.endpoint}:{VERSIONS[FLUX.endpoint]}"

    await replicate.made(a_run(model=FLUX))
    await replicate.made(a_run(model=replace(FLUX, endpoint=held)))

    submissions = [call for call in replicate.calls if call.startswith("POST")]
    assert submissions == [
        "POST /v1/models/black-forest-labs/flux-schnell/predictions",
        "POST /v1/predictions",
    ]
    assert [entry.endpoint for entry in replicate.bill] == [FLUX.endpoint] * 2


async def test_a_missing_version_is_a_retired_model(replicate: Played) -> None:
    gone = replace(FLUX, endpoint=f"{FLUX.endpoint}:{'f' * 64}")

    with capture_logs() as logs:
        failure = await replicate.failed(a_run(model=gone))

    assert failure.code is Code.MODEL_RETIRED
    assert "provider does not have the model" in [line["event"] for line in logs]


@pytest.mark.parametrize(
    "shape",
    ["string", "list", "images", "data", "url", "uri", "image", "src", "imageUrl", "list inside"],
)
async def test_urls_are_found_in_every_form_of_an_output(replicate: Played, shape: str) -> None:
    delivery = await replicate.made(a_run(f"shape={shape}", format=ImageFormat.PNG))

    assert opened(delivery).format == "PNG"


async def test_pictures_are_returned_in_order_with_the_seed_that_was_sent(
    replicate: Played,
) -> None:
    delivery = await replicate.made(a_run(image_count=4, seed="5"))

    job = replicate.simulator.jobs[replicate.bill[0].request_id]
    assert [image.data for image in delivery.images] == [job.picture(n) for n in range(4)]
    assert [image.seed for image in delivery.images] == ["5"] * 4


async def test_progress_is_read_from_the_logs(replicate: Played) -> None:
    witness = Witness()

    await replicate.provider().generate(a_run("seconds=0.4"), witness)

    assert witness.kinds[:2] == ["submitting", "submitted"]
    assert witness.fractions == sorted(set(witness.fractions))
    assert len(witness.fractions) > 2
    assert all(0 < fraction <= 1 for fraction in witness.fractions)


async def test_a_job_that_has_ended_already_is_not_polled(replicate: Played) -> None:
    await replicate.made(a_run("seconds=0"))

    assert [call for call in replicate.calls if call.startswith("GET")] == []


@pytest.mark.parametrize("shape", ["text", "list", "string"])
async def test_an_output_without_a_url_is_no_picture(replicate: Played, shape: str) -> None:
    failure = await replicate.failed(a_run(f"images=0 shape={shape}"))

    code = Code.PROVIDER_BAD_RESPONSE if shape == "text" else Code.NO_IMAGE
    assert failure.code is code


async def test_a_job_polled_too_late_has_lost_its_output(
    replicate: Played,
) -> None:
    job = await replicate.crashed(a_run("seconds=0.1 removed"))

    failure = await replicate.failed(a_run(job=job))

    assert failure.code is Code.TIMED_OUT
    assert "data_removed" in str(failure)


async def test_replicate_cancels_a_job_that_is_not_started_in_time(
    replicate: Played,
) -> None:
    job = await replicate.crashed(a_run("hang=queue"))
    replicate.simulator.jobs[job["id"]].entry.start_within = 0.0

    failure = await replicate.failed(a_run(job=job))

    assert failure.code is Code.TIMED_OUT
    assert not replicate.bill[0].billed
    assert not any(call.endswith("/cancel") for call in replicate.calls)


RUN_ENDS: dict[str, tuple[Code, bool]] = {
    "sensitive": (Code.CONTENT_REFUSED, False),
    "code": (Code.CONTENT_REFUSED, False),
    "nsfw": (Code.CONTENT_REFUSED, False),
    "policy": (Code.CONTENT_REFUSED, False),
    "unknown": (Code.PROVIDER_UNAVAILABLE, True),
    "memory": (Code.PROVIDER_UNAVAILABLE, True),
    "words": (Code.PROVIDER_UNAVAILABLE, True),
    "nothing": (Code.PROVIDER_UNAVAILABLE, True),
}


@pytest.mark.parametrize("kind", sorted(RUN_ENDS))
async def test_a_failed_run_is_classified_by_its_message(replicate: Played, kind: str) -> None:
    failure = await replicate.failed(a_run(f"fail={kind}"))

    assert (failure.code, failure.retryable) == RUN_ENDS[kind]


async def test_words_of_the_prompt_in_an_error_are_no_refusal(replicate: Played) -> None:
    prompt = "A safety poster about NSFW and sensitive things, flagged in red"

    failure = await replicate.failed(a_run("fail=words", words=prompt))

    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_a_rate_limit_named_only_in_the_message_is_retried(replicate: Played) -> None:
    failure = await replicate.failed(a_run("submit=429"))

    assert getattr(failure, "retry_after_seconds", None) == 2


async def test_the_official_sdk_reads_the_same_from_the_simulator(
    replicate: Played,
) -> None:
    replicate.simulator.play("fail=sensitive", words="refused")
    replicate.simulator.play("seconds=0.4", words="slow")
    replicate.simulator.play("hang=running", words="endless")
    replicate.simulator.play("submit=429 retry_after=0", words="throttled")

    from_sdk = await ask_sdk(
        "replicate", REPLICATE_BASE_URL=replicate.url, REPLICATE_API_TOKEN=KEY, POLL="0.05"
    )

    ours = await replicate.made(a_run(image_count=2, format=ImageFormat.PNG))
    assert len(from_sdk["delivered"]) == len(ours.images) == 2
    assert all(signature == "89504e47" for signature in from_sdk["delivered"])
    assert from_sdk["one"] == "ffd8ff"
    assert from_sdk["slow"]["status"] == "succeeded"
    assert 0 < from_sdk["slow"]["progress"] <= 1
    assert from_sdk["waited"] == "succeeded"
    assert "E005" in from_sdk["refused"]
    assert from_sdk["cancelled"] == "canceled"
    assert from_sdk["unknown_model"] == 404
    assert from_sdk["bad_input"]["status"] == 422
    assert from_sdk["throttled"] == 429
    assert from_sdk["bad_key"] == 401
    failure = await replicate.failed(a_run(words="refused"))
    assert failure.code is Code.CONTENT_REFUSED


async def test_a_colourful_reference_arrives_unchanged(replicate: Played) -> None:
    reference = await a_reference(replicate.shelf, a_colourful_picture((16, 16)))

    delivery = await replicate.made(a_run("", reference, model=NANO_BANANA))

    assert opened(delivery).format == "JPEG"
