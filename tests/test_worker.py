"""`python -m worker`, as a person runs it: what it needs, and how it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.mongod_owner import folder_owner
from tests.brokers import NatsServer
from tests.serving import free_port
from tests.waits import START_SECONDS

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 30

# Services with which `worker` is tested: they take as long to close as requested.
SLOW_BOOTSTRAP = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

@asynccontextmanager
async def open_worker(settings, *, grace_left, metrics_listener):
    print("grace", grace_left(), flush=True)
    try:
        yield
    finally:
        print("ending", flush=True)
        await asyncio.sleep(600)
"""

BROKEN_BOOTSTRAP = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def open_worker(settings, *, grace_left, metrics_listener):
    raise RuntimeError("broken")
    yield
"""


class Working:
    """A process, and its output so far on both streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, words: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while words not in self.said:
                line = await self.process.stdout.readline()
                assert line, f"It ended instead of saying {words}: {self.said}"
                self.said += line.decode()

    async def end(self, *signals: signal.Signals) -> int:
        """As `Serving.end`: without signals, it may still be starting."""
        for number in signals:
            self.process.send_signal(number)
        limit = STOP_SECONDS if signals else START_SECONDS + STOP_SECONDS
        output, _ = await asyncio.wait_for(self.process.communicate(), limit)
        self.said += output.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def work(data_dir: Path, *, folder: Path = ROOT, **environ: str) -> AsyncIterator[Working]:
    """Run it in the folder whose `bootstrap.py` is wanted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker"),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DARKROOM_DATA_DIR": str(data_dir),
            **environ,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Working(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def nowhere() -> str:
    return f"nats://user:canary@127.0.0.1:{free_port()}"


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """A folder for a `bootstrap.py`."""
    folder = tmp_path / "services"
    folder.mkdir()
    return folder


async def test_without_nats_it_fails_with_a_message(tmp_path: Path) -> None:
    async with work(tmp_path) as worker:
        assert await worker.end() == 2

    assert worker.said == (
        "A worker needs DARKROOM_NATS_URL, the NATS server that notifies it of outputs to run; "
        "without one, `make run` runs outputs itself.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_stops_it_in_order(
    tmp_path: Path,
    nats_server: NatsServer,
    mongodb_uri: str,
    database_name: str,
    number: signal.Signals,
) -> None:
    async with work(
        tmp_path,
        DARKROOM_NATS_URL=nats_server.url,
        DARKROOM_MONGODB_URI=mongodb_uri,
        DARKROOM_MONGODB_DATABASE=database_name,
    ) as worker:
        await worker.until("NATS is reachable")

        assert await worker.end(number) == 0

    assert "Traceback" not in worker.said


async def test_it_runs_outputs_while_nats_is_unavailable(
    tmp_path: Path, mongodb_uri: str, database_name: str
) -> None:
    async with work(
        tmp_path,
        DARKROOM_NATS_URL=nowhere(),
        DARKROOM_MONGODB_URI=mongodb_uri,
        DARKROOM_MONGODB_DATABASE=database_name,
    ) as worker:
        await worker.until("working")
        await worker.until("NATS is unreachable")

        assert await worker.end(signal.SIGTERM) == 0

    assert "canary" not in worker.said
    assert "Traceback" not in worker.said


async def test_it_uses_the_mongod_that_another_process_shares(
    services: Path, tmp_path: Path, mongodb_uri: str
) -> None:
    (services / "bootstrap.py").write_text(SLOW_BOOTSTRAP)
    async with work(tmp_path, folder=services, DARKROOM_NATS_URL=nowhere()) as worker:
        await worker.until("waiting for the mongod of another process")
        with folder_owner(tmp_path) as owner:
            assert await owner.acquire(may_own=True) is None
            owner.write(uri=mongodb_uri)

            await worker.until("working")


async def test_it_does_not_start_a_mongod(tmp_path: Path) -> None:
    async with work(tmp_path, DARKROOM_NATS_URL=nowhere()) as worker:
        await worker.until("waiting for the mongod of another process")

        assert await worker.end(signal.SIGTERM) == 0

    assert not (tmp_path / "mongod").exists()


async def test_a_worker_has_a_grace_period_of_200_seconds_by_default(
    services: Path, tmp_path: Path, mongodb_uri: str
) -> None:
    (services / "bootstrap.py").write_text(SLOW_BOOTSTRAP)
    environ = {"DARKROOM_NATS_URL": nowhere(), "DARKROOM_MONGODB_URI": mongodb_uri}
    async with work(tmp_path, folder=services, **environ) as worker:
        await worker.until("grace 200.0\n")
    async with work(tmp_path, folder=services, DARKROOM_GRACE="7", **environ) as worker:
        await worker.until("grace 7.0\n")


async def test_a_second_ctrl_c_stops_it_at_once(
    services: Path, tmp_path: Path, mongodb_uri: str
) -> None:
    (services / "bootstrap.py").write_text(SLOW_BOOTSTRAP)
    environ = {"DARKROOM_NATS_URL": nowhere(), "DARKROOM_MONGODB_URI": mongodb_uri}
    async with work(tmp_path, folder=services, **environ) as worker:
        await worker.until("working")
        worker.process.send_signal(signal.SIGINT)
        await worker.until("ending")

        assert await worker.end(signal.SIGINT) == 1

    assert "Stopped without waiting any longer." in worker.said
    assert "Traceback" not in worker.said


async def test_services_that_cannot_be_opened_are_reported_with_the_cause(
    services: Path, tmp_path: Path, mongodb_uri: str
) -> None:
    (services / "bootstrap.py").write_text(BROKEN_BOOTSTRAP)
    environ = {"DARKROOM_NATS_URL": nowhere(), "DARKROOM_MONGODB_URI": mongodb_uri}
    async with work(tmp_path, folder=services, **environ) as worker:
        assert await worker.end() == 1

    assert "RuntimeError: broken" in worker.said
