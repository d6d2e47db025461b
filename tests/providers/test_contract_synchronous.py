"""The contract of every provider that needs one call for a run."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted, StoreUnavailable
from domain.outputs import ProviderJob
from tests.providers.runs import QUICK, Played, Witness, end_of, processed
from tests.providers.test_contract import cuts_of

Code = GenerationErrorCode
SMALL_LIMIT = 200_000


async def test_a_run_reports_its_submission_and_no_job(synchronous: Played) -> None:
    witness = Witness()

    await synchronous.provider().generate(synchronous.vendor.run(), witness)

    assert witness.kinds == ["submitting"]
    assert [entry.billed for entry in synchronous.bill] == [True]


@pytest.mark.parametrize("job", [{}, {"id": "resp_1"}])
async def test_there_are_no_jobs_to_resume(synchronous: Played, job: ProviderJob) -> None:
    provider = synchronous.provider()

    failure = await synchronous.failed(synchronous.vendor.run(job=job), provider=provider)
    await provider.cancel(job)

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert synchronous.calls == []


@pytest.mark.parametrize("script", ["", "bytes=300001"])
async def test_other_forms_of_the_same_response_are_read(synchronous: Played, script: str) -> None:
    await processed(synchronous.provider(), synchronous.vendor.run(script))
    await processed(synchronous.provider(), synchronous.vendor.run_streamed(script))


STREAMS: list[Any] = [
    pytest.param("file=html", Code.PROVIDER_BAD_RESPONSE, id="image/png that is HTML"),
    pytest.param("file=svg", Code.PROVIDER_BAD_RESPONSE, id="image/png that is SVG"),
    pytest.param("file=short", Code.PROVIDER_BAD_RESPONSE, id="image/png that is truncated"),
    pytest.param("file=empty", Code.PROVIDER_BAD_RESPONSE, id="image/png that is empty"),
    pytest.param("bytes=200001", Code.PROVIDER_BAD_RESPONSE, id="image beyond the limit"),
    pytest.param("{result}=html", Code.PROVIDER_BAD_RESPONSE, id="200 with HTML"),
    pytest.param("{result}=empty", Code.PROVIDER_BAD_RESPONSE, id="200, empty"),
    pytest.param("{result}=nothing", Code.PROVIDER_BAD_RESPONSE, id="200, missing fields"),
    pytest.param("{result}=huge", Code.PROVIDER_BAD_RESPONSE, id="endless chunks"),
    pytest.param("{result}=gzip", Code.PROVIDER_BAD_RESPONSE, id="gzip bomb"),
    pytest.param("{result}=broken", Code.PROVIDER_BAD_RESPONSE, id="body that is no gzip"),
    pytest.param("submit=401", Code.PROVIDER_AUTHENTICATION, id="401"),
    pytest.param("submit=404", Code.MODEL_RETIRED, id="404 of the model"),
    pytest.param("submit=422html", Code.PROVIDER_REJECTED_INPUT, id="422 with HTML"),
    pytest.param("submit=409", Code.PROVIDER_UNAVAILABLE, id="409"),
]


@pytest.mark.parametrize(("script", "code"), STREAMS)
async def test_a_response_is_classified_alike_if_a_stream_was_requested(
    synchronous: Played, script: str, code: Code
) -> None:
    provider = synchronous.provider(max_bytes=SMALL_LIMIT)
    said = script.format(result=synchronous.vendor.result)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, synchronous.vendor.run_streamed(said))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    assert len(synchronous.submissions) == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("submit=429", Code.PROVIDER_RATE_LIMITED),
        ("submit=500", Code.PROVIDER_UNAVAILABLE),
        ("submit=503html", Code.PROVIDER_UNAVAILABLE),
        ("submit=529", Code.PROVIDER_UNAVAILABLE),
    ],
)
async def test_a_stream_that_did_not_begin_may_be_requested_again(
    synchronous: Played, script: str, code: Code
) -> None:
    failure = await synchronous.failed(synchronous.vendor.run_streamed(script))

    assert isinstance(failure, NotSubmitted)
    assert failure.code is code
    assert synchronous.bill == []


@pytest.mark.parametrize(
    "script",
    [
        *(f"taken submit={status}" for status in ("408", "502html", "504", "302", "drop")),
        *("cut=0", "cut=100", "cut=300", "silent"),
    ],
)
async def test_a_stream_whose_response_is_lost_has_an_unknown_outcome(
    synchronous: Played, script: str
) -> None:
    left = 0.5 if script == "silent" else 30.0

    failure = await synchronous.failed(synchronous.vendor.run_streamed(script, seconds_left=left))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert failure.retryable
    assert not isinstance(failure, NotSubmitted)
    assert len(synchronous.bill) == 1


async def test_a_stream_cut_at_any_byte_is_never_requested_again(
    synchronous: Played,
) -> None:
    provider, ends = synchronous.provider(), list[object]()

    for byte_count in cuts_of(synchronous.vendor):
        run = synchronous.vendor.run_streamed(f"partials=1 cut={byte_count}", preview_count=1)
        ends.append(await end_of(provider, run))
        if ends[-1] is None:
            break

    assert byte_count > 400
    assert set(ends[:-1]) == {Code.OUTCOME_UNKNOWN}
    assert len(synchronous.bill) == len(ends)


async def test_a_stream_without_its_result_has_an_unknown_outcome(synchronous: Played) -> None:
    # Gemini's last event is its end, and not its picture.
    script = "early images=0" if synchronous.vendor.name == "gemini" else "early"

    failure = await synchronous.failed(synchronous.vendor.run_streamed(script))

    assert failure.code is Code.OUTCOME_UNKNOWN


async def test_a_run_that_never_ends_times_out_at_the_deadline(synchronous: Played) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    failure = await synchronous.failed(synchronous.vendor.run("silent", seconds_left=0.5))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert 0.4 < loop.time() - started < 15


async def test_as_many_previews_as_requested_are_shown(synchronous: Played) -> None:
    watched, unwatched = Witness(), Witness()
    provider, run = synchronous.provider(), synchronous.vendor.run_streamed

    delivery = await provider.generate(run("partials=3"), watched)
    await provider.generate(run("partials=3", preview_count=0), unwatched)

    assert len(watched.previews) == len(set(watched.previews)) == 2
    assert delivery.images[0].data not in watched.previews
    assert len(delivery.images) == 1
    assert unwatched.kinds == ["submitting"]


async def test_an_error_of_an_observer_is_raised_unchanged(synchronous: Played) -> None:
    class Full(Witness):
        async def preview(self, data: bytes) -> None:
            raise StoreUnavailable(f"{len(data)} bytes")

    with pytest.raises(StoreUnavailable):
        await synchronous.provider().generate(synchronous.vendor.run_streamed("partials=1"), Full())


async def test_a_slow_observer_misses_nothing(synchronous: Played) -> None:
    class Slow(Witness):
        async def preview(self, data: bytes) -> None:
            await super().preview(data)
            await asyncio.sleep(0.2)

    witness, provider = Slow(), synchronous.provider(pace=replace(QUICK, call=0.1))
    delivery = await provider.generate(synchronous.vendor.run_streamed("partials=2"), witness)

    assert (len(witness.previews), len(delivery.images)) == (2, 1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_account_error_inside_a_success_is_an_alert(
    synchronous: Played, streamed: bool
) -> None:
    kinds = {"openai": "insufficient_quota", "azure": "insufficient_quota", "gemini": "key"}
    script = f"fail={kinds.get(synchronous.vendor.name, '401')} late"
    run = synchronous.vendor.run_streamed if streamed else synchronous.vendor.run

    with capture_logs() as logs:
        failure = await synchronous.failed(run(script))

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert [line["log_level"] for line in logs] == ["error"]


async def test_the_bill_survives_the_simulator(synchronous: Played, tmp_path: Path) -> None:
    for words in ("A lighthouse", "Another one"):
        after = synchronous.restarted(tmp_path / "bill.jsonl")
        await synchronous.made(synchronous.vendor.run(words=words))

    entries = after.settled()
    assert [entry.prompt for entry in entries] == ["A lighthouse", "Another one"]
    assert all(entry.billed for entry in entries)
