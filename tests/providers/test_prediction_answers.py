"""Answers of Wavespeed and Replicate that do not go well, and jobs: what each means for both.

The names of the cases are the words of the table of what vendors may answer.
"""

import asyncio
import logging
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.models import AspectRatio
from providers.safe_http import AT_ONCE
from tests.providers.prediction_runs import Predictions
from tests.providers.runs import QUICK, Witness, end_of, processed
from tests.serving import free_port
from tests.simulators.simulator import serving

ROOT = Path(__file__).parents[2]
Code = GenerationErrorCode
SMALL_LIMIT = 200_000

ENDS: list[Any] = [
    pytest.param("status=html", Code.PROVIDER_BAD_RESPONSE, id="200 with HTML"),
    pytest.param("status=empty", Code.PROVIDER_BAD_RESPONSE, id="200, empty"),
    pytest.param("status=list", Code.PROVIDER_BAD_RESPONSE, id="200, not an object"),
    pytest.param("status=nothing", Code.PROVIDER_BAD_RESPONSE, id="200, missing fields"),
    pytest.param("status=detail", Code.PROVIDER_BAD_RESPONSE, id="200, an error inside"),
    pytest.param("status=strange", Code.PROVIDER_BAD_RESPONSE, id="200, a status without a job"),
    pytest.param("bare shape=bare", Code.PROVIDER_BAD_RESPONSE, id="200, images without links"),
    pytest.param("file=html", Code.PROVIDER_BAD_RESPONSE, id="image/png that is HTML"),
    pytest.param("file=svg", Code.PROVIDER_BAD_RESPONSE, id="image/png that is SVG"),
    pytest.param("file=short", Code.PROVIDER_BAD_RESPONSE, id="image/png that is truncated"),
    pytest.param("file=empty", Code.PROVIDER_BAD_RESPONSE, id="image/png that is empty"),
    pytest.param("file=drop", Code.PROVIDER_BAD_RESPONSE, id="image/png that is cut off"),
    pytest.param("status=huge", Code.PROVIDER_BAD_RESPONSE, id="body beyond the limit"),
    pytest.param("file=huge", Code.PROVIDER_BAD_RESPONSE, id="endless chunks"),
    pytest.param("bytes=200001", Code.PROVIDER_BAD_RESPONSE, id="image beyond the limit"),
    pytest.param("status=gzip", Code.PROVIDER_BAD_RESPONSE, id="body that is a gzip bomb"),
    pytest.param("status=broken", Code.PROVIDER_BAD_RESPONSE, id="body that is no gzip"),
    pytest.param("file=gzip", Code.PROVIDER_BAD_RESPONSE, id="image that is a gzip bomb"),
    pytest.param("submit=401", Code.PROVIDER_AUTHENTICATION, id="401"),
    pytest.param("submit=402", Code.PROVIDER_AUTHENTICATION, id="402"),
    pytest.param("submit=403", Code.PROVIDER_AUTHENTICATION, id="403"),
    pytest.param("status=403", Code.PROVIDER_AUTHENTICATION, id="403 of the status"),
    pytest.param("submit=404", Code.MODEL_RETIRED, id="404 of the model"),
    pytest.param("submit=410", Code.MODEL_RETIRED, id="410 of the model"),
    pytest.param("status=404", Code.OUTCOME_UNKNOWN, id="404 of the job"),
    pytest.param("status=410", Code.OUTCOME_UNKNOWN, id="410 of the job"),
    pytest.param("submit=400", Code.PROVIDER_REJECTED_INPUT, id="400"),
    pytest.param("submit=413", Code.PROVIDER_REJECTED_INPUT, id="413"),
    pytest.param("submit=422", Code.PROVIDER_REJECTED_INPUT, id="422"),
    pytest.param("images=0", Code.NO_IMAGE, id="answered, but without an image"),
    pytest.param("link=https://evil.example/a.png", Code.PROVIDER_BAD_RESPONSE, id="another host"),
    pytest.param("link=http://10.0.0.1/a.png", Code.PROVIDER_BAD_RESPONSE, id="private address"),
    pytest.param("link=file:///etc/passwd", Code.PROVIDER_BAD_RESPONSE, id="file:"),
    pytest.param("file=across", Code.PROVIDER_BAD_RESPONSE, id="redirect across hosts"),
    pytest.param("file=loop", Code.PROVIDER_BAD_RESPONSE, id="redirects without end"),
]


