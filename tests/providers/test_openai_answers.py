"""OpenAI's and Azure's answers that do not go well: what each means, and that nothing of ours gets
into a log.

The names of the cases are the words of the table of what vendors may answer.
"""

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.generation import GenerationRequest
from providers.openai.failures import retry_hint
from providers.openai.wire import PICTURES, OpenAIReply
from providers.streaming_json import MAX_WORDS_BYTES, InlineJson
from tests.providers.openai_runs import Onlooker, PlayedOpenAI, a_run
from tests.providers.runs import QUICK, Witness, end_of, processed, simulator_process
from tests.serving import free_port
from tests.simulators.openai import KEY
from tests.simulators.openai_answers import FAILURES

Code = GenerationErrorCode
SMALL_LIMIT = 200_000
WAYS = [pytest.param(0, id="whole"), pytest.param(2, id="streamed")]

ENDS: list[Any] = [
    pytest.param("result=html", Code.PROVIDER_BAD_RESPONSE, id="200 with HTML"),
    pytest.param("result=empty", Code.PROVIDER_BAD_RESPONSE, id="200, empty"),
    pytest.param("result=list", Code.PROVIDER_BAD_RESPONSE, id="200, not an object"),
    pytest.param("result=nothing", Code.PROVIDER_BAD_RESPONSE, id="200, missing fields"),
    pytest.param("result=strange", Code.PROVIDER_BAD_RESPONSE, id="200, other fields"),
    pytest.param("result=detail", Code.PROVIDER_BAD_RESPONSE, id="200, an error inside"),
    pytest.param("bare", Code.PROVIDER_BAD_RESPONSE, id="200, images without bytes"),
    pytest.param("file=html", Code.PROVIDER_BAD_RESPONSE, id="image/png that is HTML"),
    pytest.param("file=svg", Code.PROVIDER_BAD_RESPONSE, id="image/png that is SVG"),
    pytest.param("file=short", Code.PROVIDER_BAD_RESPONSE, id="image/png that is truncated"),
    pytest.param("file=empty", Code.PROVIDER_BAD_RESPONSE, id="image/png that is empty"),
    pytest.param("result=huge", Code.PROVIDER_BAD_RESPONSE, id="endless chunks"),
    pytest.param("result=gzip", Code.PROVIDER_BAD_RESPONSE, id="gzip bomb"),
    pytest.param("result=broken", Code.PROVIDER_BAD_RESPONSE, id="body that is no gzip"),
    pytest.param("bytes=200001", Code.PROVIDER_BAD_RESPONSE, id="image beyond the limit"),
    pytest.param("submit=401", Code.PROVIDER_AUTHENTICATION, id="401"),
    pytest.param("submit=402", Code.PROVIDER_AUTHENTICATION, id="402"),
    pytest.param("submit=403", Code.PROVIDER_AUTHENTICATION, id="403"),
    pytest.param("fail=insufficient_quota", Code.PROVIDER_AUTHENTICATION, id="429 without credit"),
    pytest.param("fail=moderation_blocked", Code.CONTENT_REFUSED, id="refused for content"),
    pytest.param("fail=contentFilter", Code.CONTENT_REFUSED, id="refused by Azure"),
    pytest.param("fail=filtered", Code.CONTENT_REFUSED, id="refused, the reason inside"),
    pytest.param("submit=404", Code.MODEL_RETIRED, id="404 of the model"),
    pytest.param("submit=410", Code.MODEL_RETIRED, id="410 of the model"),
    pytest.param("submit=400", Code.PROVIDER_REJECTED_INPUT, id="400"),
    pytest.param("submit=413", Code.PROVIDER_REJECTED_INPUT, id="413"),
    pytest.param("submit=422html", Code.PROVIDER_REJECTED_INPUT, id="422 with HTML"),
    pytest.param("submit=409", Code.PROVIDER_UNAVAILABLE, id="409"),
]


@pytest.mark.parametrize("previews", WAYS)
@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_an_answer_of_the_vendors(
    openai: PlayedOpenAI, script: str, code: Code, previews: int
) -> None:
    provider = openai.provider(max_bytes=SMALL_LIMIT)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, a_run(script, preview_count=previews))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    assert len(openai.calls) == 1
    if code in (Code.CONTENT_REFUSED, Code.MODEL_RETIRED, Code.PROVIDER_AUTHENTICATION):
        assert not failed.value.retryable


