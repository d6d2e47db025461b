"""fal's jobs: gone on with, cancelled, and many at once."""

import asyncio
import tracemalloc
from pathlib import Path

import httpx2
import pytest

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.outputs import ProviderJob
from providers.safe_http import AT_ONCE
from tests.providers.fal_runs import PlayedFal, a_run, crashed_run
from tests.providers.runs import Witness, simulator_process
from tests.serving import free_port
from tests.simulators.fal import KEY, FalSimulator, serving_fal

Code = GenerationErrorCode


async def test_a_run_is_gone_on_with_by_its_job(fal: PlayedFal) -> None:
    job = await crashed_run(fal, "seconds=0.3")
    witness = Witness()

    delivery = await fal.provider().generate(a_run(job=job), witness)

    assert len(delivery.images) == 1
    assert "submitting" not in witness.kinds
    assert "submitted" not in witness.kinds
    assert len(fal.bill) == 1
    assert len([call for call in fal.calls if call.startswith("POST")]) == 1


async def test_a_stored_job_is_plain_words(fal: PlayedFal) -> None:
    job = await crashed_run(fal, "hang=running")

    assert set(job) == {"endpoint", "request_id", "status_url", "response_url", "cancel_url"}
    assert all(isinstance(value, str) for value in job.values())
    assert KEY not in str(job)


async def test_a_job_of_which_only_the_id_is_left_is_found_by_the_rule(fal: PlayedFal) -> None:
    job = await crashed_run(fal, "seconds=0.1")
    rest = {name: job[name] for name in ("endpoint", "request_id")}

    assert (await fal.provider().generate(a_run(job=rest), Witness())).images


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"request_id": "r1"},
        {"endpoint": "fal-ai/nano-banana-pro"},
        {"endpoint": "fal-ai/nano-banana-pro", "request_id": "../../secrets"},
        {"endpoint": "fal-ai/nano-banana-pro", "request_id": "nobody-s"},
    ],
)
async def test_a_job_that_cannot_be_found_has_an_unknown_outcome(
    fal: PlayedFal, job: dict[str, str]
) -> None:
    failure = await fal.failed(a_run(job=job))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert fal.bill == []


async def test_an_answers_foreign_addresses_never_see_the_key(fal: PlayedFal) -> None:
    stranger = FalSimulator()
    async with serving_fal(stranger) as foreign_url:
        for base in (foreign_url, "http://user@127.0.0.1:1", "http://localhost:1"):
            assert (await fal.made(a_run(f"urls={base}"))).images

    assert len(stranger.seen) == 0


async def test_a_stored_jobs_foreign_addresses_never_see_the_key(fal: PlayedFal) -> None:
    stranger = FalSimulator()
    async with serving_fal(stranger) as foreign_url:
        job = await crashed_run(fal, "seconds=0.1")
        moved = {
            name: value.replace(fal.url, foreign_url) if name.endswith("_url") else value
            for name, value in job.items()
        }
        assert (await fal.provider().generate(a_run(job=moved), Witness())).images
        await fal.provider().cancel(moved)

    assert len(stranger.seen) == 0
    assert any(call.endswith("/cancel") for call in fal.calls)


async def test_a_job_in_the_queue_is_cancelled_and_free(fal: PlayedFal) -> None:
    job = await crashed_run(fal, "hang=queue")

    await fal.provider().cancel(job)
    failure = await fal.failed(a_run(job=job))

    (entry,) = fal.bill
    assert entry.cancelled
    assert not entry.billed
    assert failure.code is Code.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize("script", ["", "hang=running stubborn", "hang=running"])
async def test_cancelling_raises_nothing(fal: PlayedFal, script: str) -> None:
    job = await crashed_run(fal, script or "seconds=0")

    await fal.provider().cancel(job)
    await fal.provider().cancel(job)


@pytest.mark.parametrize("job", [{}, {"request_id": "r1"}, {"endpoint": "a", "request_id": "r1"}])
async def test_cancelling_an_odd_job_raises_nothing(fal: PlayedFal, job: dict[str, str]) -> None:
    await fal.provider().cancel(job)