@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_an_answer_of_the_vendors(predictions: Predictions, script: str, code: Code) -> None:
    provider = predictions.provider(max_bytes=SMALL_LIMIT)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, predictions.run(f"{script} seconds=0.02", image_count=2))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    submissions = [call for call in predictions.calls if call.startswith("POST")]
    assert len([call for call in submissions if not call.endswith("/cancel")]) == 1
    if code in (Code.MODEL_RETIRED, Code.PROVIDER_AUTHENTICATION):
        assert not failed.value.retryable


@pytest.mark.parametrize(
    ("script", "code", "wait"),
    [
        ("submit=429 retry_after=7", Code.PROVIDER_RATE_LIMITED, 7),
        ("submit=429 retry_after=@9", Code.PROVIDER_RATE_LIMITED, 9),
        ("submit=500", Code.PROVIDER_UNAVAILABLE, None),
        ("submit=503html", Code.PROVIDER_UNAVAILABLE, None),
        ("submit=503 retry_after=30", Code.PROVIDER_UNAVAILABLE, 30),
        ("submit=529", Code.PROVIDER_UNAVAILABLE, None),
    ],
)
async def test_a_submission_that_was_not_taken_may_be_repeated(
    predictions: Predictions, script: str, code: Code, wait: float | None
) -> None:
    witness = Witness()

    failure = await predictions.failed(predictions.run(script), observer=witness)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is code
    assert failure.retry_after_seconds == (wait and pytest.approx(wait, abs=2))
    assert witness.kinds == ["submitting"]
    assert predictions.bill == []


async def test_a_submission_that_could_not_be_connected_may_be_repeated(
    predictions: Predictions,
) -> None:
    nobody = predictions.provider(url=f"http://127.0.0.1:{free_port()}")

    failure = await predictions.failed(predictions.run(), provider=nobody)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_it_is_taken_when_it_is_repeated(predictions: Predictions) -> None:
    provider = predictions.provider()

    await predictions.failed(predictions.run("stumble"), provider=provider)
    delivery = await provider.generate(predictions.run("stumble"), Witness())

    assert len(delivery.images) == 1
    assert len(predictions.bill) == 1


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
    predictions: Predictions, script: str
) -> None:
    witness = Witness()
    impatient = predictions.provider(pace=replace(QUICK, submit=1.0), max_bytes=SMALL_LIMIT)

    failure = await predictions.failed(
        predictions.run(script), provider=impatient, observer=witness
    )

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert failure.retryable
    assert not isinstance(failure, NotSubmitted)
    assert witness.kinds == ["submitting"]
    assert len(predictions.bill) == 1


async def test_an_answer_that_is_cut_at_any_byte_is_never_submitted_again(
    predictions: Predictions,
) -> None:
    provider = predictions.provider()
    ends: list[object] = []

    while None not in ends:
        ends.append(await end_of(provider, predictions.run(f"cut={len(ends)}")))

    assert len(ends) > 400
    assert set(ends[:-1]) == {Code.OUTCOME_UNKNOWN}
    assert len(predictions.bill) == len(ends)