async def test_answered_but_without_an_image(openai: PlayedOpenAI) -> None:
    failure = await openai.failed(a_run("images=0"))

    assert failure.code is Code.NO_IMAGE


def test_an_answer_of_an_unknown_type_is_no_delivery() -> None:
    reply, document = OpenAIReply(a_run(), ()), InlineJson(PICTURES)

    shown = reply.take(document, {"type": "image_generation.pondering"})

    assert shown == []
    assert reply.is_empty
    with pytest.raises(GenerationFailed, match="PROVIDER_BAD_RESPONSE"):
        reply.delivery()


async def test_all_pictures_kept_back_are_a_refusal(openai: PlayedOpenAI) -> None:
    failure = await openai.failed(a_run("black=all", image_count=2))

    assert (failure.code, failure.retryable) == (Code.CONTENT_REFUSED, False)


async def test_a_stream_without_its_picture_has_an_unknown_outcome(openai: PlayedOpenAI) -> None:
    onlooker = Onlooker()

    failure = await openai.failed(a_run("early", preview_count=2), observer=onlooker)

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert len(onlooker.previews) == 2


MEANINGS: dict[str, tuple[Code, bool, Code]] = {
    "moderation_blocked": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "content_policy_violation": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "image_content_policy_violation": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "contentFilter": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "content_filter": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "filtered": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "invalid_value": (Code.PROVIDER_REJECTED_INPUT, False, Code.PROVIDER_REJECTED_INPUT),
    "invalid_image": (Code.PROVIDER_REJECTED_INPUT, False, Code.PROVIDER_REJECTED_INPUT),
    "billing_hard_limit_reached": (
        Code.PROVIDER_AUTHENTICATION,
        False,
        Code.PROVIDER_AUTHENTICATION,
    ),
    "insufficient_quota": (Code.PROVIDER_AUTHENTICATION, False, Code.PROVIDER_AUTHENTICATION),
    "organization_must_be_verified": (
        Code.PROVIDER_AUTHENTICATION,
        False,
        Code.PROVIDER_REJECTED_INPUT,
    ),
    "DeploymentNotFound": (Code.PROVIDER_AUTHENTICATION, False, Code.PROVIDER_AUTHENTICATION),
    "model_not_found": (Code.MODEL_RETIRED, False, Code.MODEL_RETIRED),
    "rate_limit_exceeded": (Code.PROVIDER_RATE_LIMITED, True, Code.PROVIDER_RATE_LIMITED),
    "429": (Code.PROVIDER_RATE_LIMITED, True, Code.PROVIDER_RATE_LIMITED),
    "server_error": (Code.PROVIDER_UNAVAILABLE, True, Code.PROVIDER_UNAVAILABLE),
}
"""As a status, and inside of a success."""


@pytest.mark.parametrize("kind", sorted(FAILURES))
async def test_every_code_has_its_meaning(openai: PlayedOpenAI, kind: str) -> None:
    code, retryable, inside = MEANINGS[kind]

    failure = await openai.failed(a_run(f"fail={kind}"))
    whole = await openai.failed(a_run(f"fail={kind} late"))
    streamed = await openai.failed(a_run(f"fail={kind} late", preview_count=1))

    assert (failure.code, failure.retryable) == (code, retryable)
    assert (whole.code, streamed.code) == (inside, inside)
    # Only an answered status says for certain that nothing was done.
    assert isinstance(failure, NotSubmitted) == (retryable and kind in TAKES_NOTHING)
    assert not isinstance(whole, NotSubmitted)
    assert not isinstance(streamed, NotSubmitted)


TAKES_NOTHING = {"rate_limit_exceeded", "429", "server_error"}


async def test_partial_images_stay_where_the_run_fails(openai: PlayedOpenAI) -> None:
    onlooker = Onlooker()

    failure = await openai.failed(
        a_run("fail=moderation_blocked late", preview_count=3), observer=onlooker
    )

    assert failure.code is Code.CONTENT_REFUSED
    assert len(onlooker.previews) == 3


