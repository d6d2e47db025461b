"""A built-in mongod: one process, a replica set of one member, on loopback, in the data folder.

What must stay true: it does not outlive the process that started it. Which process may start it is
decided in `mongod_owner.py`.
"""

import asyncio
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import structlog
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

NO_MONGOD: Final = (
    "No mongod that runs on this machine was found; `make run` installs one for Linux and Apple "
    "silicon (requirements/mongod.txt). Or set DARKROOM_MONGODB_URI to a replica set: "
    "`docker compose up -d` starts the one of compose.yaml."
)

REPLICA_SET: Final = "darkroom"
OLDEST_VERSION: Final = 6
START_SECONDS: Final = 60.0
"""How long mongod may take to become a writable primary: a recovery reads its journal first."""
STOP_SECONDS: Final = 10.0
LOG_BYTES: Final = 1_000_000

_OPTIONS: Final = (
    "--bind_ip=127.0.0.1",
    "--nounixsocket",
    f"--replSet={REPLICA_SET}",
    # By default mongod takes half of the machine's memory, and a twentieth of the disk.
    "--wiredTigerCacheSizeGB=0.25",
    "--oplogSize=100",
    # Diagnostics for MongoDB's support would grow to 200 MB.
    "--setParameter=diagnosticDataCollectionEnabled=false",
    # The default is 60 s: for that long, a killed process would lock what its transaction had
    # written.
    "--setParameter=transactionLifetimeLimitSeconds=3",
    # zlib has a vulnerability before 6.0.27.
    "--networkMessageCompressors=snappy,zstd",
    "--quiet",
)
_ELECTION_MILLISECONDS: Final = 2000
_OTHER_DATA_VERSION: Final = 62
_NOT_YET_INITIALIZED: Final = 94

# Linux ends mongod with the process that started it. If that process dies before this is arranged,
# the parent has changed, and nothing is started.
_TIED_TO_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

log = structlog.get_logger(__name__)


class MongodFailed(Exception):
    """mongod does not run, and another try would not help. The text is for a person."""


class MongodEnded(MongodFailed):
    """mongod has ended while it was starting. Another try may succeed."""


def find_mongod() -> Path | None:
    """A mongod on this machine: one on PATH, or else the pip-installed one."""
    for path in _candidates():
        try:
            output = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=20, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        version = re.search(r"db version v(\d+)\.", output)
        if version and int(version[1]) >= OLDEST_VERSION:
            return path
    return None


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("mongod"):
        yield Path(on_path)
    package = find_spec("fiftyone")
    for location in (package and package.submodule_search_locations) or ():
        yield Path(location, "db", "bin", "mongod")


class Mongod:
    """One mongod process on one folder. It can be stopped or killed, and started again.

    Only one process may use that of a folder at a time: `mongod_owner.py` ensures it.
    """

    def __init__(self, data_dir: Path, *, binary: Path, preferred_port: int | None = None) -> None:
        self._binary = binary
        self._database_dir = data_dir / "mongod"
        self.log_path = data_dir / "mongod.log"
        self._preferred_port = preferred_port
        self._port: int | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def port(self) -> int:
        """The port of the first start; later starts use the same one."""
        if self._port is None:
            raise RuntimeError("mongod has no port before its first start")
        return self._port

    @property
    def uri(self) -> str:
        # As a replica set, not directly: while mongod restarts, a client then waits for a primary.
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and wait until it is a writable primary, or raise `MongodFailed`."""
        if self.pid is not None:
            return
        self._database_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._port is None:
            self._port = _free_port(self._preferred_port)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._spawn()
                await self._wait_until_writable()
        except TimeoutError:
            await self.kill()
            raise MongodFailed(
                f"mongod was not ready after {START_SECONDS:.0f} seconds; see {self.log_path}."
            ) from None
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """End it in order; by force if that takes too long."""
        if self._process is None or self.pid is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is None or self.pid is None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def wait(self) -> int:
        """Wait until the process ends; return its exit code."""
        return await self._process.wait() if self._process else 0

    async def _spawn(self) -> None:
        command = [
            os.fspath(self._binary),
            f"--dbpath={self._database_dir}",
            f"--port={self.port}",
            *_OPTIONS,
        ]
        if sys.platform == "linux":
            tie = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid())]
            command = [*tie, *command]
        _rotate_log(self.log_path)
        with self.log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A terminal's Ctrl-C reaches the whole session: mongod must outlive the API.
                start_new_session=True,
            )

    async def _wait_until_writable(self) -> None:
        while not await _listens(self.port):
            self._fail_if_ended()
            await asyncio.sleep(0.02)
        client: AsyncMongoClient[dict[str, Any]]
        async with AsyncMongoClient(
            "127.0.0.1",
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=1000,
            timeoutMS=5000,
        ) as client:
            while True:
                self._fail_if_ended()
                with suppress(PyMongoError):
                    if await _is_primary(client, f"127.0.0.1:{self.port}"):
                        return
                await asyncio.sleep(0.02)

    def _fail_if_ended(self) -> None:
        code = self._process.returncode if self._process else None
        if code == _OTHER_DATA_VERSION:
            raise MongodFailed(
                f"The data in {self._database_dir} is of another version of MongoDB than "
                f"{self._binary}: use the mongod that wrote it, or another DARKROOM_DATA_DIR."
            )
        if code is not None:
            raise MongodEnded(f"mongod ended with code {code}; see {self.log_path}.")


async def _is_primary(client: AsyncMongoClient[dict[str, Any]], address: str) -> bool:
    """Whether it is a writable primary; if not, take one step towards it."""
    if (await client.admin.command("hello")).get("isWritablePrimary"):
        return True
    try:
        config = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIALIZED:
            raise
        await client.admin.command("replSetInitiate", _replica_set(address, version=1))
        return False
    if config["members"][0]["host"] != address:
        # The data remembers the port of the last start: without this it is in no replica set.
        changed = _replica_set(address, version=config["version"] + 1)
        await client.admin.command("replSetReconfig", changed, force=True)
    return False


def _replica_set(address: str, *, version: int) -> dict[str, Any]:
    return {
        "_id": REPLICA_SET,
        "version": version,
        "members": [{"_id": 0, "host": address}],
        "settings": {"electionTimeoutMillis": _ELECTION_MILLISECONDS},
    }


async def kill_orphan(data_dir: Path, pid: int | None) -> None:
    """Kill the mongod that a killed owner started with this id, if it still uses the folder.

    A mongod locks the file that contains its id, so the id belongs to no other process. What it has
    acknowledged is in its journal. Raise `MongodFailed` if another mongod uses the folder.
    """
    lock_path = data_dir / "mongod" / "mongod.lock"
    if (holder := _holder_of(lock_path)) is None:
        return
    if holder != pid:
        raise MongodFailed(
            f"Process {holder} uses {data_dir}, and Darkroom did not start it: stop it."
        )
    log.info("killing the mongod of a process that has ended", pid=pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while _holder_of(lock_path) is not None:  # noqa: ASYNC110 - the kernel signals no end
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise MongodFailed(f"Process {pid} uses {data_dir}, and does not end: kill it.") from None


def _holder_of(lock_path: Path) -> int | None:
    """The mongod that holds the lock; 0 before it has written its id."""
    try:
        with lock_path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0)
    except FileNotFoundError:
        pass
    return None


def _free_port(preferred: int | None) -> int:
    """A free port of loopback: the preferred one if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred or 0))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _rotate_log(path: Path) -> None:
    """Begin a new log if the current one is large, and keep that one."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
