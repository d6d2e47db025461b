"""Replicate, against its simulator: what is asked, and what is told and delivered."""

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pictures
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode
from domain.images import Image
from domain.models import ImageFormat, ImageModel, Resolution
from providers.replicate.wire import MODELS
from tests.official import ask_sdk
from tests.providers.pictures import Shelf, a_colourful_picture, a_reference, opened
from tests.providers.prediction_runs import FLUX, IMAGEN, NANO_BANANA, SEEDREAM, PlayedReplicate
from tests.providers.rows import rows_of
from tests.providers.runs import Witness
from tests.simulators.replicate import KEY
from tests.simulators.replicate_models import MODELS as REPLICATE_MODELS
from tests.simulators.replicate_models import VERSIONS

Code = GenerationErrorCode


async def a_picture(shelf: Shelf, shade: int = 0) -> Image:
    return await a_reference(shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


def test_every_model_can_be_asked_for() -> None:
    assert (
        set(MODELS) == set(REPLICATE_MODELS) == {m.endpoint for m in (FLUX, NANO_BANANA, SEEDREAM)}
    )


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
async def test_inputs_have_the_models_own_fields_and_no_others(
    replicate: PlayedReplicate, asked: dict[str, Any], expected: dict[str, object]
) -> None:
    await replicate.made(replicate.run(**asked))

    (entry,) = replicate.bill
    assert entry.endpoint == asked["model"].endpoint
    assert entry.payload == {"prompt": "A lighthouse", **expected}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("model", [NANO_BANANA, SEEDREAM])
async def test_references_are_sent_as_bytes_in_their_order(
    replicate: PlayedReplicate, model: ImageModel, count: int
) -> None:
    references = [await a_picture(replicate.shelf, shade * 50) for shade in range(count)]

    await replicate.made(replicate.run("", *references, model=model))

    links = replicate.bill[0].payload["image_input"]
    assert len(set(links)) == count
    assert all(link.startswith("data:image/png;base64,iVBORw0KGgo") for link in links)


async def test_a_model_that_takes_no_references_is_never_given_any(
    replicate: PlayedReplicate,
) -> None:
    reference = await a_picture(replicate.shelf)

    failure = await replicate.failed(replicate.run("", reference, model=FLUX))

    assert failure.code is Code.INTERNAL
    assert replicate.calls == []


async def test_references_are_made_to_fit_together(replicate: PlayedReplicate) -> None:
    noise = Pictures.effect_noise((1800, 1800), 80).convert("RGB")
    reference = await a_reference(replicate.shelf, noise)
    assert reference.byte_size > 3_000_000

    await replicate.made(replicate.run("", reference, reference, model=SEEDREAM))

    sent = [int(seen.headers.get("content-length", 0)) for seen in replicate.simulator.seen]
    assert 100_000 < max(sent) < 4_100_000
    links = replicate.bill[0].payload["image_input"]
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)


@pytest.mark.parametrize("model", [FLUX, NANO_BANANA, SEEDREAM])
async def test_all_that_a_row_offers_is_taken(
    replicate: PlayedReplicate, model: ImageModel
) -> None:
    provider = replicate.provider()

    for ratio in model.aspect_ratios:
        for resolution in model.resolutions:
            for kind in (None, *model.formats) if ratio == model.aspect_ratios[0] else (None,):
                asked = replicate.run(
                    model=model,
                    aspect_ratio=str(ratio),
                    resolution=resolution,
                    image_count=model.max_images,
                    format=kind,
                )
                delivery = await provider.generate(asked, Witness())
                assert len(delivery.images) == model.max_images

    assert {entry.outcome for entry in replicate.bill} == {"delivered"}


