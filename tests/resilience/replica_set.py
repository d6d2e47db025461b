"""Three mongods as one replica set, whose members can be stepped down, killed and frozen.

What must stay true: only processes that were started here are ever ended, by their pid, and none
outlives the tests, however these end and whether it runs or stands still.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure, PyMongoError

from tests.clients import Data
from tests.serving import free_port
from tests.waits import eventually

NAME: Final = "darkroom"
ELECTION_SECONDS: Final = 2.0
START_SECONDS: Final = 180.0
PRIMARY_SECONDS: Final = 180.0
HEALTHY_SECONDS: Final = 180.0
STEP_DOWN_SECONDS: Final = 5
"""How long a primary that stepped down cannot be elected."""

_HEARTBEATS: Final = {
    # A primary has to be heard several times within one election time-out.
    "heartbeatIntervalMillis": 500,
    # A new primary waits for a word of every member that is not known to be down. By default a
    # frozen one counts as alive for ten seconds, and so long nothing can be written.
    "heartbeatTimeoutSecs": 2,
}
_OPTIONS: Final = (
    "--bind_ip=127.0.0.1",
    "--nounixsocket",
    f"--replSet={NAME}",
    # Three of them share the machine with everything else.
    "--wiredTigerCacheSizeGB=0.25",
    "--oplogSize=64",
    "--setParameter=diagnosticDataCollectionEnabled=false",
    # As our own mongod has it: so soon is let go of what a killed process had locked.
    "--setParameter=transactionLifetimeLimitSeconds=3",
    "--networkMessageCompressors=snappy,zstd",
    "--quiet",
)
# Linux ends a member together with these tests: with SIGKILL, since a frozen process hears nothing
# else. If the tests are gone before the request is made, nothing is started.
_TIED_TO_TESTS: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Member:
    """One mongod of the set, on a port and a folder that it keeps from start to start."""

    def __init__(self, number: int, folder: Path, *, binary: Path) -> None:
        self.number = number
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.is_frozen = False
        self._binary = binary
        self._database_dir = folder / f"member-{number}"
        self._log_path = folder / f"member-{number}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._client: AsyncMongoClient[Data] | None = None

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start it and wait until it answers; whether it is of use is the set's matter."""
        assert self.pid is None, f"member {self.number} runs already"
        self._database_dir.mkdir(exist_ok=True)
        command = [
            os.fspath(self._binary),
            f"--dbpath={self._database_dir}",
            f"--port={self.port}",
            *_OPTIONS,
        ]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _TIED_TO_TESTS, str(os.getpid()), *command]
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        await self.until_answers()

    async def until_answers(self) -> None:
        await eventually(
            self._answers, within=START_SECONDS, what=f"member {self.number} answers", every=0.02
        )

    async def kill(self) -> None:
        """End it as a power cut would, also while it is frozen."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self.is_frozen = False

    async def freeze(self) -> None:
        """Freeze it: its sockets stay open without responses."""
        self._signal(signal.SIGSTOP)
        self.is_frozen = True

    async def thaw(self) -> None:
        """Let it go on, as if no time had passed for it."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    async def command(self, command: Data) -> Data:
        """Query this member directly. Raise PyMongoError if it is unavailable."""
        if self.pid is None or self.is_frozen:
            raise ConnectionFailure(f"member {self.number} is killed or frozen")
        if self._client is None:
            self._client = AsyncMongoClient(
                "127.0.0.1",
                self.port,
                directConnection=True,
                serverSelectionTimeoutMS=2_000,
                timeoutMS=10_000,
            )
        answer: Data = await self._client.admin.command(command)
        return answer

    async def hello(self) -> Data | None:
        """How it sees the set; None if it does not answer."""
        try:
            # The driver's own limit: it is not made for being cancelled.
            with pymongo.timeout(2):
                return await self.command({"hello": 1})
        except PyMongoError:
            return None

    async def close(self) -> None:
        # In this order: a client that is just connecting again when it is closed leaves its socket.
        if self.is_frozen:
            await self.thaw()
        if self._client is not None:
            await self._client.close()
        await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        assert self.pid is not None, f"member {self.number} does not run"
        self._process.send_signal(number)

    async def _answers(self) -> bool:
        assert self.pid is not None, f"member {self.number} ended; see {self._log_path}"
        return await self.hello() is not None


