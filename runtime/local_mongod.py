"""A mongod of our own: one process, a replica set of one member, on loopback, in the data folder.

What must stay true: two mongods never run on one folder, and none outlives the process that it
serves. Two locks of the kernel's tell who is alive, since they end with their holder however it
ends: `mongod.owner`, held by the Darkroom process that looks after the folder's mongod, and
mongod's own `mongod.lock`.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

NO_MONGOD: Final = (
    "There is no mongod that Darkroom could start here. With Docker, `docker compose up -d` starts "
    "the one of compose.yaml, which also says how to point DARKROOM_MONGODB_URI at it."
)

REPLICA_SET: Final = "darkroom"
OLDEST_VERSION: Final = 6
START_SECONDS: Final = 60.0
"""How long mongod gets to become a writable primary: a recovery reads its journal first."""
STOP_SECONDS: Final = 10.0
SHARE_SECONDS: Final = 60.0
"""How long to wait for the mongod that another Darkroom process is just starting."""
QUICK_DEATH_SECONDS: Final = 30.0
MOST_QUICK_DEATHS: Final = 5
LOG_BYTES: Final = 1_000_000

_OPTIONS: Final = (
    "--bind_ip=127.0.0.1",
    "--nounixsocket",
    f"--replSet={REPLICA_SET}",
    # By default mongod takes half of the machine's memory, and a twentieth of the disk.
    "--wiredTigerCacheSizeGB=0.25",
    "--oplogSize=100",
    # Figures for MongoDB's support, in a folder that grows to 200 MB.
    "--setParameter=diagnosticDataCollectionEnabled=false",
    # After 60 s by default: so long a killed process would lock what its transaction had touched.
    "--setParameter=transactionLifetimeLimitSeconds=3",
    # zlib has a hole before 6.0.27.
    "--networkMessageCompressors=snappy,zstd",
    "--quiet",
)
_ELECTION_MILLISECONDS: Final = 2000
_ADDRESS_IN_USE: Final = 48
_OTHER_DATA_VERSION: Final = 62
_NOT_YET_INITIALIZED: Final = 94

# Linux ends mongod with the process that started it. If that one is dead before the wish is made,
# the parent has changed, and nothing is started.
_TIED_TO_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

log = structlog.get_logger(__name__)


class MongodFailed(Exception):
    """mongod does not run, and trying again would not help. The text is for a person."""


def find_mongod() -> Path | None:
    """A mongod that runs on this machine: one on PATH, or else the pip-installed one."""
    for path in _candidates():
        try:
            told = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=20, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        version = re.search(r"db version v(\d+)\.", told)
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

    Whoever uses it sees to it that nobody else does at the same time, as `run_mongod` does.
    """

    def __init__(self, data_dir: Path, *, binary: Path, port: int | None = None) -> None:
        self._binary = binary
        self._database_dir = data_dir / "mongod"
        self._log_path = data_dir / "mongod.log"
        self._process: asyncio.subprocess.Process | None = None
        self._port = port

    @property
    def port(self) -> int:
        """The port once started; every later start uses the same."""
        if self._port is None:
            raise RuntimeError("mongod has no port before its first start")
        return self._port

    @property
    def uri(self) -> str:
        return _uri_of(self.port)

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self, *, preferred_port: int | None = None) -> None:
        """Start it and wait until it is a writable primary, or raise `MongodFailed`.

        A mongod that an earlier, killed process left on the folder is stopped first.
        """
        if self.pid is not None:
            return
        self._database_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await _end_predecessor(self._database_dir)
        if self._port is not None:
            await self._start_on(self._port)
            return
        for attempt in range(3):
            port = _free_port(preferred_port if attempt == 0 else None)
            try:
                await self._start_on(port)
            except _PortTaken:
                continue  # between our look and mongod's somebody else took it
            self._port = port
            return
        raise MongodFailed("mongod found no free port on 127.0.0.1.")

    async def stop(self) -> None:
        """End it in order; by force where that takes too long."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def wait(self) -> int:
        """Wait until the process ends; return its exit code."""
        return await self._process.wait() if self._process else 0

    async def _start_on(self, port: int) -> None:
        command = [
            os.fspath(self._binary),
            f"--dbpath={self._database_dir}",
            f"--port={port}",
            *_OPTIONS,
        ]
        if sys.platform == "linux":
            tie = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid())]
            command = [*tie, *command]
        _bound_log(self._log_path)
        with self._log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A terminal's Ctrl-C reaches the whole session: mongod must outlive the API.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_writable(port)
        except TimeoutError:
            await self.kill()
            raise MongodFailed(
                f"mongod was not ready after {START_SECONDS:.0f} seconds; see {self._log_path}."
            ) from None
        except BaseException:
            await self.kill()
            raise

    async def _until_writable(self, port: int) -> None:
        while not await _listens(port):
            self._fail_if_ended()
            await asyncio.sleep(0.02)
        client: AsyncMongoClient[dict[str, Any]]
        async with AsyncMongoClient(
            "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=1000, timeoutMS=5000
        ) as client:
            while True:
                with suppress(PyMongoError):
                    if await _is_primary(client, f"127.0.0.1:{port}"):
                        return
                self._fail_if_ended()
                await asyncio.sleep(0.02)

    def _fail_if_ended(self) -> None:
        code = self._process.returncode if self._process else None
        if code == _ADDRESS_IN_USE:
            raise _PortTaken(f"mongod found its port in use; see {self._log_path}.")
        if code == _OTHER_DATA_VERSION:
            raise MongodFailed(
                f"The data in {self._database_dir} is of another version of MongoDB than "
                f"{self._binary}: use the mongod that wrote it, or another DARKROOM_DATA_DIR."
            )
        if code is not None:
            raise MongodFailed(f"mongod ended with code {code}; see {self._log_path}.")


class _PortTaken(MongodFailed):
    pass


async def _is_primary(client: AsyncMongoClient[dict[str, Any]], address: str) -> bool:
    """Whether it is one; if not, bring it one step nearer."""
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
        # Kept data remembers the port of last time, and finds itself in no replica set.
        moved = _replica_set(address, version=config["version"] + 1)
        await client.admin.command("replSetReconfig", moved, force=True)
    return False


def _replica_set(address: str, *, version: int) -> dict[str, Any]:
    return {
        "_id": REPLICA_SET,
        "version": version,
        "members": [{"_id": 0, "host": address}],
        "settings": {"electionTimeoutMillis": _ELECTION_MILLISECONDS},
    }


class KeptMongod:
    """The folder's mongod as `run_mongod` gives it: kept running, by us or by another process."""

    def __init__(self, data_dir: Path, *, binary: Path) -> None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._data_dir = data_dir
        self._lock = _OwnerLock(data_dir / "mongod.owner")
        self._state = _State(data_dir / "mongod.json")
        self._mongod: Mongod | None = None
        self._binary = binary
        self._port = 0
        self._keeper: asyncio.Task[None] | None = None

    @property
    def uri(self) -> str:
        """Stays the same, whatever happens to the process."""
        return _uri_of(self._port)

    @property
    def is_ours(self) -> bool:
        """False where another Darkroom process looks after it."""
        return self._mongod is not None

    @property
    def pid(self) -> int | None:
        return self._mongod.pid if self._mongod else None

    async def ended(self) -> None:
        """Wait until mongod is given up, then raise `MongodFailed`."""
        if self._keeper is not None:
            await asyncio.shield(self._keeper)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(SHARE_SECONDS):
                while not self._lock.acquire():
                    port = self._state.port_of(self._lock.holder())
                    if port is not None and await _listens(port):
                        self._port = port
                        break
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise MongodFailed(
                f"Process {self._lock.holder()} uses {self._data_dir}, but its mongod does not "
                "answer: stop it, or choose another DARKROOM_DATA_DIR."
            ) from None
        if self._lock.is_held:
            await self._take_over(port=None)
        self._keeper = asyncio.create_task(self._keep(), name="mongod keeper")

    async def _take_over(self, *, port: int | None) -> None:
        self._mongod = Mongod(self._data_dir, binary=self._binary, port=port)
        await self._mongod.start(preferred_port=self._state.take_last_port())
        self._port = self._mongod.port
        self._state.write(port=self._port, owner=os.getpid(), pid=self._mongod.pid)

    async def _keep(self) -> None:
        while self._mongod is None:
            await asyncio.sleep(0.5)
            if self._lock.acquire():
                # Its owner is gone, we still need it, and our clients know it by its port.
                log.info("mongod taken over", port=self._port)
                await self._take_over(port=self._port)
        quick_deaths = 0
        while True:
            started = monotonic()
            code = await self._mongod.wait()
            lived = monotonic() - started
            quick_deaths = quick_deaths + 1 if lived < QUICK_DEATH_SECONDS else 1
            if quick_deaths > MOST_QUICK_DEATHS:
                raise MongodFailed(
                    f"mongod keeps ending, most recently with code {code}; see "
                    f"{self._data_dir / 'mongod.log'}."
                )
            log.warning("mongod ended by itself", code=code, lived_seconds=round(lived, 1))
            await asyncio.sleep(0.05 * 2**quick_deaths)
            try:
                await self._mongod.start()
            except MongodFailed as error:
                log.warning("mongod did not start", reason=str(error))
            else:
                self._state.write(port=self._port, owner=os.getpid(), pid=self._mongod.pid)
                log.info("mongod restarted", port=self._port)

    async def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._mongod is not None:
            await self._mongod.stop()
        self._lock.release()


