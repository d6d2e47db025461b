"""fal's answers that do not go well: what each means, and that nothing of ours gets into a log.

The names of the cases are the words of the table of what vendors may answer.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.models import AspectRatio
from tests.providers.fal_runs import PlayedFal, a_run, crashed_run
from tests.providers.runs import QUICK, Witness, end_of, processed
from tests.serving import free_port
from tests.simulators.fal import KEY
from tests.simulators.fal_answers import FAILURES

Code = GenerationErrorCode
SMALL_LIMIT = 200_000

ENDS: list[Any] = [
    pytest.param("result=html", Code.PROVIDER_BAD_RESPONSE, id="200 with HTML"),
    pytest.param("result=empty", Code.PROVIDER_BAD_RESPONSE, id="200, empty"),
    pytest.param("result=list", Code.PROVIDER_BAD_RESPONSE, id="200, not an object"),
    pytest.param("result=nothing", Code.PROVIDER_BAD_RESPONSE, id="200, missing fields"),
    pytest.param("bare", Code.PROVIDER_BAD_RESPONSE, id="200, images without links"),
    pytest.param("result=detail", Code.PROVIDER_BAD_RESPONSE, id="200, an error inside"),
    pytest.param("file=html", Code.PROVIDER_BAD_RESPONSE, id="image/png that is HTML"),
    pytest.param("file=svg", Code.PROVIDER_BAD_RESPONSE, id="image/png that is SVG"),
    pytest.param("file=short", Code.PROVIDER_BAD_RESPONSE, id="image/png that is truncated"),
    pytest.param("file=empty", Code.PROVIDER_BAD_RESPONSE, id="image/png that is empty"),
    pytest.param("file=drop", Code.PROVIDER_BAD_RESPONSE, id="image/png that is cut off"),
    pytest.param("result=huge", Code.PROVIDER_BAD_RESPONSE, id="body beyond the limit"),
    pytest.param("file=huge", Code.PROVIDER_BAD_RESPONSE, id="endless chunks"),
    pytest.param("bytes=200001", Code.PROVIDER_BAD_RESPONSE, id="image beyond the limit"),
    pytest.param("result=gzip", Code.PROVIDER_BAD_RESPONSE, id="body that is a gzip bomb"),
    pytest.param("result=broken", Code.PROVIDER_BAD_RESPONSE, id="body that is no gzip"),
    pytest.param("file=gzip", Code.PROVIDER_BAD_RESPONSE, id="image that is a gzip bomb"),
    pytest.param("status=html", Code.PROVIDER_BAD_RESPONSE, id="status with HTML"),
    pytest.param("status=empty", Code.PROVIDER_BAD_RESPONSE, id="status, empty"),
    pytest.param("status=nothing", Code.PROVIDER_BAD_RESPONSE, id="status, missing fields"),
    pytest.param("status=huge", Code.PROVIDER_BAD_RESPONSE, id="status beyond the limit"),
    pytest.param("status=gzip", Code.PROVIDER_BAD_RESPONSE, id="status that is a gzip bomb"),
    pytest.param("submit=401", Code.PROVIDER_AUTHENTICATION, id="401"),
    pytest.param("submit=402", Code.PROVIDER_AUTHENTICATION, id="402"),
    pytest.param("submit=403", Code.PROVIDER_AUTHENTICATION, id="403"),
    pytest.param("status=403", Code.PROVIDER_AUTHENTICATION, id="403 of the status"),
    pytest.param("result=401", Code.PROVIDER_AUTHENTICATION, id="401 of the result"),
    pytest.param("refuse", Code.CONTENT_REFUSED, id="refused for content"),
    pytest.param("refuse quiet", Code.CONTENT_REFUSED, id="refused, the status says nothing"),
    pytest.param("black=all images=2", Code.CONTENT_REFUSED, id="black image with the NSFW flag"),
    pytest.param("submit=404", Code.MODEL_RETIRED, id="404 of the model"),
    pytest.param("submit=410", Code.MODEL_RETIRED, id="410 of the model"),
    pytest.param("result=404", Code.MODEL_RETIRED, id="404 of the result"),
    pytest.param("status=404", Code.OUTCOME_UNKNOWN, id="404 of the job"),
    pytest.param("status=410", Code.OUTCOME_UNKNOWN, id="410 of the job"),
    pytest.param("submit=400", Code.PROVIDER_REJECTED_INPUT, id="400"),
    pytest.param("submit=413", Code.PROVIDER_REJECTED_INPUT, id="413"),
    pytest.param("submit=422", Code.PROVIDER_REJECTED_INPUT, id="422"),
    pytest.param("fail=words", Code.PROVIDER_REJECTED_INPUT, id="422 in words only"),
    pytest.param("images=0", Code.NO_IMAGE, id="answered, but without an image"),
    pytest.param("fail=no_media_generated", Code.NO_IMAGE, id="no media generated"),
    pytest.param("link=https://evil.example/a.png", Code.PROVIDER_BAD_RESPONSE, id="another host"),
    pytest.param("link=http://10.0.0.1/a.png", Code.PROVIDER_BAD_RESPONSE, id="private address"),
    pytest.param("link=file:///etc/passwd", Code.PROVIDER_BAD_RESPONSE, id="file:"),
    pytest.param("file=across", Code.PROVIDER_BAD_RESPONSE, id="redirect across hosts"),
    pytest.param("file=loop", Code.PROVIDER_BAD_RESPONSE, id="redirects without end"),
]


@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_an_answer_of_the_vendors(fal: PlayedFal, script: str, code: Code) -> None:
    provider = fal.provider(max_bytes=SMALL_LIMIT)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, a_run(script, image_count=2))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    assert len([call for call in fal.calls if call.startswith("POST")]) == 1
    if code in (Code.CONTENT_REFUSED, Code.MODEL_RETIRED, Code.PROVIDER_AUTHENTICATION):
        assert not failed.value.retryable


@pytest.mark.parametrize(
    ("script", "code", "wait"),
    [
        ("submit=429", Code.PROVIDER_RATE_LIMITED, None),
        ("submit=429 retry_after=7", Code.PROVIDER_RATE_LIMITED, 7),
        ("submit=429 retry_after=@9", Code.PROVIDER_RATE_LIMITED, 9),
        ("submit=500", Code.PROVIDER_UNAVAILABLE, None),
        ("submit=503html", Code.PROVIDER_UNAVAILABLE, None),
        ("submit=503 retry_after=30", Code.PROVIDER_UNAVAILABLE, 30),
        ("submit=529", Code.PROVIDER_UNAVAILABLE, None),
    ],
)
async def test_a_submission_that_was_not_taken_may_be_repeated(
    fal: PlayedFal, script: str, code: Code, wait: float | None
) -> None:
    witness = Witness()

    failure = await fal.failed(a_run(script), observer=witness)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is code
    assert failure.retry_after_seconds == (wait and pytest.approx(wait, abs=2))
    assert witness.kinds == ["submitting"]
    assert fal.bill == []


async def test_a_submission_that_could_not_be_connected_may_be_repeated(fal: PlayedFal) -> None:
    nobody = fal.provider(url=f"http://127.0.0.1:{free_port()}")

    failure = await fal.failed(a_run(), provider=nobody)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_it_is_taken_when_it_is_repeated(fal: PlayedFal) -> None:
    provider = fal.provider()

    await fal.failed(a_run("stumble"), provider=provider)
    delivery = await provider.generate(a_run("stumble"), Witness())

    assert len(delivery.images) == 1
    assert len(fal.bill) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"taken submit={answer}", id=f"submit: {answer}")
        for answer in (
            *("408", "499", "502", "502html", "504", "504html", "524", "520", "501", "302", "200"),
            *("html", "empty", "nothing", "list", "detail", "huge", "gzip", "broken", "drop"),
        )
    ]
    + [
        pytest.param("cut=0", id="submit: the line is cut before the answer"),
        pytest.param("cut=100", id="submit: the line is cut within the answer"),
        pytest.param("silent", id="submit: read time-out"),
    ],
)
async def test_a_submission_whose_answer_says_nothing_has_an_unknown_outcome(
    fal: PlayedFal, script: str
) -> None:
    witness = Witness()
    impatient = fal.provider(pace=replace(QUICK, submit=1.0))

    failure = await fal.failed(a_run(script), provider=impatient, observer=witness)

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert failure.retryable
    assert not isinstance(failure, NotSubmitted)
    assert witness.kinds == ["submitting"]
    assert len(fal.bill) == 1


async def test_an_answer_that_is_cut_at_any_byte_is_never_submitted_again(fal: PlayedFal) -> None:
    provider = fal.provider()
    ends: list[object] = []

    while None not in ends:
        ends.append(await end_of(provider, a_run(f"cut={len(ends)}")))

    assert len(ends) > 500  # an answer has a head, and three addresses
    assert set(ends[:-1]) == {Code.OUTCOME_UNKNOWN}
    assert len(fal.bill) == len(ends)


@pytest.mark.parametrize("answer", ["500", "503html", "502", "504html", "524", "html", "nothing"])
async def test_a_job_that_is_only_named_in_the_answers_head_is_followed(
    fal: PlayedFal, answer: str
) -> None:
    witness = Witness()

    delivery = await fal.provider().generate(a_run(f"taken names submit={answer}"), witness)

    assert len(delivery.images) == 1
    assert witness.kinds[:2] == ["submitting", "submitted"]
    assert len(fal.bill) == 1


async def test_where_the_named_job_cannot_be_asked_about_the_outcome_is_unknown(
    fal: PlayedFal,
) -> None:
    failure = await fal.failed(a_run("taken names submit=503 status=500"))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert not isinstance(failure, NotSubmitted)


@pytest.mark.parametrize(
    "fault", ["408", "409", "429", "500", "502html", "503", "504", "529", "drop"]
)
@pytest.mark.parametrize("what", ["status", "result"])
async def test_trouble_on_the_way_to_a_job_is_waited_out(
    fal: PlayedFal, what: str, fault: str
) -> None:
    delivery = await fal.made(a_run(f"{what}={fault}x3 retry_after=0"))

    assert len(delivery.images) == 1
    assert len(fal.bill) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        *("status=html", "status=empty", "status=nothing", "status=list", "status=huge"),
        *("result=html", "result=empty", "result=list", "result=400", "file=503", "file=drop"),
        *("status=404", "status=strange"),
    ],
)
async def test_a_little_nonsense_does_not_lose_a_job(fal: PlayedFal, nonsense: str) -> None:
    delivery = await fal.provider(max_bytes=SMALL_LIMIT).generate(a_run(f"{nonsense}x3"), Witness())

    assert len(delivery.images) == 1
    assert len(fal.bill) == 1


async def test_a_wish_to_wait_is_obeyed(fal: PlayedFal) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    await fal.made(a_run("status=429x1 retry_after=1"))

    assert loop.time() - started >= 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param(
            "status=429 retry_after=60 seconds=60", Code.PROVIDER_RATE_LIMITED, id="429 to the end"
        ),
        pytest.param(
            "status=503 retry_after=60 seconds=60", Code.PROVIDER_UNAVAILABLE, id="503 to the end"
        ),
        pytest.param(
            "status=drop seconds=60", Code.PROVIDER_UNAVAILABLE, id="dropped lines to the end"
        ),
        pytest.param("result=502html", Code.PROVIDER_UNAVAILABLE, id="no result to the end"),
        pytest.param("hang=queue", Code.TIMED_OUT, id="never started"),
        pytest.param("hang=running", Code.TIMED_OUT, id="never ends"),
        pytest.param("status=strange seconds=60", Code.TIMED_OUT, id="an unknown status"),
    ],
)
async def test_what_outlasts_the_deadline_ends_at_it(
    fal: PlayedFal, script: str, code: Code
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    failure = await fal.failed(a_run(script, seconds_left=1.0))

    assert failure.code is code
    assert failure.retryable
    assert 0.8 < loop.time() - started < 15
    # What may be going on is cancelled. fal may have dropped by itself what it had not started.
    assert fal.bill[0].cancelled or fal.bill[0].outcome in ("delivered", "expired")


async def test_a_provider_that_falls_silent_is_given_up_at_the_deadline(fal: PlayedFal) -> None:
    provider = fal.provider(pace=replace(QUICK, call=0.2))

    failure = await fal.failed(
        a_run("status=silent seconds=60", seconds_left=1.0), provider=provider
    )

    assert failure.code is Code.PROVIDER_UNAVAILABLE
    assert fal.bill[0].cancelled


async def test_a_call_that_only_the_deadline_cuts_short_is_no_trouble(fal: PlayedFal) -> None:
    failure = await fal.failed(a_run("status=silent seconds=60", seconds_left=1.0))

    assert failure.code is Code.TIMED_OUT


async def test_a_download_that_the_deadline_ends_is_a_failure(fal: PlayedFal) -> None:
    failure = await fal.failed(
        a_run("file=503", seconds_left=0.3),
        provider=fal.provider(pace=replace(QUICK, first=0.2, longest=0.2)),
    )

    assert failure.code in (Code.TIMED_OUT, Code.PROVIDER_BAD_RESPONSE)


@pytest.mark.parametrize("nonsense", ["status=html", "status=404", "status=403"])
async def test_a_job_that_cannot_be_followed_is_cancelled(fal: PlayedFal, nonsense: str) -> None:
    await fal.failed(a_run(f"{nonsense} hang=running"))

    assert fal.bill[0].cancelled


async def test_a_run_without_any_time_left_asks_nobody(fal: PlayedFal) -> None:
    witness = Witness()

    failure = await fal.failed(a_run(seconds_left=0), observer=witness)

    assert failure.code is Code.TIMED_OUT
    assert witness.kinds == fal.calls == []


async def test_a_job_is_still_asked_about_when_hardly_any_time_is_left(fal: PlayedFal) -> None:
    job = await crashed_run(fal, "seconds=0")

    assert (await fal.provider().generate(a_run(job=job, seconds_left=1.0), Witness())).images


async def test_a_job_that_was_not_started_in_time_is_dropped_and_free(fal: PlayedFal) -> None:
    fal.simulator.play("hang=queue")
    provider = fal.provider()
    run = asyncio.create_task(provider.generate(a_run(seconds_left=2), Witness()))
    # What fal drops by itself is not waited for until our own deadline.
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
async def test_every_type_of_error_has_its_meaning(fal: PlayedFal, kind: str, quiet: str) -> None:
    failure = await fal.failed(a_run(f"fail={kind} {quiet}"))

    assert (failure.code, failure.retryable) == MEANINGS[kind]
    # What a job ended with is not asked for again and again.
    assert len([call for call in fal.calls if "/status" not in call]) == 2


async def test_what_we_ask_wrongly_is_rejected_by_the_simulator(fal: PlayedFal) -> None:
    odd = replace(a_run(), aspect_ratio=AspectRatio(7, 3))

    assert (await fal.failed(odd)).code is Code.PROVIDER_REJECTED_INPUT


@pytest.mark.parametrize(
    ("script", "event"),
    [
        ("submit=401", "provider does not take our key"),
        ("submit=402", "provider does not take our key"),
        ("status=403", "provider does not take our key"),
        ("submit=404", "provider does not have the model"),
    ],
)
async def test_what_the_operator_has_to_mend_is_an_alarm(
    fal: PlayedFal, script: str, event: str
) -> None:
    with capture_logs() as logs:
        await fal.failed(a_run(script))

    assert [line["log_level"] for line in logs if line["event"] == event] == ["error"]


async def test_a_wrong_key_is_an_alarm_that_does_not_tell_it(fal: PlayedFal) -> None:
    with capture_logs() as logs:
        failure = await fal.failed(a_run(), provider=fal.provider(key="id:canary-key"))

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert "canary" not in f"{failure} {failure!r} {logs}"


SAID = [
    *(f"fail={kind}" for kind in sorted(FAILURES)),
    *("submit=500", "submit=422", "submit=404", "submit=401", "taken submit=html", "cut=30"),
    *("status=403", "status=html", "result=html", "result=503", "black=all", "images=0"),
    *("link=https://evil.example/?sig=1", "file=html", "file=across", "file=drop"),
]


@pytest.mark.parametrize("script", SAID)
async def test_neither_prompts_nor_keys_are_told_to_the_log(
    fal: PlayedFal, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    said = "Exactly what the Canary asked for in confidence"
    run = a_run(script, words=said, seconds_left=1)

    with capture_logs() as logs:
        try:
            await fal.provider().generate(run, Witness())
        except GenerationFailed as failure:
            told = [str(failure), repr(failure), str(failure.__cause__)]
        else:
            told = []

    everything = " ".join([*told, str(logs), caplog.text]).lower()
    assert "canary" not in everything
    assert "confidence" not in everything
    assert KEY not in everything
    assert all(len(line) < 1000 for line in told)
