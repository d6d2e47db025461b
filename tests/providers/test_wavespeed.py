"""Wavespeed, against its simulator: requests, reports and deliveries."""

from typing import Any

import httpx2
import pytest

from domain.errors import GenerationErrorCode, NotSubmitted
from providers.safe_http import Sources
from providers.wavespeed.provider import RESULT_HOSTS, URL
from tests.official import ask_sdk
from tests.providers.pictures import a_colourful_picture, a_reference, brightness, opened
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS
from tests.simulators.wavespeed import KEY

Code = GenerationErrorCode
a_run = VENDORS["wavespeed"].run


PAYLOADS: list[Any] = [
    pytest.param({"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9", "num_images": 1}, id="plain"),
    pytest.param(
        {"image_count": 4, "seed": "7", "negative_prompt": "rain"},
        {"aspect_ratio": "1:1", "num_images": 4, "seed": 7, "negative_prompt": "rain"},
        id="all that it can",
    ),
    pytest.param(
        {"seed": "not a number"},
        {"aspect_ratio": "1:1", "num_images": 1, "seed": 514902779},
        id="a seed in words",
    ),
]


@pytest.mark.parametrize(("asked", "expected"), PAYLOADS)
async def test_a_payload_has_exactly_the_fields_of_the_model(
    wavespeed: Played, asked: dict[str, Any], expected: dict[str, object]
) -> None:
    await wavespeed.made(a_run(**asked))

    (entry,) = wavespeed.bill
    assert entry.endpoint == "google/imagen3"
    fixed = {"prompt": "A lighthouse", "enable_base64_output": False}
    assert entry.payload == fixed | expected


async def test_a_submission_has_the_key_and_returns_a_result(
    wavespeed: Played,
) -> None:
    witness = Witness()

    await wavespeed.provider().generate(a_run("seconds=0.05"), witness)

    job_id = wavespeed.bill[0].request_id
    submitted, *others = wavespeed.calls
    assert submitted == "POST /api/v3/google/imagen3"
    assert set(others) == {f"GET /api/v3/predictions/{job_id}/result"}
    assert witness.events == [("submitting", None), ("submitted", {"id": job_id})]
    assert wavespeed.simulator.seen[0].headers["authorization"] == f"Bearer {KEY}"


async def test_references_are_never_sent(wavespeed: Played) -> None:
    reference = await a_reference(wavespeed.shelf, a_colourful_picture((8, 8)))

    failure = await wavespeed.failed(a_run("", reference))

    assert failure.code is Code.INTERNAL
    assert wavespeed.calls == []


async def test_outputs_can_be_objects(wavespeed: Played) -> None:
    assert opened(await wavespeed.made(a_run("shape=object"))).format == "PNG"


async def test_withheld_pictures_are_omitted(wavespeed: Played) -> None:
    delivery = await wavespeed.made(a_run("black=0,2", image_count=4))

    means = [brightness(opened(delivery, index)) for index in range(len(delivery.images))]
    assert len(means) == 2
    assert min(means) > 0


async def test_if_all_pictures_were_withheld_it_is_a_refusal(wavespeed: Played) -> None:
    failure = await wavespeed.failed(a_run("black=all", image_count=2))

    assert (failure.code, failure.retryable) == (Code.CONTENT_REFUSED, False)


RUN_ENDS: dict[str, tuple[Code, bool]] = {
    "1200": (Code.CONTENT_REFUSED, False),
    "1400": (Code.PROVIDER_REJECTED_INPUT, False),
    "1401": (Code.PROVIDER_REJECTED_INPUT, False),
    "1402": (Code.PROVIDER_REJECTED_INPUT, False),
    "1403": (Code.PROVIDER_UNAVAILABLE, True),
    "1405": (Code.PROVIDER_UNAVAILABLE, True),
    "5000": (Code.PROVIDER_UNAVAILABLE, True),
    "5003": (Code.PROVIDER_UNAVAILABLE, True),
    "5004": (Code.TIMED_OUT, True),
    "flagged": (Code.CONTENT_REFUSED, False),
    "words": (Code.PROVIDER_UNAVAILABLE, True),
    "cancelled": (Code.PROVIDER_UNAVAILABLE, True),
    "deleted": (Code.PROVIDER_UNAVAILABLE, True),
    "timeout": (Code.TIMED_OUT, True),
}


