"""Real processes that tests kill and freeze, each ended by its pid: APIs, workers, and simulated
providers.

What must stay true: whatever a test does to them, none outlives it.
"""

import asyncio
import os
import re
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2
from pymongo.asynchronous.database import AsyncDatabase

from runtime.local_mongod import Mongod
from tests.clients import Data, GraphQLClient
from tests.http import open_http
from tests.programs import end_process, environment_without_settings
from tests.resilience.preloaded import PRELOADED, Fork
from tests.serving import free_port
from tests.simulators.fal import KEY as FAL_KEY
from tests.simulators.replicate import KEY as REPLICATE_KEY
from tests.simulators.wavespeed import KEY as WAVESPEED_KEY
from tests.unlimited import UNLIMITED_ENVIRONMENT
from tests.waits import eventually

Documents: TypeAlias = AsyncDatabase[dict[str, Any]]

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 180.0
"""For a machine that has much else to do; on one that has not, it is about two."""
END_SECONDS: Final = 60.0
DATABASE: Final = "darkroom"
_KEYS_AND_PATHS: Final = {
    "fal": (FAL_KEY, ""),
    "replicate": (REPLICATE_KEY, "/v1"),
    "wavespeed": (WAVESPEED_KEY, "/api/v3"),
}


async def wait_until_answering(client: GraphQLClient) -> None:
    """Until a new viewer is answered.

    A process draws some pictures for its first one, which takes a busy machine longer than an
    operation may take.
    """

    async def greeted() -> bool:
        return "errors" not in await client.execute("{ viewer { id } }")

    await eventually(greeted, within=READY_SECONDS, what="a new viewer is answered")


class Process(ABC):
    """One of Darkroom's programs. As under any supervisor it is restarted if it ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_dir: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log_path = log_dir / f"{name}.log"
        self.root = ROOT
        """Where the code is that its next start runs."""
        self.starts = 0
        self.most_memory_bytes = 0
        """The most that any start of it has used, as far as it was looked at."""
        self._command = command
        self._environment = environment
        self._began_at = 0
        self._process: Fork | None = None

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        async with (
            asyncio.timeout(READY_SECONDS),
            open_http(timeout=5) as http,
        ):
            while True:
                if self.pid is None:
                    await self._spawn()
                if await self._is_ready(http):
                    return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Stop it in order; return its exit code."""
        return await self._end(signal.SIGTERM)

    def text_of_log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    @abstractmethod
    async def _is_ready(self, http: httpx2.AsyncClient, /) -> bool: ...

    def _text_since_start(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._began_at)
            return log.read().decode(errors="replace")

    async def _spawn(self) -> None:
        self.starts += 1
        self.log_path.touch()
        self._began_at = self.log_path.stat().st_size
        self._process = await PRELOADED.spawn(
            self._command,
            environment={
                **environment_without_settings(),
                **_unlimited_at(self.root),
                **self._environment,
            },
            log=self.log_path,
            root=self.root,
        )

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        if process.returncode is None:
            self.most_memory_bytes = max(self.most_memory_bytes, _memory_of(process.pid))
        return await end_process(process, number, seconds=END_SECONDS)


class Api(Process):
    """One `python -m serve`, or another module that works as it does, on a port of its own, which
    it keeps from start to start.
    """

    def __init__(
        self, name: str, *, data_dir: Path, environment: Mapping[str, str], module: str = "serve"
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"DARKROOM_PORT": str(self.port)}
        super().__init__(name, [module], log_dir=data_dir, environment={**environment, **own})

    async def _is_ready(self, http: httpx2.AsyncClient, /) -> bool:
        with suppress(httpx2.HTTPError):
            return (await http.get(f"{self.url}/readyz")).status_code == 200
        return False


class Worker(Process):
    """One `python -m worker`, or another module that works as it does."""

    def __init__(
        self, name: str, *, data_dir: Path, environment: Mapping[str, str], module: str = "worker"
    ) -> None:
        super().__init__(name, [module], log_dir=data_dir, environment=environment)

    async def _is_ready(self, _: httpx2.AsyncClient, /) -> bool:
        return "working" in self._text_since_start()


class Vendor(Process):
    """A simulated provider. Its bill outlives it."""

    def __init__(self, provider: str = "fal", *, data_dir: Path, seconds_per_job: float) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        bill = os.fspath(data_dir / f"{provider}.bill")
        command = [f"tests.simulators.{provider}", "--port", str(self.port), "--bill", bill]
        command += ["--seconds-per-job", str(seconds_per_job)]
        super().__init__(provider, command, log_dir=data_dir, environment={})

    @property
    def settings(self) -> Mapping[str, str]:
        """What points a Darkroom at it."""
        key, path = _KEYS_AND_PATHS[self.name]
        setting = f"DARKROOM_{self.name.upper()}"
        return {f"{setting}_KEY": key, f"{setting}_URL": f"{self.url}{path}"}

    async def bill(self) -> list[Data]:
        async with open_http() as http:
            reported: list[Data] = (await http.get(f"{self.url}/bill", timeout=20)).json()
            return reported

    async def _is_ready(self, http: httpx2.AsyncClient, /) -> bool:
        with suppress(httpx2.HTTPError):
            return (await http.get(f"{self.url}/bill")).status_code == 200
        return False


@asynccontextmanager
async def frozen(mongod: Mongod) -> AsyncIterator[None]:
    """Stop it in its tracks, as a machine that swaps or a disk that hangs does."""
    assert mongod.pid is not None
    os.kill(mongod.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mongod.pid, signal.SIGCONT)


@asynccontextmanager
async def away(mongod: Mongod) -> AsyncIterator[None]:
    """Kill it, and start it again at the end unless the block has done so."""
    await mongod.kill()
    try:
        yield
    finally:
        if mongod.pid is None:
            await mongod.start()


def _unlimited_at(root: Path) -> Mapping[str, str]:
    """Without settings that a release does not know: it would not start."""
    if root == ROOT:
        return UNLIMITED_ENVIRONMENT
    known = (root / ".env.example").read_text()
    return {name: value for name, value in UNLIMITED_ENVIRONMENT.items() if f"{name}=" in known}


def _memory_of(pid: int) -> int:
    """The peak memory of the process so far; 0 if it is unknown."""
    try:
        reported = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peak = re.search(r"VmHWM:\s+(\d+) kB", reported)
    return int(peak[1]) * 1024 if peak else 0