@asynccontextmanager
async def run_mongod(data_dir: Path, *, binary: Path) -> AsyncIterator[KeptMongod]:
    """The data folder's mongod, running as long as the context is open.

    Where another live process runs it already, it is shared, and not stopped at the end; if that
    process ends first, this one starts it again on the same port. Raise `MongodFailed` if it cannot
    be started.
    """
    kept = KeptMongod(data_dir, binary=binary)
    try:
        await kept._open()
        yield kept
    finally:
        await kept._close()


class _OwnerLock:
    """Held by the process that looks after the folder's mongod, and named after it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        return _number_in(self._path)


class _State:
    """What an owner tells the processes that share its mongod. Of any other owner it is history."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, *, port: int, owner: int, pid: int | None) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({"port": port, "owner": owner, "pid": pid}))
        draft.replace(self._path)

    def port_of(self, owner: int | None) -> int | None:
        state = self._read()
        return state.get("port") if owner is not None and state.get("owner") == owner else None

    def take_last_port(self) -> int | None:
        """The port of a former owner. Nobody is told it any more."""
        port = self._read().get("port")
        self._path.unlink(missing_ok=True)
        return port

    def _read(self) -> dict[str, int]:
        try:
            state = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(state, dict):
            return {}
        return {key: value for key, value in state.items() if isinstance(value, int)}


