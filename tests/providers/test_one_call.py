"""What holds for each provider of which one call is the whole run, against its simulator.

The names of the cases are the words of the table of what vendors may answer.
"""

import asyncio
import logging
import tracemalloc
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image as Pictures
from structlog.testing import capture_logs

from domain.errors import (
    GenerationErrorCode,
    GenerationFailed,
    NotSubmitted,
    StoreUnavailable,
)
from domain.images import Image
from domain.models import ImageModel
from domain.outputs import ProviderJob
from tests.providers.one_call_runs import (
    KEYS,
    PLAIN,
    SERVED,
    PlayedOneCall,
    a_plain_run,
    a_run,
    a_streamed_run,
    edits,
    everything_of,
)
from tests.providers.openai_runs import Onlooker
from tests.providers.pictures import Shelf, a_reference
from tests.providers.runs import Witness, end_of, processed, simulator_process
from tests.serving import free_port
from tests.simulators.openrouter import PATH

Code = GenerationErrorCode
SMALL_LIMIT = 200_000


async def a_picture(shelf: Shelf, shade: int = 0) -> Image:
    return await a_reference(shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


ROWS: list[Any] = [pytest.param(model.provider, model, id=model.id) for model in SERVED]


@pytest.mark.parametrize(("one_call", "model"), ROWS, indirect=["one_call"])
async def test_all_that_a_row_offers_is_taken(one_call: PlayedOneCall, model: ImageModel) -> None:
    provider = one_call.provider()
    asked = 0

    for run in everything_of(model):
        delivery = await provider.generate(run, Witness())
        assert len(delivery.images) == run.image_count
        asked += 1

    assert len(one_call.bill) == asked
    assert {entry.outcome for entry in one_call.bill} == {"delivered"}


@pytest.mark.parametrize(("one_call", "model"), ROWS, indirect=["one_call"])
async def test_as_many_references_as_a_row_takes_are_sent(
    one_call: PlayedOneCall, model: ImageModel
) -> None:
    if not edits(model):
        assert model.max_references == 0
        return
    references = [await a_picture(one_call.shelf, shade) for shade in range(model.max_references)]

    for count in {1, len(references)}:
        await one_call.made(a_run("", *references[:count], model=model.id))

    assert {entry.outcome for entry in one_call.bill} == {"delivered"}


async def test_a_run_tells_that_it_asks_and_of_no_job(one_call: PlayedOneCall) -> None:
    witness = Witness()

    delivery = await one_call.provider().generate(a_plain_run(one_call), witness)

    assert witness.kinds == ["submitting"]
    assert delivery.images[0].data.startswith(b"\xff\xd8")
    assert [entry.billed for entry in one_call.bill] == [True]


async def test_a_seed_comes_back_where_it_was_sent(one_call: PlayedOneCall) -> None:
    sent = await one_call.made(a_plain_run(one_call, seed="5"))
    none = await one_call.made(a_plain_run(one_call))

    assert [image.seed for image in (*sent.images, *none.images)] == ["5", None]


async def test_more_pictures_than_asked_for_are_left_out(one_call: PlayedOneCall) -> None:
    delivery = await one_call.made(a_plain_run(one_call, "images=3"))

    assert len(delivery.images) == 1


@pytest.mark.parametrize("script", ["", "escaped", "bytes=300001"])
async def test_other_ways_to_write_the_same_answer_are_understood(
    one_call: PlayedOneCall, script: str
) -> None:
    await processed(one_call.provider(), a_plain_run(one_call, script))


async def test_previews_are_shown_as_many_as_are_wanted(one_call: PlayedOneCall) -> None:
    onlooker, shy = Onlooker(), Onlooker()
    provider = one_call.provider()

    delivery = await provider.generate(a_streamed_run(one_call, "partials=3"), onlooker)
    await provider.generate(a_streamed_run(one_call, "partials=3", preview_count=0), shy)

    assert len(onlooker.previews) == 2
    assert len(set(onlooker.previews)) == 2
    assert delivery.images[0].data not in onlooker.previews
    assert len(delivery.images) == 1
    assert shy.previews == []


ENDS: list[Any] = [
    pytest.param("submit=html", Code.PROVIDER_BAD_RESPONSE, id="200 with HTML"),
    pytest.param("submit=empty", Code.PROVIDER_BAD_RESPONSE, id="200, empty"),
    pytest.param("submit=list", Code.PROVIDER_BAD_RESPONSE, id="200, not an object"),
    pytest.param("submit=nothing", Code.PROVIDER_BAD_RESPONSE, id="200, missing fields"),
    pytest.param("submit=strange", Code.PROVIDER_BAD_RESPONSE, id="200, other fields"),
    pytest.param("file=html", Code.PROVIDER_BAD_RESPONSE, id="image/png that is HTML"),
    pytest.param("file=svg", Code.PROVIDER_BAD_RESPONSE, id="image/png that is SVG"),
    pytest.param("file=short", Code.PROVIDER_BAD_RESPONSE, id="image/png that is truncated"),
    pytest.param("file=empty", Code.PROVIDER_BAD_RESPONSE, id="image/png that is empty"),
    pytest.param("garbled", Code.PROVIDER_BAD_RESPONSE, id="200, an image that is no base64"),
    pytest.param("submit=huge", Code.PROVIDER_BAD_RESPONSE, id="body beyond the limit"),
    pytest.param("submit=gzip", Code.PROVIDER_BAD_RESPONSE, id="body that is a gzip bomb"),
    pytest.param("submit=broken", Code.PROVIDER_BAD_RESPONSE, id="body that is no gzip"),
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
]


@pytest.mark.parametrize(("script", "code"), ENDS)
async def test_an_answer_of_the_vendors(one_call: PlayedOneCall, script: str, code: Code) -> None:
    provider = one_call.provider(max_bytes=SMALL_LIMIT)

    with pytest.raises(GenerationFailed) as failed:
        await processed(provider, a_plain_run(one_call, script))

    assert failed.value.code is code
    assert not isinstance(failed.value, NotSubmitted)
    assert len(one_call.calls) == 1
    if code in (Code.MODEL_RETIRED, Code.PROVIDER_AUTHENTICATION, Code.PROVIDER_REJECTED_INPUT):
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
async def test_what_was_not_taken_may_be_repeated(
    one_call: PlayedOneCall, script: str, code: Code, wait: float | None
) -> None:
    witness = Witness()

    failure = await one_call.failed(a_plain_run(one_call, script), observer=witness)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is code
    assert failure.retry_after_seconds == (wait and pytest.approx(wait, abs=2))
    assert witness.kinds == ["submitting"]
    assert one_call.bill == []


async def test_what_could_not_be_connected_may_be_repeated(one_call: PlayedOneCall) -> None:
    nobody = one_call.provider(url=f"http://127.0.0.1:{free_port()}")

    failure = await one_call.failed(a_plain_run(one_call), provider=nobody)

    assert isinstance(failure, NotSubmitted)
    assert failure.code is Code.PROVIDER_UNAVAILABLE


async def test_it_is_taken_when_it_is_repeated(one_call: PlayedOneCall) -> None:
    provider = one_call.provider()

    await one_call.failed(a_plain_run(one_call, "stumble"), provider=provider)
    delivery = await provider.generate(a_plain_run(one_call, "stumble"), Witness())

    assert len(delivery.images) == 1
    assert len(one_call.bill) == 1


@pytest.mark.parametrize(
    "script",
    [
        *(f"taken submit={status}" for status in (408, 499, "502html", 504, 524, 520, 501, 302)),
        *("taken submit=drop", "cut=0", "cut=100", "silent"),
    ],
)
async def test_an_answer_that_says_nothing_has_an_unknown_outcome(
    one_call: PlayedOneCall, script: str
) -> None:
    witness = Witness()
    seconds_left = 1.0 if script == "silent" else 30.0

    failure = await one_call.failed(
        a_plain_run(one_call, script, seconds_left=seconds_left), observer=witness
    )

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert failure.retryable
    assert not isinstance(failure, NotSubmitted)
    assert witness.kinds == ["submitting"]
    assert len(one_call.bill) == 1


@pytest.mark.parametrize("a_run_of", [a_plain_run, a_streamed_run])
async def test_an_answer_that_is_cut_at_any_byte_is_never_asked_for_again(
    one_call: PlayedOneCall, a_run_of: Any
) -> None:
    provider, byte_count, ends = one_call.provider(), 0, list[object]()

    while None not in ends:
        ends.append(await end_of(provider, a_run_of(one_call, f"partials=1 cut={byte_count}")))
        byte_count += 3 if byte_count < 400 else 197

    assert len(ends) > 130
    assert set(ends[:-1]) == {Code.OUTCOME_UNKNOWN}
    assert len(one_call.bill) == len(ends)


async def test_a_stream_without_its_end_has_an_unknown_outcome(one_call: PlayedOneCall) -> None:
    script = "early images=0" if one_call.simulator.provider == "gemini" else "early"

    failure = await one_call.failed(a_streamed_run(one_call, script))

    assert failure.code is Code.OUTCOME_UNKNOWN


async def test_what_never_ends_is_given_up_at_the_deadline(one_call: PlayedOneCall) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    failure = await one_call.failed(a_plain_run(one_call, "silent", seconds_left=0.5))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert 0.4 < loop.time() - started < 15


async def test_a_run_without_any_time_left_asks_nobody(one_call: PlayedOneCall) -> None:
    witness = Witness()

    failure = await one_call.failed(a_plain_run(one_call, seconds_left=0), observer=witness)

    assert failure.code is Code.TIMED_OUT
    assert witness.kinds == one_call.calls == []


@pytest.mark.parametrize("job", [{}, {"request_id": "r1"}])
async def test_there_are_no_jobs_to_go_on_with(one_call: PlayedOneCall, job: ProviderJob) -> None:
    provider = one_call.provider()

    failure = await one_call.failed(a_plain_run(one_call, job=job), provider=provider)
    await provider.cancel(job)

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert one_call.calls == []


async def test_a_cancelled_run_hangs_up(one_call: PlayedOneCall) -> None:
    class Asking(Witness):
        async def submitting(self) -> None:
            self.took.set()

    witness = Asking()
    run = asyncio.create_task(
        one_call.provider().generate(a_plain_run(one_call, "silent"), witness)
    )
    await asyncio.wait_for(witness.took.wait(), 10)

    run.cancel()
    await asyncio.wait({run}, timeout=10)

    assert run.cancelled()


async def test_what_stops_a_run_before_it_asks_costs_nothing(one_call: PlayedOneCall) -> None:
    class Late(Witness):
        async def submitting(self) -> None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await one_call.provider().generate(a_plain_run(one_call), Late())

    assert one_call.calls == []


async def test_what_a_watcher_fails_with_is_told_as_it_is(one_call: PlayedOneCall) -> None:
    class Full(Onlooker):
        async def preview(self, data: bytes) -> None:
            raise StoreUnavailable(f"{len(data)} bytes")

    with pytest.raises(StoreUnavailable):
        await one_call.provider().generate(a_streamed_run(one_call, "partials=1"), Full())


async def test_a_reference_that_is_away_costs_nothing(one_call: PlayedOneCall) -> None:
    witness = Witness()
    reference = await a_picture(one_call.shelf)
    await one_call.shelf.delete([reference.key])

    with pytest.raises(StoreUnavailable):
        await one_call.provider().generate(
            a_run("", reference, model=PLAIN[one_call.simulator.provider]), witness
        )

    assert witness.kinds == one_call.calls == []


@pytest.mark.parametrize(
    ("script", "event"),
    [
        ("submit=401", "provider does not take our key"),
        ("submit=402", "provider does not take our key"),
        ("submit=404", "provider does not have the model"),
        ("fail=401 late", "provider does not take our key"),
    ],
)
async def test_what_the_operator_has_to_mend_is_an_alarm(
    one_call: PlayedOneCall, script: str, event: str
) -> None:
    with capture_logs() as logs:
        await one_call.failed(a_plain_run(one_call, script))

    assert [line["log_level"] for line in logs if line["event"] == event] == ["error"]


async def test_a_wrong_key_is_an_alarm_that_does_not_tell_it(one_call: PlayedOneCall) -> None:
    with capture_logs() as logs:
        failure = await one_call.failed(
            a_plain_run(one_call), provider=one_call.provider(key="id:canary-key")
        )

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert [line["log_level"] for line in logs] == ["error"]
    assert "canary" not in f"{failure} {failure!r} {logs}"


async def test_what_a_model_does_not_have_is_our_own_mistake(one_call: PlayedOneCall) -> None:
    foreign = next(name for name in PLAIN if name != one_call.simulator.provider)
    witness = Witness()

    failure = await one_call.failed(a_run(model=PLAIN[foreign]), observer=witness)

    assert failure.code is Code.INTERNAL
    assert witness.kinds == one_call.calls == []


async def test_neither_prompts_nor_keys_are_told_to_the_log(
    one_call: PlayedOneCall, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    said = "Exactly what the Canary asked for in confidence"
    scripts = [f"fail={kind}" for kind in sorted(one_call.simulator.failures)]
    scripts += [f"fail={kind} late" for kind in sorted(one_call.simulator.errors)]
    scripts += ["submit=html", "submit=500", "taken submit=504html", "cut=30", "images=0"]
    told: list[str] = []

    with capture_logs() as logs:
        for script in scripts:
            failure = await one_call.failed(a_plain_run(one_call, script, words=said))
            told += [str(failure), repr(failure), str(failure.__cause__)]

    everything = " ".join([*told, str(logs), caplog.text]).lower()
    assert "canary" not in everything
    assert "confidence" not in everything
    assert KEYS[one_call.simulator.provider] not in everything
    assert all(len(line) < 1000 for line in told)


async def test_twenty_endless_answers_at_once_keep_memory_bounded(one_call: PlayedOneCall) -> None:
    limit, name = 2 * 2**20, one_call.simulator.provider
    async with simulator_process(name, "--script", "submit=huge") as url:
        provider = one_call.provider(url=url, max_bytes=limit)
        tracemalloc.start()
        try:
            ends = await asyncio.gather(
                *(provider.generate(a_plain_run(one_call), Witness()) for _ in range(20)),
                return_exceptions=True,
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    codes = {end.code for end in ends if isinstance(end, GenerationFailed)}
    assert codes == {Code.PROVIDER_BAD_RESPONSE}
    assert len(ends) == 20
    assert peak < 10 * limit  # far below twenty of them


@pytest.mark.parametrize("a_run_of", [a_plain_run, a_streamed_run])
async def test_twenty_large_answers_cost_no_more_than_their_pictures(
    one_call: PlayedOneCall, a_run_of: Any
) -> None:
    size, count, name = 2**20, 20, one_call.simulator.provider
    async with simulator_process(name, "--script", f"bytes={size}") as url:
        provider = one_call.provider(url=url)
        tracemalloc.start()
        try:
            deliveries = await asyncio.gather(
                *(provider.generate(a_run_of(one_call), Witness()) for _ in range(count))
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert [len(delivery.images[0].data) for delivery in deliveries] == [size] * count
    # As text they would be a third larger, and would be there beside the pictures.
    assert peak < 1.35 * count * size


async def test_many_runs_at_once_are_one_picture_each(one_call: PlayedOneCall) -> None:
    provider = one_call.provider()

    deliveries = await asyncio.gather(
        *(
            provider.generate(a_plain_run(one_call, words=f"Number {n}"), Witness())
            for n in range(100)
        )
    )

    assert len({delivery.images[0].data for delivery in deliveries}) == 100
    assert sorted(entry.prompt for entry in one_call.bill) == sorted(
        f"Number {n}" for n in range(100)
    )


async def test_the_bill_outlives_a_killed_simulator(
    one_call: PlayedOneCall, tmp_path: Path
) -> None:
    port, bill = str(free_port()), str(tmp_path / "bill.jsonl")
    name = one_call.simulator.provider
    async with simulator_process(name, "--port", port, "--bill", bill) as url:
        provider = one_call.provider(url=url)
        await provider.generate(a_plain_run(one_call), Witness())
    async with simulator_process(name, "--port", port, "--bill", bill) as url:
        await provider.generate(a_plain_run(one_call, words="Another one"), Witness())
        async with httpx2.AsyncClient(timeout=30) as http:
            entries = (await http.get(f"{url}/bill")).json()

    assert [entry["prompt"] for entry in entries] == ["A lighthouse", "Another one"]
    assert all(entry["billed"] for entry in entries)


def test_their_names_are_those_of_the_catalogue(one_call: PlayedOneCall) -> None:
    provider = one_call.provider()

    assert provider.name == one_call.simulator.provider
    assert provider.max_concurrent_runs == 20
    assert PATH == "api/v1"