class ReplicaSet:
    """Its holder can kill one member after the other, and wait until all are healthy again."""

    def __init__(self, folder: Path, *, binary: Path, election_seconds: float) -> None:
        self.members = tuple(Member(number, folder, binary=binary) for number in range(3))
        self._settings = {"electionTimeoutMillis": round(election_seconds * 1000), **_HEARTBEATS}
        addresses = ",".join(member.address for member in self.members)
        self.uri = f"mongodb://{addresses}/?replicaSet={NAME}"

    async def start(self) -> None:
        await asyncio.gather(*(member.start() for member in self.members))
        members = [{"_id": one.number, "host": one.address} for one in self.members]
        config = {"_id": NAME, "version": 1, "members": members, "settings": self._settings}
        await self.members[0].command({"replSetInitiate": config})
        await eventually(self._has_elected, within=PRIMARY_SECONDS, what="there is a primary")
        await self.until_healthy()

    async def primary(self) -> Member | None:
        """The member that may write. One that only believes so has been elected earlier."""
        found = [(answers["electionId"], one) for one, answers in await self._primaries()]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    async def until_primary(
        self, *, other_than: Member | None = None, within: float = PRIMARY_SECONDS
    ) -> Member:
        """Wait for a primary, for another one than this."""
        found: list[Member] = []

        async def is_there() -> bool:
            primary = await self.primary()
            if primary is not None and primary is not other_than:
                found.append(primary)
            return bool(found)

        await eventually(is_there, within=within, what="there is a primary", every=0.02)
        return found[0]

    async def until_healthy(self, *, within: float = HEALTHY_SECONDS) -> float:
        """Wait until all members agree on the primary and follow it; return the seconds it took."""
        return await eventually(self._is_healthy, within=within, what="all members are healthy")

    async def repair(self) -> None:
        """Restart every killed or frozen member, and wait until all are healthy."""
        for member in self.members:
            if member.is_frozen:
                await member.thaw()
            elif member.pid is None:
                await member.start()
        await self.until_healthy()

    async def step_down(self) -> Member:
        """Have the primary step down for others; the member that did."""
        stepped_down: list[Member] = []

        async def has_stepped_down() -> bool:
            primary = await self.primary()
            if primary is not None and await _steps_down(primary):
                stepped_down.append(primary)
            return bool(stepped_down)

        await eventually(has_stepped_down, within=HEALTHY_SECONDS, what="a primary steps down")
        return stepped_down[0]

    async def close(self) -> None:
        await asyncio.gather(*(member.close() for member in self.members))

    async def _has_elected(self) -> bool:
        """Otherwise the set would wait for one election timeout first."""
        with suppress(PyMongoError):  # the others may not have heard of the set yet
            await self.members[0].command({"replSetStepUp": 1})
        return await self.primary() is not None

    async def _primaries(self) -> list[tuple[Member, Data]]:
        answers = await asyncio.gather(*(member.hello() for member in self.members))
        return [
            (member, one)
            for member, one in zip(self.members, answers, strict=True)
            if one is not None and one.get("isWritablePrimary")
        ]

    async def _is_healthy(self) -> bool:
        answers = await asyncio.gather(*(member.hello() for member in self.members))
        if len({one.get("primary") if one else None for one in answers}) > 1:
            return False
        writable = [
            member
            for member, one in zip(self.members, answers, strict=True)
            if one and one.get("isWritablePrimary")
        ]
        return len(writable) == 1 and await self._is_followed(writable[0])

    async def _is_followed(self, primary: Member) -> bool:
        """Whether all have what it has just written: one that has come back may say that it serves
        long before it has found a member to sync from.
        """
        note = {"appendOplogNote": 1, "data": {"are you": "there"}}
        concern = {"w": len(self.members), "wtimeout": 2_000}
        try:
            answers = await primary.command({**note, "writeConcern": concern})
        except PyMongoError:
            return False
        return "writeConcernError" not in answers


async def _steps_down(primary: Member) -> bool:
    """Whether it did. It declines while no other member has all that it has."""
    try:
        await primary.command(
            {"replSetStepDown": STEP_DOWN_SECONDS, "secondaryCatchUpPeriodSecs": 2}
        )
    except OperationFailure:
        return False
    except AutoReconnect:
        answers = await primary.hello()
        return not (answers and answers.get("isWritablePrimary"))
    return True


@asynccontextmanager
async def open_replica_set(
    folder: Path, *, binary: Path, election_seconds: float = ELECTION_SECONDS
) -> AsyncIterator[ReplicaSet]:
    """A healthy replica set, whose processes are all ended with the block."""
    replica_set = ReplicaSet(folder, binary=binary, election_seconds=election_seconds)
    try:
        await replica_set.start()
        yield replica_set
    finally:
        await replica_set.close()