@pytest.mark.parametrize("previews", WAYS)
@pytest.mark.parametrize(
    ("script", "code", "wait"),
    [
        ("submit=429", Code.PROVIDER_RATE_LIMITED, None),
        ("submit=429 retry_after=7", Code.PROVIDER_RATE_LIMITED, 7),
        ("submit=429 retry_after=@9", Code.PROVIDER_RATE_LIMITED, 9),
        ("submit=429 retry_after=1500ms", Code.PROVIDER_RATE_LIMITED, 1.5),
        ("submit=429 retry_after=12slimit", Code.PROVIDER_RATE_LIMITED, 12),
        ("submit=500", Code.PROVIDER_UNAVAILABLE, None),
        ("submit=503html", Code.PROVIDER_UNAVAILABLE, None),
        ("submit=503 retry_after=30", Code.PROVIDER_UNAVAILABLE, 30),
        ("submit=529", Code.PROVIDER_UNAVAILABLE, None),
    ],
)
async def test_a_request_that_was_not_obeyed_may_be_repeated(
    openai: PlayedOpenAI, script: str, code: Code, wait: float | None, previews: int
) -> None:
    witness = Witness()

    failure = await openai.failed(a_run(script, preview_count=previews), observer=witness)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is code
    assert failure.retry_after_seconds == (wait and pytest.approx(wait, abs=0.1 if wait < 9 else 2))
    assert witness.kinds == ["submitting"]
    assert openai.bill == []


async def test_a_request_that_could_not_be_connected_may_be_repeated(openai: PlayedOpenAI) -> None:
    nobody = openai.provider(url=f"http://127.0.0.1:{free_port()}")

    failure = await openai.failed(a_run(), provider=nobody)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_it_is_obeyed_when_it_is_repeated(openai: PlayedOpenAI) -> None:
    await openai.failed(a_run("stumble"))
    delivery = await openai.made(a_run("stumble"))

    assert len(delivery.images) == 1
    assert len(openai.bill) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "3", "retry-after-ms": "2500"}, 2.5),
        ({"retry-after": "3", "retry-after-ms": "soon"}, 3),
        ({"retry-after": "9999999"}, 600),
        ({"retry-after-ms": "999999999"}, 600),
        ({"x-ratelimit-reset-requests": "5s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s"}, 5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m"}, 600),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m120ms"}, 60.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "tomorrow"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
    ],
)
def test_how_long_we_are_asked_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_hint(httpx2.Headers(headers)) == (seconds and pytest.approx(seconds))


@pytest.mark.parametrize("previews", WAYS)
@pytest.mark.parametrize(
    "script",
    [
        *(
            f"taken submit={answer}"
            for answer in ("408", "499", "502", "502html", "504", "504html")
        ),
        *(f"taken submit={answer}" for answer in ("524", "520", "501", "302", "204", "drop")),
        pytest.param("cut=0", id="the line is cut before the answer"),
        pytest.param("cut=100", id="the line is cut within the answer's head"),
        pytest.param("cut=500", id="the line is cut within the answer"),
        pytest.param("silent", id="read time-out"),
    ],
)
async def test_an_answer_that_says_nothing_has_an_unknown_outcome(
    openai: PlayedOpenAI, script: str, previews: int
) -> None:
    witness = Witness()
    left = 1.0 if script == "silent" else 30.0

    failure = await openai.failed(
        a_run(script, preview_count=previews, seconds_left=left), observer=witness
    )

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert failure.retryable
    assert not isinstance(failure, NotSubmitted)
    assert witness.kinds[0] == "submitting"
    assert len(openai.bill) == 1


@pytest.mark.parametrize("previews", [0, 1])
async def test_an_answer_that_is_cut_at_any_byte_is_never_asked_for_again(
    openai: PlayedOpenAI, previews: int
) -> None:
    provider = openai.provider()
    ends: list[object] = []

    while None not in ends:
        ends.append(await end_of(provider, a_run(f"cut={len(ends)}", preview_count=previews)))

    assert len(ends) > 400  # a head, and a picture
    assert set(ends[:-1]) == {Code.OUTCOME_UNKNOWN}
    assert len(openai.bill) == len(ends)


