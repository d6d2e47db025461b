"""Decides which process runs the mongod of a data folder: one owns it, others are given its URI.

What must stay true: two mongods never run on one folder. The owner holds a lock on `mongod.owner`,
which ends with the process, however it ends. It writes the URI of the mongod that it shares into
that file.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog

from runtime.local_mongod import Mongod, MongodEnded, MongodFailed, kill_orphan

WAIT_SECONDS: Final = 60.0
"""How long to wait for another process to share its mongod, or to end."""
QUICK_DEATH_SECONDS: Final = 30.0
MAX_QUICK_DEATHS: Final = 5
LONGEST_PAUSE_SECONDS: Final = 0.3

log = structlog.get_logger(__name__)


class FolderOwner:
    """A process's claim to the mongod of a data folder."""

    def __init__(self, data_dir: Path, file: int) -> None:
        self.data_dir = data_dir
        self._file = file

    async def acquire(self, *, may_own: bool) -> str | None:
        """Own the folder and return None, or return the URI that its owner shares.

        Raise `MongodFailed` if neither is possible within a minute.
        """
        started_at = monotonic()
        waiting = False
        while True:
            if not self._lock():
                owner = self.read()
                if owner.get("uri"):
                    return str(owner["uri"])
                problem = (
                    f"Process {owner.get('owner')} has not shared the mongod of {self.data_dir}: "
                    "wait until it ends, or choose another DARKROOM_DATA_DIR."
                )
            elif may_own:
                return None
            else:
                fcntl.flock(self._file, fcntl.LOCK_UN)
                problem = (
                    f"No process shares a mongod in {self.data_dir}: start `make run`, or set "
                    "DARKROOM_MONGODB_URI."
                )
            if monotonic() - started_at > WAIT_SECONDS:
                raise MongodFailed(problem)
            if not waiting:
                log.info("waiting for the mongod of another process", data_dir=str(self.data_dir))
                waiting = True
            await asyncio.sleep(0.1)

    def read(self) -> dict[str, Any]:
        """The record of the owner; before this process writes, that of the last owner."""
        try:
            content: dict[str, Any] = json.loads(os.pread(self._file, 1_000, 0))
        except ValueError:
            return {}  # There is none yet, or it is not complete.
        return content

    def write(self, **content: Any) -> None:
        written = os.pwrite(self._file, json.dumps({"owner": os.getpid(), **content}).encode(), 0)
        os.ftruncate(self._file, written)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def folder_owner(data_dir: Path) -> Iterator[FolderOwner]:
    """A claim that is released at the end."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(data_dir / "mongod.owner", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield FolderOwner(data_dir, file)
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class OwnedMongod:
    """The mongod of a folder that this process owns. It is started again whenever it ends."""

    uri: str
    """Stays the same over restarts."""
    keeper: asyncio.Task[None]

    async def wait_until_ended(self) -> None:
        """Wait until it is given up, then raise `MongodFailed`."""
        await asyncio.shield(self.keeper)


@asynccontextmanager
async def run_mongod(
    owner: FolderOwner, *, binary: Path, shared: bool
) -> AsyncIterator[OwnedMongod]:
    """Run the mongod of the folder that this process owns. Raise `MongodFailed`.

    `shared` passes its URI to other processes.
    """
    last = owner.read()
    # Clients of the last owner's mongod find this one on the same port.
    mongod = Mongod(owner.data_dir, binary=binary, preferred_port=last.get("port"))

    async def start() -> None:
        await mongod.start()
        owner.write(uri=mongod.uri if shared else None, port=mongod.port, mongod=mongod.pid)

    try:
        owner.write(port=last.get("port"), mongod=last.get("mongod"))
        await kill_orphan(owner.data_dir, last.get("mongod"))
        await _start_first(start)
        keeper = asyncio.create_task(_keep(mongod, start), name="mongod keeper")
        try:
            yield OwnedMongod(mongod.uri, keeper)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
    finally:
        await mongod.stop()


async def _start_first(start: Callable[[], Awaitable[None]]) -> None:
    """Start it, and again if it has been killed in the meantime. Raise `MongodFailed`."""
    for tries in range(1, MAX_QUICK_DEATHS):
        try:
            await start()
        except MongodEnded as error:
            log.warning("mongod did not start", reason=str(error), tries=tries)
            await asyncio.sleep(_pause_seconds(tries))
        else:
            return
    await start()


def _pause_seconds(quick_deaths: int) -> float:
    """The pause before the next start. Short: until then, no subscriber receives anything."""
    return min(0.05 * 2.0 ** (quick_deaths - 1), LONGEST_PAUSE_SECONDS)


async def _keep(mongod: Mongod, start: Callable[[], Awaitable[None]]) -> None:
    quick_deaths = 0
    while True:
        started = monotonic()
        code = await mongod.wait()
        lived = monotonic() - started
        quick_deaths = quick_deaths + 1 if lived < QUICK_DEATH_SECONDS else 1
        if quick_deaths > MAX_QUICK_DEATHS:
            raise MongodFailed(
                f"mongod keeps ending, most recently with code {code}; see {mongod.log_path}."
            )
        log.warning("mongod ended unexpectedly", code=code, lived_seconds=round(lived, 1))
        await asyncio.sleep(_pause_seconds(quick_deaths))
        try:
            await start()
        except MongodFailed as error:
            log.warning("mongod did not start", reason=str(error))
        else:
            log.info("mongod restarted", port=mongod.port)