async def test_cancelling_where_nobody_answers_raises_nothing(fal: PlayedFal) -> None:
    job = await crashed_run(fal, "hang=running")
    nobody = fal.provider(url=f"http://127.0.0.1:{free_port()}")

    await nobody.cancel(job)

    assert not fal.bill[0].cancelled


async def test_a_watcher_that_stops_the_run_stops_it(fal: PlayedFal) -> None:
    class HandedOver(Exception):
        pass

    class Impatient(Witness):
        async def submitted(self, job: ProviderJob) -> None:
            await super().submitted(job)
            raise HandedOver

    witness = Impatient()
    with pytest.raises(HandedOver):
        await fal.provider().generate(a_run(), witness)

    assert (await fal.provider().generate(a_run(job=witness.job), Witness())).images
    assert len(fal.bill) == 1


async def test_what_stops_a_run_before_it_asks_costs_nothing(fal: PlayedFal) -> None:
    class Late(Witness):
        async def submitting(self) -> None:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await fal.provider().generate(a_run(), Late())

    assert fal.calls == []


async def test_the_bill_outlives_a_killed_simulator(fal: PlayedFal, tmp_path: Path) -> None:
    port, bill = str(free_port()), str(tmp_path / "bill.jsonl")
    witness = Witness()
    async with simulator_process("fal", "--port", port, "--bill", bill) as url:
        run = asyncio.create_task(fal.provider(url=url).generate(a_run("seconds=1"), witness))
        await asyncio.wait_for(witness.took.wait(), 10)

    # The run itself lives through it: the simulator is only away for a moment.
    async with simulator_process("fal", "--port", port, "--bill", bill) as url:
        delivery = await run
        async with httpx2.AsyncClient(timeout=30) as http:
            entries = (await http.get(f"{url}/bill")).json()

    assert len(delivery.images) == 1
    assert [entry["prompt"] for entry in entries] == ["A lighthouse [fal seconds=1]"]
    assert [(entry["delivered"], entry["billed"]) for entry in entries] == [(True, True)]


async def test_twenty_endless_results_at_once_keep_memory_bounded(fal: PlayedFal) -> None:
    limit = 2 * 2**20
    async with simulator_process("fal", "--script", "file=huge") as url:
        provider = fal.provider(url=url, max_bytes=limit)
        tracemalloc.start()
        try:
            ends = await asyncio.gather(
                *(provider.generate(a_run(), Witness()) for _ in range(20)),
                return_exceptions=True,
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    codes = {end.code for end in ends if isinstance(end, GenerationFailed)}
    assert codes == {Code.PROVIDER_BAD_RESPONSE}
    assert len(ends) == 20
    assert peak < 2 * AT_ONCE * limit  # far below twenty of them


async def test_twenty_large_results_cost_no_more_than_their_bytes(fal: PlayedFal) -> None:
    size, count = 2**20, 20
    async with simulator_process("fal", "--script", f"bytes={size}") as url:
        provider = fal.provider(url=url)
        tracemalloc.start()
        try:
            deliveries = await asyncio.gather(
                *(provider.generate(a_run(), Witness()) for _ in range(count))
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert [len(delivery.images[0].data) for delivery in deliveries] == [size] * count
    assert peak < (count + 2 * AT_ONCE) * size


async def test_many_runs_at_once_are_one_job_each(fal: PlayedFal) -> None:
    provider = fal.provider()

    deliveries = await asyncio.gather(
        *(provider.generate(a_run(words=f"Number {n}"), Witness()) for n in range(100))
    )

    assert len({delivery.images[0].data for delivery in deliveries}) == 100
    assert sorted(entry.prompt for entry in fal.bill) == sorted(f"Number {n}" for n in range(100))


async def test_its_name_is_that_of_the_catalogue(fal: PlayedFal) -> None:
    provider = fal.provider()

    assert provider.name == "fal"
    assert provider.max_concurrent_runs == 20
