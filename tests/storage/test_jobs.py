"""The queue of one process."""

import asyncio

from domain.ids import OutputId
from storage.jobs import MAX_RUNNING, LocalJobQueue

IDS = [OutputId(f"out_{number}") for number in range(MAX_RUNNING + 10)]


class Runs:
    """Runs that end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[OutputId] = []
        self.ended: list[OutputId] = []
        self.may_end = asyncio.Event()

    async def __call__(self, output_id: OutputId) -> None:
        self.begun.append(output_id)
        try:
            await self.may_end.wait()
        finally:
            self.ended.append(output_id)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_so_many_run_beside_each_other_and_the_others_wait() -> None:
    runs = Runs()
    queue = LocalJobQueue(runs)
    async with queue.serve():
        queue.enqueue(IDS)
        await settled()
        assert runs.begun == IDS[:MAX_RUNNING]

        runs.may_end.set()
        await settled()

    assert runs.begun == runs.ended == IDS


async def test_what_is_asked_for_again_while_it_runs_runs_after_that() -> None:
    runs = Runs()
    queue = LocalJobQueue(runs)
    async with queue.serve():
        queue.enqueue([IDS[0]])
        await settled()

        queue.enqueue([IDS[0], IDS[0]])
        await settled()
        assert runs.begun == [IDS[0]]
        runs.may_end.set()
        await settled()

    assert runs.begun == [IDS[0], IDS[0]]


async def test_what_is_recalled_stops_whether_it_waits_or_runs() -> None:
    runs = Runs()
    queue = LocalJobQueue(runs)
    async with queue.serve():
        queue.enqueue(IDS)
        await settled()

        queue.recall([IDS[0], IDS[-1]])
        await settled()

        assert runs.ended == [IDS[0]]
        runs.may_end.set()
        await settled()
    assert IDS[-1] not in runs.begun


async def test_at_the_end_everything_that_runs_is_stopped_and_nothing_begins() -> None:
    runs = Runs()
    queue = LocalJobQueue(runs)
    async with queue.serve():
        queue.enqueue(IDS)
        await settled()

    queue.enqueue([IDS[-1]])
    await settled()
    assert runs.begun == runs.ended == IDS[:MAX_RUNNING]
