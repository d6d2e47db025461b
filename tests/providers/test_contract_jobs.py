"""The contract of every provider that has jobs: none is lost, and none is paid twice."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.outputs import ProviderJob
from tests.http import open_http
from tests.providers.runs import (
    QUICK,
    Played,
    Witness,
    ends_of,
    processed,
    simulator_process,
)
from tests.serving import free_port
from tests.simulators.simulator import serving

Code = GenerationErrorCode
SMALL_LIMIT = 200_000

ENDS: list[Any] = [
    pytest.param("bare shape=bare", Code.PROVIDER_BAD_RESPONSE, id="200, images without links"),
    pytest.param("status=html seconds=5", Code.PROVIDER_BAD_RESPONSE, id="status with HTML"),
    pytest.param("status=empty seconds=5", Code.PROVIDER_BAD_RESPONSE, id="status, empty"),
    pytest.param("status=detail seconds=5", Code.PROVIDER_BAD_RESPONSE, id="an error inside"),
    pytest.param("status=nothing seconds=5", Code.PROVIDER_BAD_RESPONSE, id="missing fields"),
    pytest.param("status=huge seconds=5", Code.PROVIDER_BAD_RESPONSE, id="status beyond the limit"),
    pytest.param("status=gzip seconds=5", Code.PROVIDER_BAD_RESPONSE, id="status, a gzip bomb"),
    pytest.param("status=403 seconds=5", Code.PROVIDER_AUTHENTICATION, id="403 of the status"),
    pytest.param("status=404 seconds=5", Code.OUTCOME_UNKNOWN, id="404 of the job"),
    pytest.param("status=410 seconds=5", Code.OUTCOME_UNKNOWN, id="410 of the job"),
    pytest.param("file=drop", Code.PROVIDER_BAD_RESPONSE, id="image/png that is cut off"),
    pytest.param("file=huge", Code.PROVIDER_BAD_RESPONSE, id="endless chunks"),
    pytest.param("file=gzip", Code.PROVIDER_BAD_RESPONSE, id="image that is a gzip bomb"),
    pytest.param("link=https://evil.example/a.png", Code.PROVIDER_BAD_RESPONSE, id="another host"),
    pytest.param("link=http://10.0.0.1/a.png", Code.PROVIDER_BAD_RESPONSE, id="private address"),
    pytest.param("link=file:///etc/passwd", Code.PROVIDER_BAD_RESPONSE, id="file:"),
    pytest.param("file=across", Code.PROVIDER_BAD_RESPONSE, id="redirect across hosts"),
    pytest.param("file=loop", Code.PROVIDER_BAD_RESPONSE, id="redirects without end"),
]


@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_a_response_about_a_job_is_classified(
    polled: Played, script: str, code: Code
) -> None:
    provider = polled.provider(max_bytes=SMALL_LIMIT)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, polled.vendor.run(script, image_count=2))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    assert len(polled.submissions) == 1


NONSENSE = ("html", "empty", "nothing", "list", "detail", "huge", "gzip", "broken", "200")


@pytest.mark.parametrize("answer", NONSENSE)
async def test_a_submission_without_a_job_id_in_its_response_has_an_unknown_outcome(
    polled: Played, answer: str
) -> None:
    witness = Witness()
    provider = polled.provider(max_bytes=SMALL_LIMIT)

    failure = await polled.failed(
        polled.vendor.run(f"taken submit={answer}"), provider=provider, observer=witness
    )

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert not isinstance(failure, NotSubmitted)
    assert witness.kinds == ["submitting"]
    assert len(polled.bill) == 1


@pytest.mark.parametrize(
    "fault", ["408", "409", "429", "500", "502html", "503", "504", "529", "drop"]
)
async def test_transient_failures_while_polling_are_retried(polled: Played, fault: str) -> None:
    script = f"status={fault}x3 retry_after=0 seconds=0.05"

    assert len((await polled.made(polled.vendor.run(script))).images) == 1
    assert len(polled.bill) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        *("status=html", "status=empty", "status=nothing", "status=list", "status=huge"),
        *("status=404", "status=strange", "file=503", "file=403", "file=drop"),
    ],
)
async def test_a_few_invalid_responses_do_not_lose_a_job(polled: Played, nonsense: str) -> None:
    provider = polled.provider(max_bytes=SMALL_LIMIT)

    delivery = await provider.generate(polled.vendor.run(f"{nonsense}x3 seconds=0.05"), Witness())

    assert len(delivery.images) == 1
    assert len(polled.bill) == 1


async def test_a_retry_hint_is_followed(polled: Played) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    await polled.made(polled.vendor.run("status=429x1 retry_after=0.5 seconds=0.2"))

    assert loop.time() - started >= 0.5


OUTLASTING = {
    "status=429 retry_after=60 seconds=60": Code.PROVIDER_RATE_LIMITED,
    "status=503 retry_after=60 seconds=60": Code.PROVIDER_UNAVAILABLE,
    "status=drop seconds=60": Code.PROVIDER_UNAVAILABLE,
    "status=silent seconds=60": Code.PROVIDER_UNAVAILABLE,
    "hang=queue": Code.TIMED_OUT,
    "hang=running": Code.TIMED_OUT,
}


async def test_a_run_ends_at_its_deadline(polled: Played) -> None:
    loop = asyncio.get_running_loop()
    run, provider = polled.vendor.run, polled.provider(pace=replace(QUICK, call=0.8))
    started = loop.time()

    ends = await ends_of(provider, [run(script, seconds_left=3) for script in OUTLASTING])

    seconds = loop.time() - started
    assert {script: end.code for script, end in zip(OUTLASTING, ends, strict=True)} == OUTLASTING
    assert all(end.retryable for end in ends)
    assert 2 < seconds < 15
    # A job that may be running is cancelled. The provider may have dropped one that was waiting.
    given_up = [entry.cancelled or entry.outcome == "expired" for entry in polled.bill]
    assert given_up == [polled.vendor.can_cancel] * len(OUTLASTING)


async def test_a_call_cut_short_by_the_deadline_is_no_failure_of_the_provider(
    polled: Played,
) -> None:
    failure = await polled.failed(polled.vendor.run("status=silent seconds=60", seconds_left=1.0))

    assert failure.code is Code.TIMED_OUT


@pytest.mark.parametrize("nonsense", ["status=html", "status=404", "status=403"])
async def test_a_job_that_cannot_be_polled_is_cancelled(polled: Played, nonsense: str) -> None:
    await polled.failed(polled.vendor.run(f"{nonsense} hang=running"))

    assert polled.bill[0].cancelled == polled.vendor.can_cancel


async def test_a_status_request_with_a_rejected_key_is_an_alert(polled: Played) -> None:
    with capture_logs() as logs:
        await polled.failed(polled.vendor.run("status=403 seconds=5"))

    event = "provider rejects the key"
    assert [line["log_level"] for line in logs if line["event"] == event] == ["error"]


async def test_a_run_is_resumed_from_its_job(polled: Played) -> None:
    job = await polled.crashed(polled.vendor.run("seconds=0.3"))
    witness = Witness()

    delivery = await polled.provider().generate(polled.vendor.run(job=job), witness)

    assert len(delivery.images) == 1
    assert not {"submitting", "submitted"} & set(witness.kinds)
    assert len(polled.bill) == len(polled.submissions) == 1


async def test_a_job_is_polled_even_if_hardly_any_time_is_left(polled: Played) -> None:
    job = await polled.crashed(polled.vendor.run("seconds=0.05"))
    await asyncio.sleep(0.1)

    late = polled.vendor.run(job=job, seconds_left=1.0)
    assert (await polled.provider().generate(late, Witness())).images


async def test_a_stored_job_is_plain_text_without_the_key(polled: Played) -> None:
    job = await polled.crashed(polled.vendor.run("hang=running"))

    assert polled.vendor.job is not None
    assert set(job) >= set(polled.vendor.job("any"))
    assert all(isinstance(value, str) for value in job.values())
    assert polled.simulator.key not in str(job)


BAD_IDS = ["", "../../secrets", "a/b", "nobody-s"]


@pytest.mark.parametrize("job_id", [None, *BAD_IDS])
async def test_a_job_that_cannot_be_found_has_an_unknown_outcome(
    polled: Played, job_id: str | None
) -> None:
    assert polled.vendor.job is not None
    job = {} if job_id is None else polled.vendor.job(job_id)

    failure = await polled.failed(polled.vendor.run(job=job))
    await polled.provider().cancel(job)

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert polled.bill == []
    assert not any("secrets" in call for call in polled.calls)


@pytest.mark.parametrize("script", ["hang=queue", "hang=running"])
async def test_a_job_can_be_cancelled_if_the_provider_supports_it(
    polled: Played, script: str
) -> None:
    job = await polled.crashed(polled.vendor.run(script))

    await polled.provider().cancel(job)
    await polled.provider().cancel(job)

    assert polled.bill[0].cancelled == polled.vendor.can_cancel
    if polled.vendor.can_cancel:
        failure = await polled.failed(polled.vendor.run(job=job))
        assert failure.code is Code.PROVIDER_UNAVAILABLE
        assert not polled.bill[0].billed


@pytest.mark.parametrize("script", ["seconds=0", "hang=running stubborn"])
async def test_cancelling_a_job_that_cannot_be_cancelled_raises_nothing(
    polled: Played, script: str
) -> None:
    job = await polled.crashed(polled.vendor.run(script))
    nobody = polled.provider(url=f"http://127.0.0.1:{free_port()}")

    await nobody.cancel(job)
    assert not polled.bill[0].cancelled
    await polled.provider().cancel(job)


async def test_the_key_is_never_sent_to_foreign_urls(polled: Played) -> None:
    stranger = polled.vendor.simulator()
    async with serving(stranger) as foreign_url:
        for base in (foreign_url, "http://user@127.0.0.1:1", "http://localhost:1"):
            assert (await polled.made(polled.vendor.run(f"urls={base} seconds=0.05"))).images
        job = await polled.crashed(polled.vendor.run("seconds=0.1"))
        moved = {
            **{name: text.replace(polled.url, foreign_url) for name, text in job.items()},
            "url": foreign_url,
        }
        assert (await polled.made(polled.vendor.run(job=moved))).images
        await polled.provider().cancel(moved)

    assert len(stranger.seen) == 0


async def test_an_observer_that_raises_stops_the_run(polled: Played) -> None:
    class HandedOver(Exception):
        pass

    class Impatient(Witness):
        async def submitted(self, job: ProviderJob) -> None:
            await super().submitted(job)
            raise HandedOver

    witness = Impatient()
    with pytest.raises(HandedOver):
        await polled.provider().generate(polled.vendor.run(), witness)

    assert (await polled.made(polled.vendor.run(job=witness.job))).images
    assert len(polled.bill) == 1


async def test_fewer_pictures_than_requested_are_a_delivery(polled: Played) -> None:
    delivery = await polled.made(polled.vendor.run("images=2", image_count=4))

    assert len(delivery.images) == 2


async def test_pictures_that_cannot_be_downloaded_are_omitted(polled: Played) -> None:
    failure = await polled.failed(polled.vendor.run("file=empty", image_count=3))
    delivery = await polled.made(polled.vendor.run("file=503x1", image_count=3))

    assert failure.code is Code.PROVIDER_BAD_RESPONSE
    assert len(delivery.images) == 3


async def test_inline_pictures_are_accepted(polled: Played) -> None:
    delivery = await polled.made(polled.vendor.run("inside", image_count=2))

    assert len({image.data for image in delivery.images}) == 2


async def test_a_download_cut_short_by_the_deadline_is_a_failure(
    polled: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    slow = polled.provider(pace=replace(QUICK, first=0.2, longest=0.2))

    failure = await polled.failed(polled.vendor.run("file=503", seconds_left=0.5), provider=slow)

    assert failure.code in (Code.TIMED_OUT, Code.PROVIDER_BAD_RESPONSE)


async def test_a_run_and_its_bill_survive_a_restart_of_the_provider(
    polled: Played, tmp_path: Path
) -> None:
    polled.restarted(tmp_path / "bill.jsonl")
    witness = Witness()
    run = asyncio.create_task(polled.provider().generate(polled.vendor.run("seconds=0.5"), witness))
    await asyncio.wait_for(witness.took.wait(), 10)

    # It is away for a moment.
    polled.stage.played = None
    await asyncio.sleep(0.1)
    after = polled.restarted(tmp_path / "bill.jsonl")

    assert len((await run).images) == 1
    assert [(entry.outcome, entry.billed) for entry in after.settled()] == [("delivered", True)]


async def test_the_bill_survives_a_killed_simulator(fal: Played, tmp_path: Path) -> None:
    arguments = ("--port", str(free_port()), "--bill", str(tmp_path / "bill.jsonl"))
    witness = Witness()
    async with simulator_process("fal", *arguments) as url:
        provider = fal.provider(url=url)
        run = asyncio.create_task(provider.generate(fal.vendor.run("seconds=1"), witness))
        await asyncio.wait_for(witness.took.wait(), 10)

    async with simulator_process("fal", *arguments) as url:
        delivery = await run
        async with open_http() as http:
            entries = (await http.get(f"{url}/bill")).json()

    assert len(delivery.images) == 1
    assert [(entry["delivered"], entry["billed"]) for entry in entries] == [(True, True)]
