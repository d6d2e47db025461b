"""The contract of every remote provider, tested against its simulator.

The names of the cases are the words of the table of what providers may answer. What is peculiar to
one provider stands in its own file.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.models import AspectRatio
from providers.catalogue import WIRES
from tests.providers.runs import QUICK, Played, Witness, end_of, ends_of, processed
from tests.providers.vendors import SYNCHRONOUS, VENDORS, WITH_JOBS, Vendor
from tests.serving import free_port

Code = GenerationErrorCode
SMALL_LIMIT = 200_000
PERMANENT = {Code.MODEL_RETIRED, Code.PROVIDER_AUTHENTICATION, Code.PROVIDER_REJECTED_INPUT}

RESULTS: list[Any] = [
    pytest.param("html", id="200 with HTML"),
    pytest.param("empty", id="200, empty"),
    pytest.param("list", id="200, not an object"),
    pytest.param("nothing", id="200, missing fields"),
    pytest.param("strange", id="200, other fields"),
    pytest.param("huge", id="body beyond the limit"),
    pytest.param("gzip", id="body that is a gzip bomb"),
    pytest.param("broken", id="body that is no gzip"),
]
ENDS: list[Any] = [
    pytest.param("file=html", Code.PROVIDER_BAD_RESPONSE, id="image/png that is HTML"),
    pytest.param("file=svg", Code.PROVIDER_BAD_RESPONSE, id="image/png that is SVG"),
    pytest.param("file=short", Code.PROVIDER_BAD_RESPONSE, id="image/png that is truncated"),
    pytest.param("file=empty", Code.PROVIDER_BAD_RESPONSE, id="image/png that is empty"),
    pytest.param("bytes=200001", Code.PROVIDER_BAD_RESPONSE, id="image beyond the limit"),
    pytest.param("images=0", Code.NO_IMAGE, id="answered, but without an image"),
    pytest.param("submit=401", Code.PROVIDER_AUTHENTICATION, id="401"),
    pytest.param("submit=402", Code.PROVIDER_AUTHENTICATION, id="402"),
    pytest.param("submit=403", Code.PROVIDER_AUTHENTICATION, id="403"),
    pytest.param("submit=403html", Code.PROVIDER_AUTHENTICATION, id="403 with HTML"),
    pytest.param("submit=404", Code.MODEL_RETIRED, id="404 of the model"),
    pytest.param("submit=410", Code.MODEL_RETIRED, id="410 of the model"),
    pytest.param("submit=400", Code.PROVIDER_REJECTED_INPUT, id="400"),
    pytest.param("submit=413", Code.PROVIDER_REJECTED_INPUT, id="413"),
    pytest.param("submit=422", Code.PROVIDER_REJECTED_INPUT, id="422"),
    pytest.param("submit=422html", Code.PROVIDER_REJECTED_INPUT, id="422 with HTML"),
    pytest.param("submit=409", Code.PROVIDER_UNAVAILABLE, id="409"),
]


@pytest.mark.parametrize("nonsense", RESULTS)
async def test_an_invalid_result_is_a_bad_response(played: Played, nonsense: str) -> None:
    provider = played.provider(max_bytes=SMALL_LIMIT)

    failure = await played.failed(
        played.vendor.run(played.vendor.results(nonsense)), provider=provider
    )

    assert failure.code is Code.PROVIDER_BAD_RESPONSE
    assert not isinstance(failure, NotSubmitted)
    assert len(played.submissions) == 1


@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_a_response_is_classified_alike_for_every_provider(
    played: Played, script: str, code: Code
) -> None:
    provider = played.provider(max_bytes=SMALL_LIMIT)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, played.vendor.run(script))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    assert len(played.submissions) == 1
    if code in PERMANENT:
        assert not failed.value.retryable


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 503, 529])
async def test_some_failures_prove_that_nothing_was_accepted(played: Played, status: int) -> None:
    failure = await played.failed(played.vendor.run(f"submit={status}"))

    assert failure.nothing_taken
    assert played.bill == []


@pytest.mark.parametrize(
    "script",
    [
        *(f"taken submit={status}" for status in (408, 502, 504, 524)),
        *("cut=0", "submit=400", "submit=422", "images=0"),
    ],
)
async def test_other_failures_do_not_prove_that_nothing_was_accepted(
    played: Played, script: str
) -> None:
    failure = await played.failed(played.vendor.run(script))

    assert not failure.nothing_taken


async def test_a_refusal_is_final(played: Played) -> None:
    failure = await played.failed(played.vendor.run(played.vendor.refusal))

    assert (failure.code, failure.retryable) == (Code.CONTENT_REFUSED, False)


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
async def test_a_rejected_submission_may_be_retried(
    played: Played, script: str, code: Code, wait: float | None
) -> None:
    witness = Witness()

    failure = await played.failed(played.vendor.run(script), observer=witness)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is code
    assert failure.retry_after_seconds == (wait and pytest.approx(wait, abs=2))
    assert witness.kinds == ["submitting"]
    assert played.bill == []


async def test_a_submission_that_could_not_connect_may_be_retried(played: Played) -> None:
    nobody = played.provider(url=f"http://127.0.0.1:{free_port()}")

    failure = await played.failed(played.vendor.run(), provider=nobody)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_a_retried_submission_is_accepted(played: Played) -> None:
    provider = played.provider()

    await played.failed(played.vendor.run("stumble"), provider=provider)
    delivery = await provider.generate(played.vendor.run("stumble"), Witness())

    assert len(delivery.images) == 1
    assert len(played.bill) == 1


UNCLEAR = ("408", "499", "501", "502", "502html", "504", "504html", "520", "524", "302", "drop")


@pytest.mark.parametrize(
    "script",
    [
        *(pytest.param(f"taken submit={answer}", id=answer) for answer in UNCLEAR),
        pytest.param("cut=0", id="the line is cut before the answer"),
        pytest.param("cut=100", id="the line is cut within the answer's head"),
        pytest.param("cut=300", id="the line is cut within the answer"),
        pytest.param("silent", id="no answer within the limit"),
    ],
)
async def test_a_lost_response_has_an_unknown_outcome(played: Played, script: str) -> None:
    witness = Witness()
    provider = played.provider(pace=replace(QUICK, submit=0.5))
    left = 0.5 if script == "silent" else 30.0

    failure = await played.failed(
        played.vendor.run(script, seconds_left=left), provider=provider, observer=witness
    )

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert failure.retryable
    assert not isinstance(failure, NotSubmitted)
    assert witness.kinds == ["submitting"]
    assert len(played.bill) == 1


def cuts_of(vendor: Vendor) -> Iterator[int]:
    """After how many bytes an answer is cut: those of one kind cut it at every byte together,
    which they read by the same code, and at some bytes of a long body.
    """
    kind = WITH_JOBS if vendor.has_jobs else SYNCHRONOUS
    yield from range(kind.index(vendor.name), 600, len(kind))
    yield from count(600, 97)


async def test_a_response_cut_at_any_byte_is_never_submitted_again(played: Played) -> None:
    provider, ends = played.provider(), list[object]()

    for byte_count in cuts_of(played.vendor):
        ends.append(await end_of(provider, played.vendor.run(f"cut={byte_count}")))
        if ends[-1] is None:
            break

    assert byte_count > 400  # an answer has a head, and at least a job
    assert set(ends[:-1]) == {Code.OUTCOME_UNKNOWN}
    assert len(played.bill) == len(ends)


async def test_a_run_without_any_time_left_requests_nothing(played: Played) -> None:
    witness = Witness()

    failure = await played.failed(played.vendor.run(seconds_left=0), observer=witness)

    assert failure.code is Code.TIMED_OUT
    assert witness.kinds == played.calls == []


async def test_a_run_stopped_before_its_submission_costs_nothing(played: Played) -> None:
    class Late(Witness):
        async def submitting(self) -> None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await played.provider().generate(played.vendor.run(), Late())

    assert played.calls == []


async def test_an_invalid_request_is_rejected_by_the_simulator(played: Played) -> None:
    odd = replace(played.vendor.run(), aspect_ratio=AspectRatio(7, 1))

    assert (await played.failed(odd)).code is Code.PROVIDER_REJECTED_INPUT


async def test_a_model_of_another_provider_is_a_programming_error(played: Played) -> None:
    foreign = replace(played.vendor.row(), wire=None)
    witness = Witness()

    failure = await played.failed(played.vendor.run(model=foreign), observer=witness)

    assert failure.code is Code.INTERNAL
    assert witness.kinds == played.calls == []


@pytest.mark.parametrize(
    ("script", "event"),
    [
        ("submit=401", "provider rejects the key"),
        ("submit=402", "provider rejects the key"),
        ("submit=404", "provider does not have the model"),
    ],
)
async def test_failures_that_the_operator_must_fix_are_alerts(
    played: Played, script: str, event: str
) -> None:
    with capture_logs() as logs:
        await played.failed(played.vendor.run(script))

    assert [line["log_level"] for line in logs if line["event"] == event] == ["error"]


async def test_a_rejected_key_is_an_alert_that_does_not_contain_it(played: Played) -> None:
    with capture_logs() as logs:
        failure = await played.failed(
            played.vendor.run(), provider=played.provider(key="id:canary-key")
        )

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert [line["log_level"] for line in logs] == ["error"]
    assert "canary" not in f"{failure} {failure!r} {logs}"


FAULTS = [
    *("submit=500", "submit=422", "submit=404", "submit=401", "taken submit=html", "cut=30"),
    *("taken submit=504html", "status=403", "status=html", "status=503", "result=html"),
    *("result=detail", "result=huge", "result=503", "black=all", "images=0", "early", "bare"),
    *("link=https://evil.example/?sig=1", "file=html", "file=across", "file=drop"),
]


async def test_prompts_and_keys_are_not_logged(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    said = "Exactly what the Canary asked for in confidence"
    kinds = sorted(played.simulator.failures)
    scripts = [*FAULTS, *(f"fail={kind}{late}" for kind in kinds for late in ("", " late"))]
    run, provider = played.vendor.run, played.provider(max_bytes=SMALL_LIMIT)
    runs = [run(f"{one} seconds=0.05", words=said, seconds_left=1) for one in scripts]
    if played.vendor.streamed:
        runs += [played.vendor.run_streamed(one, words=said, seconds_left=1) for one in scripts]

    with capture_logs() as logs:
        ends = await ends_of(provider, runs)

    failures = [end for end in ends if isinstance(end, GenerationFailed)]
    assert len(failures) > len(kinds)
    texts = [text for end in failures for text in (str(end), repr(end), str(end.__cause__))]
    everything = " ".join([*texts, str(logs), caplog.text]).lower()
    assert "canary" not in everything
    assert "confidence" not in everything
    assert played.simulator.key not in everything
    assert all(len(line) < 1000 for line in texts)


async def test_a_seed_is_returned_if_it_was_sent(played: Played) -> None:
    sent = await played.made(played.vendor.run(seed="5"))
    none = await played.made(played.vendor.run())

    expected = "5" if played.vendor.row().supports_seed else None
    assert [image.seed for image in (*sent.images, *none.images)] == [expected, None]


async def test_more_pictures_than_requested_are_omitted(played: Played) -> None:
    delivery = await played.made(played.vendor.run("images=3"))

    assert len(delivery.images) == 1


async def test_many_concurrent_runs_send_one_request_each(played: Played) -> None:
    run_count, run = 50, played.vendor.run

    ends = await ends_of(played.provider(), [run(words=f"Number {n}") for n in range(run_count)])

    assert len({end.images[0].data for end in ends}) == run_count
    assert sorted(entry.prompt for entry in played.bill) == sorted(
        f"Number {n}" for n in range(run_count)
    )


async def test_a_cancelled_run_ends_at_once(played: Played) -> None:
    class Asking(Witness):
        async def submitting(self) -> None:
            self.took.set()

    witness = Asking()
    run = asyncio.create_task(played.provider().generate(played.vendor.run("silent"), witness))
    await asyncio.wait_for(witness.took.wait(), 10)

    run.cancel()
    await asyncio.wait({run}, timeout=10)

    assert run.cancelled()


def test_its_name_is_that_in_the_catalogue(played: Played) -> None:
    provider = played.provider()

    assert provider.name == played.vendor.name == played.vendor.row().provider
    assert provider.max_concurrent_runs == 20


def test_every_provider_of_the_catalogue_is_tested() -> None:
    assert set(WIRES) == set(VENDORS)