@pytest.mark.parametrize("kind", sorted(RUN_ENDS))
async def test_a_failed_prediction_is_classified_by_its_code(wavespeed: Played, kind: str) -> None:
    failure = await wavespeed.failed(a_run(f"fail={kind}"))

    assert (failure.code, failure.retryable) == RUN_ENDS[kind]


async def test_words_of_the_prompt_in_an_error_are_no_refusal(wavespeed: Played) -> None:
    prompt = "A safety poster about NSFW and sensitive things, flagged in red"

    failure = await wavespeed.failed(a_run("fail=words", words=prompt))

    assert failure.code is Code.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize(
    ("script", "code", "certain"),
    [
        ("submit=400in200", Code.PROVIDER_REJECTED_INPUT, False),
        ("submit=401in200", Code.PROVIDER_AUTHENTICATION, False),
        ("submit=404in200", Code.MODEL_RETIRED, False),
        ("submit=429in200", Code.PROVIDER_RATE_LIMITED, True),
        ("submit=503in200", Code.PROVIDER_UNAVAILABLE, True),
        ("taken submit=502in200", Code.OUTCOME_UNKNOWN, False),
        ("status=401in200", Code.PROVIDER_AUTHENTICATION, False),
        ("status=404in200", Code.OUTCOME_UNKNOWN, False),
    ],
)
async def test_an_error_inside_a_200_is_an_error(
    wavespeed: Played, script: str, code: Code, certain: bool
) -> None:
    failure = await wavespeed.failed(a_run(f"{script} seconds=0.1"))

    assert failure.code is code
    assert isinstance(failure, NotSubmitted) is certain


@pytest.mark.parametrize("fault", ["500", "503", "504", "500in200", "503in200", "504in200"])
async def test_a_job_named_in_an_error_is_polled(wavespeed: Played, fault: str) -> None:
    witness = Witness()

    delivery = await wavespeed.provider().generate(a_run(f"taken names submit={fault}"), witness)

    assert len(delivery.images) == len(wavespeed.bill) == 1
    assert witness.kinds == ["submitting", "submitted"]


async def test_a_transient_error_inside_a_200_is_retried(wavespeed: Played) -> None:
    delivery = await wavespeed.made(a_run("status=429in200x2,503in200x2 seconds=0.01"))

    assert delivery.images


async def test_a_job_cannot_be_cancelled_and_no_request_is_sent(wavespeed: Played) -> None:
    job = await wavespeed.crashed(a_run("hang=running"))
    before = len(wavespeed.calls)

    await wavespeed.provider().cancel(job)

    assert len(wavespeed.calls) == before


@pytest.mark.parametrize(
    ("link", "allowed"),
    [
        ("https://static.wavespeed.ai/a.png", True),
        ("https://d1q70pf5vjeyhc.cloudfront.net/predictions/a/1.png", True),
        ("https://anybody.cloudfront.net/a.png", False),
        ("https://wavespeed.ai.evil.example/a.png", False),
    ],
)
def test_results_are_downloaded_from_known_hosts_only(link: str, allowed: bool) -> None:
    assert Sources.of(*RESULT_HOSTS, base_url=URL).allow(httpx2.URL(link)) is allowed


async def test_the_official_sdk_reads_the_same_from_the_simulator(
    wavespeed: Played,
) -> None:
    wavespeed.simulator.play("fail=1200", words="refused")
    wavespeed.simulator.play("seconds=0.3 status=503x1", words="slow")
    wavespeed.simulator.play("submit=503", words="stumbling")
    wavespeed.simulator.play("fail=timeout", words="endless")

    from_sdk = await ask_sdk("wavespeed", URL=wavespeed.url, WAVESPEED_API_KEY=KEY)

    ours = await wavespeed.made(a_run(image_count=2))
    assert from_sdk["delivered"] == ["89504e47"] * len(ours.images)
    assert from_sdk["slow"] == ["89504e47"]
    assert "failed" in from_sdk["refused"]
    assert "Failed with 1200" in from_sdk["refused"]
    assert "timeout" in from_sdk["endless"]
    assert "HTTP 503" in from_sdk["stumbling"]
    assert "HTTP 400" in from_sdk["bad_input"]
    assert "HTTP 404" in from_sdk["unknown_model"]
    assert "HTTP 401" in from_sdk["bad_key"]
    assert from_sdk["looked_up"]["data"]["status"] == "completed"
    failure = await wavespeed.failed(a_run(words="refused"))
    assert failure.code is Code.CONTENT_REFUSED