@pytest.mark.parametrize(
    "fault", ["408", "409", "429", "500", "502html", "503", "504", "529", "drop"]
)
async def test_trouble_on_the_way_to_a_job_is_waited_out(
    predictions: Predictions, fault: str
) -> None:
    delivery = await predictions.made(
        predictions.run(f"status={fault}x3 retry_after=0 seconds=0.01")
    )

    assert len(delivery.images) == 1
    assert len(predictions.bill) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        *("status=html", "status=empty", "status=nothing", "status=list", "status=huge"),
        *("status=404", "status=strange", "file=503", "file=drop"),
    ],
)
async def test_a_little_nonsense_does_not_lose_a_job(
    predictions: Predictions, nonsense: str
) -> None:
    provider = predictions.provider(max_bytes=SMALL_LIMIT)

    delivery = await provider.generate(predictions.run(f"{nonsense}x3 seconds=0.01"), Witness())

    assert len(delivery.images) == 1
    assert len(predictions.bill) == 1


async def test_a_wish_to_wait_is_obeyed(predictions: Predictions) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    await predictions.made(predictions.run("status=429x1 retry_after=1 seconds=0.01"))

    assert loop.time() - started >= 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("status=429 retry_after=60", Code.PROVIDER_RATE_LIMITED, id="429 to the end"),
        pytest.param("status=503 retry_after=60", Code.PROVIDER_UNAVAILABLE, id="503 to the end"),
        pytest.param("status=drop", Code.PROVIDER_UNAVAILABLE, id="dropped lines to the end"),
        pytest.param("hang=queue", Code.TIMED_OUT, id="never started"),
        pytest.param("hang=running", Code.TIMED_OUT, id="never ends"),
        pytest.param("state=pondering", Code.TIMED_OUT, id="an unknown status"),
    ],
)
async def test_what_outlasts_the_deadline_ends_at_it(
    predictions: Predictions, script: str, code: Code
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    failure = await predictions.failed(predictions.run(f"{script} seconds=60", seconds_left=1.0))

    assert failure.code is code
    assert failure.retryable
    assert 0.8 < loop.time() - started < 15
    # Wavespeed has no way to be told.
    assert predictions.bill[0].cancelled == (predictions.simulator.provider == "replicate")


async def test_a_provider_that_falls_silent_is_given_up_at_the_deadline(
    predictions: Predictions,
) -> None:
    provider = predictions.provider(pace=replace(QUICK, call=0.2))

    failure = await predictions.failed(
        predictions.run("status=silent seconds=60", seconds_left=1.0), provider=provider
    )

    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_a_run_without_any_time_left_asks_nobody(predictions: Predictions) -> None:
    witness = Witness()

    failure = await predictions.failed(predictions.run(seconds_left=0), observer=witness)

    assert failure.code is Code.TIMED_OUT
    assert witness.kinds == predictions.calls == []


async def test_a_job_is_still_asked_about_when_hardly_any_time_is_left(
    predictions: Predictions,
) -> None:
    job = await predictions.crashed(predictions.run("seconds=0.05"))
    await asyncio.sleep(0.1)

    late = predictions.run(job=job, seconds_left=1.0)
    assert (await predictions.provider().generate(late, Witness())).images


async def test_what_we_ask_wrongly_is_rejected_by_the_simulator(predictions: Predictions) -> None:
    odd = replace(predictions.run(), aspect_ratio=AspectRatio(7, 3))

    assert (await predictions.failed(odd)).code is Code.PROVIDER_REJECTED_INPUT


@pytest.mark.parametrize(
    ("script", "event"),
    [
        ("submit=401", "provider does not take our key"),
        ("submit=402", "provider does not take our key"),
        ("status=403 seconds=1", "provider does not take our key"),
        ("submit=404", "provider does not have the model"),
    ],
)
async def test_what_the_operator_has_to_mend_is_an_alarm(
    predictions: Predictions, script: str, event: str
) -> None:
    with capture_logs() as logs:
        await predictions.failed(predictions.run(script))

    assert [line["log_level"] for line in logs if line["event"] == event] == ["error"]


async def test_a_wrong_key_is_an_alarm_that_does_not_tell_it(predictions: Predictions) -> None:
    with capture_logs() as logs:
        failure = await predictions.failed(
            predictions.run(), provider=predictions.provider(key="canary-key")
        )

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert "canary" not in f"{failure} {failure!r} {logs}"


async def test_a_model_that_has_no_row_of_its_own_is_never_asked_for(
    predictions: Predictions,
) -> None:
    unknown = replace(predictions.model, endpoint="somebody/something")

    failure = await predictions.failed(predictions.run(model=unknown))

    assert failure.code is Code.INTERNAL
    assert predictions.calls == []


@pytest.mark.parametrize(
    "script",
    [
        *("fail=words", "submit=500", "submit=422", "submit=404", "taken submit=html", "cut=30"),
        *("status=403", "status=html", "status=503", "images=0", "file=across"),
        *("link=https://evil.example/?sig=1", "file=drop"),
    ],
)
async def test_neither_prompts_nor_keys_are_told_to_the_log(
    predictions: Predictions, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    said = "Exactly what the Canary asked for in confidence"
    run = predictions.run(f"{script} seconds=0.02", words=said, seconds_left=1)

    with capture_logs() as logs:
        failure = await predictions.failed(run)

    everything = f"{failure} {failure!r} {failure.__cause__} {logs} {caplog.text}".lower()
    assert "canary" not in everything
    assert "confidence" not in everything
    assert predictions.simulator.key not in everything
    assert len(str(failure)) < 1000


async def test_a_run_is_gone_on_with_by_its_job(predictions: Predictions) -> None:
    job = await predictions.crashed(predictions.run("seconds=0.3"))
    witness = Witness()

    delivery = await predictions.provider().generate(predictions.run(job=job), witness)

    assert set(job) == {"id"}
    assert len(delivery.images) == 1
    assert set(witness.kinds) <= {"progress"}
    assert len(predictions.bill) == 1


@pytest.mark.parametrize(
    "job", [{}, {"id": ""}, {"id": "../../secrets"}, {"id": "a/b"}, {"id": "nobody-s"}]
)
async def test_a_job_that_cannot_be_found_has_an_unknown_outcome(
    predictions: Predictions, job: dict[str, str]
) -> None:
    failure = await predictions.failed(predictions.run(job=job))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert predictions.bill == []
    assert not any("secrets" in call for call in predictions.calls)


@pytest.mark.parametrize("job", [{}, {"id": "../up"}, {"id": "nobody-s"}])
async def test_cancelling_an_odd_job_raises_nothing(
    predictions: Predictions, job: dict[str, str]
) -> None:
    await predictions.provider().cancel(job)

    assert not any("up" in call for call in predictions.calls)


async def test_cancelling_where_nobody_answers_raises_nothing(predictions: Predictions) -> None:
    job = await predictions.crashed(predictions.run("hang=running"))
    nobody = predictions.provider(url=f"http://127.0.0.1:{free_port()}")

    await nobody.cancel(job)

    assert not predictions.bill[0].cancelled


async def test_addresses_in_answers_never_see_the_key(predictions: Predictions) -> None:
    stranger = type(predictions.simulator)()
    async with serving(stranger) as foreign_url:
        script = f"urls={foreign_url} seconds=0.1"
        job = await predictions.crashed(predictions.run(script))
        moved = dict(job) | {"url": foreign_url}
        await predictions.provider().cancel(moved)
        await end_of(predictions.provider(), predictions.run(job=moved))
        assert (await predictions.made(predictions.run(script))).images

    assert len(stranger.seen) == 0


async def test_an_answer_about_another_job_is_none(predictions: Predictions) -> None:
    job, other = [await predictions.crashed(predictions.run(f"seconds=0.{n}")) for n in range(1, 3)]
    predictions.simulator.jobs[job["id"]] = predictions.simulator.jobs[other["id"]]

    failure = await predictions.failed(predictions.run(job=job))

    assert failure.code is Code.PROVIDER_BAD_RESPONSE


async def test_fewer_or_more_pictures_than_asked_for(predictions: Predictions) -> None:
    fewer = await predictions.made(predictions.run("images=2", image_count=4))
    more = await predictions.made(predictions.run("images=4", image_count=1))

    assert (len(fewer.images), len(more.images)) == (2, 1)


async def test_pictures_that_cannot_be_had_are_left_out(predictions: Predictions) -> None:
    failure = await predictions.failed(predictions.run("file=empty", image_count=3))
    delivery = await predictions.made(predictions.run("file=503x1", image_count=3))

    assert failure.code is Code.PROVIDER_BAD_RESPONSE
    assert len(delivery.images) == 3


async def test_pictures_inside_of_an_answer_are_taken_too(predictions: Predictions) -> None:
    delivery = await predictions.made(predictions.run("inside", image_count=2))

    assert len({image.data for image in delivery.images}) == 2


async def test_many_runs_at_once_are_one_job_each(predictions: Predictions) -> None:
    provider = predictions.provider()

    deliveries = await asyncio.gather(
        *(provider.generate(predictions.run(words=f"Number {n}"), Witness()) for n in range(50))
    )

    assert len({delivery.images[0].data for delivery in deliveries}) == 50
    assert sorted(e.prompt for e in predictions.bill) == sorted(f"Number {n}" for n in range(50))


@asynccontextmanager
async def simulator_process(name: str, *arguments: str) -> AsyncIterator[str]:
    """The simulator as a process of its own; its base URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"tests.simulators.{name}", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        ready = await asyncio.wait_for(process.stdout.readline(), 60)
        yield ready.decode().split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_bill_outlives_a_killed_simulator(
    predictions: Predictions, tmp_path: Path
) -> None:
    name, port = predictions.simulator.provider, str(free_port())
    arguments = ("--port", port, "--bill", str(tmp_path / "bill.jsonl"))
    witness = Witness()
    async with simulator_process(name, *arguments) as url:
        provider = predictions.provider(url=url)
        run = asyncio.create_task(provider.generate(predictions.run("seconds=1"), witness))
        await asyncio.wait_for(witness.took.wait(), 10)

    # The run itself lives through it: the simulator is only away for a moment.
    async with simulator_process(name, *arguments) as url:
        delivery = await run
        async with httpx2.AsyncClient(timeout=30) as http:
            entries = (await http.get(f"{url}/bill")).json()

    assert len(delivery.images) == 1
    assert [(entry["delivered"], entry["billed"]) for entry in entries] == [(True, True)]


@pytest.mark.parametrize(
    ("script", "limit", "code"),
    [
        ("file=huge", 2**21, Code.PROVIDER_BAD_RESPONSE),
        ("status=huge seconds=1", 2**19, Code.PROVIDER_BAD_RESPONSE),
        ("taken submit=huge", 2**21, Code.OUTCOME_UNKNOWN),
    ],
)
async def test_twenty_endless_answers_at_once_keep_memory_bounded(
    predictions: Predictions, script: str, limit: int, code: Code
) -> None:
    async with simulator_process(predictions.simulator.provider, "--script", script) as url:
        provider = predictions.provider(url=url, max_bytes=limit)
        tracemalloc.start()
        try:
            ends = await asyncio.gather(
                *(end_of(provider, predictions.run()) for _ in range(20)),
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert set(ends) == {code}
    at_once = AT_ONCE if script.startswith("file") else 20
    assert peak < 2 * at_once * limit


async def test_twenty_large_results_cost_no_more_than_their_bytes(
    predictions: Predictions,
) -> None:
    size, count = 2**20, 20
    script = f"bytes={size}"
    async with simulator_process(predictions.simulator.provider, "--script", script) as url:
        provider = predictions.provider(url=url)
        asked = replace(predictions.run(), format=None)
        tracemalloc.start()
        try:
            deliveries = await asyncio.gather(
                *(provider.generate(asked, Witness()) for _ in range(count))
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert {len(delivery.images[0].data) for delivery in deliveries} == {size}
    assert peak < (count + 2 * AT_ONCE) * size