@pytest.mark.parametrize(
    ("script", "previews", "code"),
    [
        pytest.param("hang=running", 2, Code.TIMED_OUT, id="never ends"),
        pytest.param("silent", 2, Code.OUTCOME_UNKNOWN, id="never answers"),
        pytest.param("hang=running", 0, Code.OUTCOME_UNKNOWN, id="says nothing while it works"),
    ],
)
async def test_what_outlasts_the_deadline_ends_at_it(
    openai: PlayedOpenAI, script: str, previews: int, code: Code
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    failure = await openai.failed(a_run(script, preview_count=previews, seconds_left=1.0))

    assert failure.code is code
    assert failure.retryable
    assert 0.8 < loop.time() - started < 15


async def test_a_slow_picture_is_waited_for(openai: PlayedOpenAI) -> None:
    for previews in (0, 2):
        delivery = await openai.made(a_run("seconds=0.6", preview_count=previews))
        assert delivery.images


async def test_a_run_without_any_time_left_asks_nobody(openai: PlayedOpenAI) -> None:
    witness = Witness()

    failure = await openai.failed(a_run(seconds_left=0), observer=witness)

    assert failure.code is Code.TIMED_OUT
    assert witness.kinds == openai.calls == []


async def test_what_stops_a_run_before_it_asks_costs_nothing(openai: PlayedOpenAI) -> None:
    class Late(Witness):
        async def submitting(self) -> None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await openai.provider().generate(a_run(), Late())

    assert openai.calls == []


async def test_a_watchers_own_trouble_is_not_taken_for_openais(openai: PlayedOpenAI) -> None:
    class Troubled(Onlooker):
        async def preview(self, data: bytes) -> None:
            raise TimeoutError(f"the database is away, and {len(data)} bytes are lost")

    with pytest.raises(TimeoutError, match="database"):
        await openai.provider().generate(a_run(preview_count=1), Troubled())


async def test_a_slow_watcher_loses_nothing(openai: PlayedOpenAI) -> None:
    class Slow(Onlooker):
        async def preview(self, data: bytes) -> None:
            await super().preview(data)
            await asyncio.sleep(0.3)

    onlooker = Slow()
    delivery = await openai.provider(pace=replace(QUICK, call=0.1)).generate(
        a_run(preview_count=3), onlooker
    )

    assert (len(onlooker.previews), len(delivery.images)) == (3, 1)


async def test_a_job_is_none_that_one_could_come_back_to(openai: PlayedOpenAI) -> None:
    failure = await openai.failed(a_run(job={"id": "resp_1"}))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert openai.calls == []
    await openai.provider().cancel({"id": "resp_1"})


async def test_a_run_that_is_cancelled_ends_at_once(openai: PlayedOpenAI) -> None:
    class Asking(Onlooker):
        async def preview(self, data: bytes) -> None:
            await super().preview(data)
            self.took.set()

    onlooker = Asking()
    run = asyncio.create_task(
        openai.provider().generate(a_run("hang=running", preview_count=1), onlooker)
    )
    await asyncio.wait_for(onlooker.took.wait(), 10)
    run.cancel()
    await asyncio.wait({run}, timeout=10)

    assert run.cancelled()
    assert len(openai.bill) == 1


@pytest.mark.parametrize(
    ("script", "event"),
    [
        ("submit=401", "provider does not take our key"),
        ("submit=402", "provider does not take our key"),
        ("fail=insufficient_quota", "provider does not take our key"),
        ("fail=DeploymentNotFound", "provider does not take our key"),
        ("submit=404", "provider does not have the model"),
    ],
)
async def test_what_the_operator_has_to_mend_is_an_alarm(
    openai: PlayedOpenAI, script: str, event: str
) -> None:
    with capture_logs() as logs:
        await openai.failed(a_run(script))

    assert [line["log_level"] for line in logs if line["event"] == event] == ["error"]


@pytest.mark.parametrize("azure", [False, True])
async def test_a_wrong_key_is_an_alarm_that_does_not_tell_it(
    openai: PlayedOpenAI, azure: bool
) -> None:
    provider = openai.azure(key="canary-key") if azure else openai.provider(key="canary-key")

    with capture_logs() as logs:
        failure = await openai.failed(a_run(), provider=provider)

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert [line["log_level"] for line in logs] == ["error"]
    assert "canary" not in f"{failure} {failure!r} {logs}"


async def test_a_model_that_is_gone_is_an_alarm(openai: PlayedOpenAI) -> None:
    with capture_logs() as logs:
        failure = await openai.failed(a_run(model="img-gpt-image-1"))

    assert failure.code is Code.MODEL_RETIRED
    assert [line["log_level"] for line in logs] == ["error"]


async def test_a_deployment_that_is_not_there_is_an_alarm(openai: PlayedOpenAI) -> None:
    for api_version in ("preview", "2025-04-01-preview"):
        azure = openai.azure(api_version=api_version, deployments={"gpt-image-2": "nobody-s"})
        failure = await openai.failed(a_run(model="img-gpt-image-2"), provider=azure)
        assert failure.code is Code.PROVIDER_AUTHENTICATION


SAID = [
    *(f"fail={kind}" for kind in sorted(FAILURES)),
    *(f"fail={kind} late" for kind in sorted(FAILURES)),
    *("submit=500", "submit=422", "submit=404", "submit=401", "taken submit=502html", "cut=30"),
    *("result=html", "result=detail", "result=huge", "black=all", "images=0", "early", "bare"),
]


@pytest.mark.parametrize("script", SAID)
async def test_neither_prompts_nor_keys_are_told_to_the_log(
    openai: PlayedOpenAI, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    said = "Exactly what the Canary asked for in confidence"
    told: list[str] = []

    with capture_logs() as logs:
        for previews in (0, 1):
            run = a_run(script, words=said, preview_count=previews)
            try:
                await openai.provider(max_bytes=SMALL_LIMIT).generate(run, Witness())
            except GenerationFailed as failure:
                told += [str(failure), repr(failure), str(failure.__cause__)]

    everything = " ".join([*told, str(logs), caplog.text]).lower()
    assert "canary" not in everything
    assert "confidence" not in everything
    assert KEY not in everything
    assert all(len(line) < 1000 for line in told)


@asynccontextmanager
async def measured() -> AsyncIterator[list[int]]:
    """The most bytes that were held within the block, once it has ended."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


async def all_ends(provider: Any, runs: list[GenerationRequest]) -> list[Any]:
    return await asyncio.gather(
        *(provider.generate(run, Witness()) for run in runs), return_exceptions=True
    )


@pytest.mark.parametrize("previews", WAYS)
async def test_twenty_large_pictures_at_once_cost_no_more_than_their_bytes(
    openai: PlayedOpenAI, previews: int
) -> None:
    size, count = 2**20, 20
    async with simulator_process("openai", "--script", f"bytes={size}") as url:
        provider = openai.provider(url=url)
        async with measured() as peak:
            ends = await all_ends(provider, [a_run(preview_count=previews)] * count)

    assert [len(end.images[0].data) for end in ends] == [size] * count
    assert peak[0] < 1.4 * count * size  # as text alone they would be 1.33 times as much


@pytest.mark.parametrize("nonsense", ["result=huge", "result=gzip", "bytes=9000000"])
async def test_twenty_answers_beyond_the_limit_keep_memory_bounded(
    openai: PlayedOpenAI, nonsense: str
) -> None:
    limit = 2**20
    async with simulator_process("openai", "--script", nonsense) as url:
        provider = openai.provider(url=url, max_bytes=limit)
        async with measured() as peak:
            ends = await all_ends(provider, [a_run()] * 20)

    assert {end.code for end in ends} == {Code.PROVIDER_BAD_RESPONSE}
    assert peak[0] < 1.2 * 20 * (limit + MAX_WORDS_BYTES)


async def test_many_runs_at_once_are_one_request_each(openai: PlayedOpenAI) -> None:
    ends = await all_ends(
        openai.provider(), [a_run(words=f"Number {n}", preview_count=n % 2) for n in range(60)]
    )

    assert len({end.images[0].data for end in ends}) == 60
    assert sorted(entry.prompt for entry in openai.bill) == sorted(f"Number {n}" for n in range(60))