async def _end_predecessor(database_dir: Path) -> None:
    """Stop the mongod that still runs on the folder, if there is one.

    mongod holds a lock on the file that has its process id, so the id cannot be somebody else's.
    """
    lock_path = database_dir / "mongod.lock"
    signalled = 0.0
    started = monotonic()
    while _is_locked(lock_path):
        pid = _number_in(lock_path)
        waited = monotonic() - started
        if waited > STOP_SECONDS + 5:
            raise MongodFailed(f"Process {pid} holds {database_dir} and does not end: stop it.")
        if pid is not None and (not signalled or waited > STOP_SECONDS):
            if f"--replSet={REPLICA_SET}" not in _command_of(pid):
                raise MongodFailed(f"Process {pid} uses {database_dir} and is not ours: stop it.")
            log.info("stopping the mongod of a process that is gone", pid=pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if signalled else signal.SIGTERM)
            signalled = waited
        await asyncio.sleep(0.05)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return told.stdout


def _uri_of(port: int) -> str:
    # As a replica set, not directly: while mongod restarts, a client then waits for a primary.
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


def _free_port(preferred: int | None) -> int:
    """A port of loopback that nobody listens on: the preferred one if it can be had."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise MongodFailed("There is no free port on 127.0.0.1.")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _bound_log(path: Path) -> None:
    """Begin a new log where the old one has grown; one old one is kept."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
