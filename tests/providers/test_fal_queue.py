"""How fal's errors are classified, and the particulars of its queue."""

import asyncio
from typing import Any

import pytest

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS
from tests.simulators.fal_answers import FAILURES

Code = GenerationErrorCode
SMALL_LIMIT = 200_000
a_run = VENDORS["fal"].run

ENDS: list[Any] = [
    pytest.param("result=detail", Code.PROVIDER_BAD_RESPONSE, id="200, an error inside"),
    pytest.param("result=401", Code.PROVIDER_AUTHENTICATION, id="401 of the result"),
    pytest.param("result=404", Code.MODEL_RETIRED, id="404 of the result"),
    pytest.param("refuse quiet", Code.CONTENT_REFUSED, id="refused, the status says nothing"),
    pytest.param("black=all images=2", Code.CONTENT_REFUSED, id="black image with the NSFW flag"),
    pytest.param("fail=words", Code.PROVIDER_REJECTED_INPUT, id="422 in words only"),
]


@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_a_response_of_the_queue_is_classified(fal: Played, script: str, code: Code) -> None:
    failure = await fal.failed(a_run(script, image_count=2))

    assert failure.code is code
    assert len(fal.submissions) == 1


@pytest.mark.parametrize("fault", ["408", "409", "429", "500", "502html", "503", "504", "drop"])
async def test_transient_failures_while_fetching_a_result_are_retried(
    fal: Played, fault: str
) -> None:
    delivery = await fal.made(a_run(f"result={fault}x3 retry_after=0"))

    assert len(delivery.images) == 1
    assert len(fal.bill) == 1


@pytest.mark.parametrize("nonsense", ["html", "empty", "list", "400"])
async def test_a_few_invalid_responses_do_not_lose_a_result(fal: Played, nonsense: str) -> None:
    provider = fal.provider(max_bytes=SMALL_LIMIT)

    assert (await provider.generate(a_run(f"result={nonsense}x3"), Witness())).images


async def test_a_result_that_never_arrives_is_unavailable_at_the_deadline(fal: Played) -> None:
    failure = await fal.failed(a_run("result=502html", seconds_left=1.0))

    assert failure.code is Code.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize("answer", ["500", "503html", "502", "504html", "524", "html", "nothing"])
async def test_a_job_named_only_in_a_response_header_is_polled(fal: Played, answer: str) -> None:
    witness = Witness()

    delivery = await fal.provider().generate(a_run(f"taken names submit={answer}"), witness)

    assert len(delivery.images) == 1
    assert witness.kinds[:2] == ["submitting", "submitted"]
    assert len(fal.bill) == 1


async def test_if_the_named_job_cannot_be_polled_the_outcome_is_unknown(
    fal: Played,
) -> None:
    failure = await fal.failed(a_run("taken names submit=503 status=500"))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert not isinstance(failure, NotSubmitted)


async def test_a_job_not_started_in_time_is_dropped_and_not_billed(fal: Played) -> None:
    fal.simulator.play("hang=queue")
    provider = fal.provider()
    run = asyncio.create_task(provider.generate(a_run(seconds_left=2), Witness()))
    # A job that fal drops is not awaited until our own deadline.
    failure = await asyncio.wait_for(asyncio.gather(run, return_exceptions=True), 20)

    assert isinstance(failure[0], GenerationFailed)
    assert failure[0].code is Code.TIMED_OUT
    assert not fal.bill[0].billed


MEANINGS: dict[str, tuple[Code, bool]] = {
    "internal_server_error": (Code.PROVIDER_UNAVAILABLE, True),
    "generation_timeout": (Code.TIMED_OUT, True),
    "downstream_service_unavailable": (Code.PROVIDER_UNAVAILABLE, True),
    "downstream_service_error": (Code.PROVIDER_UNAVAILABLE, False),
    "content_policy_violation": (Code.CONTENT_REFUSED, False),
    "no_media_generated": (Code.NO_IMAGE, True),
    "image_too_small": (Code.PROVIDER_REJECTED_INPUT, False),
    "image_too_large": (Code.PROVIDER_REJECTED_INPUT, False),
    "image_load_error": (Code.PROVIDER_REJECTED_INPUT, False),
    "unsupported_image_format": (Code.PROVIDER_REJECTED_INPUT, False),
    "file_too_large": (Code.PROVIDER_REJECTED_INPUT, False),
    "face_detection_error": (Code.PROVIDER_REJECTED_INPUT, False),
    "file_download_error": (Code.PROVIDER_REJECTED_INPUT, False),
    "greater_than": (Code.PROVIDER_REJECTED_INPUT, False),
    "literal_error": (Code.PROVIDER_REJECTED_INPUT, False),
    "feature_not_supported": (Code.PROVIDER_REJECTED_INPUT, False),
    "request_timeout": (Code.PROVIDER_UNAVAILABLE, True),
    "startup_timeout": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_scheduling_failure": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_connection_timeout": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_disconnected": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_connection_refused": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_connection_error": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_incomplete_response": (Code.PROVIDER_UNAVAILABLE, True),
    "runner_server_error": (Code.PROVIDER_UNAVAILABLE, True),
    "internal_error": (Code.PROVIDER_UNAVAILABLE, True),
    "client_disconnected": (Code.PROVIDER_UNAVAILABLE, True),
    "client_cancelled": (Code.PROVIDER_UNAVAILABLE, True),
    "bad_request": (Code.PROVIDER_REJECTED_INPUT, False),
    "words": (Code.PROVIDER_REJECTED_INPUT, False),
}


@pytest.mark.parametrize("quiet", ["", "quiet"])
@pytest.mark.parametrize("kind", sorted(FAILURES))
async def test_every_error_type_is_classified(fal: Played, kind: str, quiet: str) -> None:
    failure = await fal.failed(a_run(f"fail={kind} {quiet}"))

    assert (failure.code, failure.retryable) == MEANINGS[kind]
    # The result of an ended job is not requested again and again.
    assert len([call for call in fal.calls if "/status" not in call]) == 2


async def test_a_job_of_which_only_the_id_is_known_is_polled_by_the_path_rule(fal: Played) -> None:
    job = await fal.crashed(a_run("seconds=0.1"))
    rest = {name: job[name] for name in ("endpoint", "request_id")}

    assert (await fal.provider().generate(a_run(job=rest), Witness())).images