async def test_a_submission_carries_the_key_and_when_to_give_up(replicate: PlayedReplicate) -> None:
    await replicate.made(replicate.run(seconds_left=45.2))

    headers = replicate.simulator.seen[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["cancel-after"] == "46s"
    assert headers["user-agent"]
    assert "prefer" not in headers


async def test_official_models_have_paths_and_versions_have_names(
    replicate: PlayedReplicate,
) -> None:
    held = f"{FLUX.endpoint}:{VERSIONS[FLUX.endpoint]}"

    await replicate.made(replicate.run(model=FLUX))
    await replicate.made(replicate.run(model=replace(FLUX, endpoint=held)))

    submissions = [call for call in replicate.calls if call.startswith("POST")]
    assert submissions == [
        "POST /v1/models/black-forest-labs/flux-schnell/predictions",
        "POST /v1/predictions",
    ]
    assert [entry.endpoint for entry in replicate.bill] == [FLUX.endpoint] * 2


async def test_a_version_that_is_gone_is_a_retired_model(replicate: PlayedReplicate) -> None:
    gone = replace(FLUX, endpoint=f"{FLUX.endpoint}:{'f' * 64}")

    with capture_logs() as logs:
        failure = await replicate.failed(replicate.run(model=gone))

    assert failure.code is Code.MODEL_RETIRED
    assert "provider does not have the model" in [line["event"] for line in logs]


@pytest.mark.parametrize(
    "shape",
    ["string", "list", "images", "data", "url", "uri", "image", "src", "imageUrl", "list inside"],
)
async def test_links_are_found_in_every_shape_of_an_output(
    replicate: PlayedReplicate, shape: str
) -> None:
    delivery = await replicate.made(replicate.run(f"shape={shape}", format=ImageFormat.PNG))

    assert opened(delivery).format == "PNG"


async def test_pictures_come_in_their_order_with_the_seed_that_was_sent(
    replicate: PlayedReplicate,
) -> None:
    delivery = await replicate.made(replicate.run(image_count=4, seed="5"))

    job = replicate.simulator.jobs[replicate.bill[0].request_id]
    assert [image.data for image in delivery.images] == [job.picture(n) for n in range(4)]
    assert [image.seed for image in delivery.images] == ["5"] * 4


async def test_progress_is_told_as_far_as_the_logs_tell_it(replicate: PlayedReplicate) -> None:
    witness = Witness()

    await replicate.provider().generate(replicate.run("seconds=0.4"), witness)

    assert witness.kinds[:2] == ["submitting", "submitted"]
    assert witness.fractions == sorted(set(witness.fractions))
    assert len(witness.fractions) > 2
    assert all(0 < fraction <= 1 for fraction in witness.fractions)


async def test_a_job_that_is_over_at_once_is_not_asked_about(replicate: PlayedReplicate) -> None:
    await replicate.made(replicate.run("seconds=0"))

    assert [call for call in replicate.calls if call.startswith("GET")] == []


@pytest.mark.parametrize("shape", ["text", "list", "string"])
async def test_an_output_without_a_link_is_no_picture(
    replicate: PlayedReplicate, shape: str
) -> None:
    failure = await replicate.failed(replicate.run(f"images=0 shape={shape}"))

    code = Code.PROVIDER_BAD_RESPONSE if shape == "text" else Code.NO_IMAGE
    assert failure.code is code


async def test_a_job_that_is_asked_about_too_late_has_lost_its_output(
    replicate: PlayedReplicate,
) -> None:
    job = await replicate.crashed(replicate.run("seconds=0.1 removed"))

    failure = await replicate.failed(replicate.run(job=job))

    assert failure.code is Code.TIMED_OUT
    assert "data_removed" in str(failure)


async def test_what_is_not_started_in_time_is_given_up_by_replicate_itself(
    replicate: PlayedReplicate,
) -> None:
    job = await replicate.crashed(replicate.run("hang=queue"))
    replicate.simulator.jobs[job["id"]].entry.start_within = 0.0

    failure = await replicate.failed(replicate.run(job=job))

    assert failure.code is Code.TIMED_OUT
    assert not replicate.bill[0].billed
    assert not any(call.endswith("/cancel") for call in replicate.calls)


@pytest.mark.parametrize("script", ["hang=queue", "hang=running"])
async def test_a_job_can_be_cancelled(replicate: PlayedReplicate, script: str) -> None:
    job = await replicate.crashed(replicate.run(script))

    await replicate.provider().cancel(job)
    failure = await replicate.failed(replicate.run(job=job))

    (entry,) = replicate.bill
    assert entry.cancelled
    assert not entry.billed
    assert failure.code is Code.PROVIDER_UNAVAILABLE


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
async def test_a_failed_run_is_judged_by_its_text(replicate: PlayedReplicate, kind: str) -> None:
    failure = await replicate.failed(replicate.run(f"fail={kind}"))

    assert (failure.code, failure.retryable) == RUN_ENDS[kind]


async def test_words_of_the_prompt_are_no_refusal(replicate: PlayedReplicate) -> None:
    prompt = "A safety poster about NSFW and sensitive things, flagged in red"

    failure = await replicate.failed(replicate.run("fail=words", words=prompt))

    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_a_limit_that_only_the_text_tells_is_waited_for(replicate: PlayedReplicate) -> None:
    failure = await replicate.failed(replicate.run("submit=429"))

    assert getattr(failure, "retry_after_seconds", None) == 2


async def test_the_official_sdk_understands_the_simulator_as_we_do(
    replicate: PlayedReplicate,
) -> None:
    replicate.simulator.play("fail=sensitive", words="refused")
    replicate.simulator.play("seconds=0.4", words="slow")
    replicate.simulator.play("hang=running", words="endless")
    replicate.simulator.play("submit=429 retry_after=0", words="throttled")

    told = await ask_sdk(
        "replicate", REPLICATE_BASE_URL=replicate.url, REPLICATE_API_TOKEN=KEY, POLL="0.05"
    )

    ours = await replicate.made(replicate.run(image_count=2, format=ImageFormat.PNG))
    assert len(told["delivered"]) == len(ours.images) == 2
    assert all(signature == "89504e47" for signature in told["delivered"])
    assert told["one"] == "ffd8ff"
    assert told["slow"]["status"] == "succeeded"
    assert 0 < told["slow"]["progress"] <= 1
    assert told["waited"] == "succeeded"
    assert "E005" in told["refused"]
    assert told["cancelled"] == "canceled"
    assert told["unknown_model"] == 404
    assert told["bad_input"]["status"] == 422
    assert told["throttled"] == 429
    assert told["bad_key"] == 401
    failure = await replicate.failed(replicate.run(words="refused"))
    assert failure.code is Code.CONTENT_REFUSED


async def test_its_name_is_that_of_the_catalogue(replicate: PlayedReplicate) -> None:
    provider = replicate.provider()

    assert provider.name == FLUX.provider
    assert provider.max_concurrent_runs == 20


async def test_a_colourful_reference_arrives_as_it_is(replicate: PlayedReplicate) -> None:
    reference = await a_reference(replicate.shelf, a_colourful_picture((16, 16)))

    delivery = await replicate.made(replicate.run("", reference, model=NANO_BANANA))

    assert opened(delivery).format == "JPEG"


@pytest.mark.parametrize(
    "row", [*rows_of("replicate"), *rows_of("wavespeed")], ids=lambda row: row.id
)
def test_a_row_promises_what_is_tested(row: ImageModel) -> None:
    tested = {model.endpoint: model for model in (FLUX, IMAGEN, NANO_BANANA, SEEDREAM)}

    model = tested[row.endpoint]
    assert set(row.aspect_ratios) == set(model.aspect_ratios)
    assert set(row.resolutions) == set(model.resolutions)
    assert set(row.formats) == set(model.formats)
    assert (row.images_per_run or row.max_images) == model.max_images
    assert row.supports_seed == model.supports_seed
    assert row.max_references in (0, model.max_references)
