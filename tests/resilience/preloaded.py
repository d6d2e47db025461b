"""Starts processes as forks of some that have imported Darkroom: a storm starts dozens of them, and
imports are most of what a start costs.

What must stay true: a fork is what `python -m module` would be: it has its own environment, log
and signals, is killed by its pid, and ends with the process that asked for it.
"""

import asyncio
import atexit
import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from runtime import garbage_collection

ROOT: Final = Path(__file__).parents[2]
SPAWN_SECONDS: Final = 60.0
_IMPORTS: Final = ("app", "serve", "worker", "tests.simulators.fal")
_READ_WHERE_A_PROGRAM_IS_LOADED: Final = ("LD_PRELOAD", "FAKETIME")
_MAX_REQUEST_BYTES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1


class Fork:
    """A process as `asyncio.subprocess` shows one, as far as tests use that."""

    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._writer = writer
        self._ending = asyncio.create_task(self._end(reader), name=f"end of process {pid}")

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def _end(self, reader: asyncio.StreamReader) -> int:
        line = await reader.readline()
        self._writer.close()
        # The forks end with the one that made them.
        self.returncode = int(line) if line else -signal.SIGKILL
        return self.returncode


class Preloaded:
    """Processes that have imported everything, one for each clock, and what asks them for forks."""

    def __init__(self) -> None:
        self._addresses: dict[frozenset[tuple[str, str]], str] = {}
        self._starting = asyncio.Lock()

    async def spawn(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        root: Path,
        errors: Path | None = None,
    ) -> Fork:
        """Run a module of the root with its arguments in a fork. Its output is appended to the log,
        that on stderr to `errors` where it is given.

        What has been imported helps only modules of this repository.
        """
        async with asyncio.timeout(SPAWN_SECONDS):
            address = await self._listening(environment)
            reader, writer = await asyncio.open_unix_connection(address)
            wanted = {
                "command": command,
                "environment": environment,
                "log": os.fspath(log),
                "errors": os.fspath(errors or log),
                "root": os.fspath(root),
            }
            writer.write(json.dumps(wanted).encode())
            writer.write_eof()
            return Fork(int(await reader.readline()), reader, writer)

    async def _listening(self, environment: Mapping[str, str]) -> str:
        loaded_with = frozenset(
            (name, value)
            for name, value in environment.items()
            if name.startswith(_READ_WHERE_A_PROGRAM_IS_LOADED)
        )
        async with self._starting:
            if loaded_with not in self._addresses:
                # In the abstract namespace: no file is left behind.
                address = f"\0darkroom-tests-{os.getpid()}-{id(self)}-{len(self._addresses)}"
                _start_at(address, {**os.environ, **dict(loaded_with)})
                self._addresses[loaded_with] = address
            return self._addresses[loaded_with]


PRELOADED: Final = Preloaded()
"""Those of this process."""


def _start_at(address: str, environment: Mapping[str, str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno()), str(os.getpid())],
            cwd=ROOT,
            env=environment,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is handled by the process that stops them in order
            stdin=subprocess.DEVNULL,
        )
    atexit.register(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def main() -> None:
    """Fork at each request, and say how each fork has ended."""
    _end_with(int(sys.argv[2]))
    listener = socket.socket(fileno=int(sys.argv[1]))
    for name in _IMPORTS:
        garbage_collection.import_module(name)
    gc.freeze()
    waiting: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is woken:
                    woken.recv(4096)
                    _report_ended(waiting)
                else:
                    asked, _ = listener.accept()
                    _fork(asked, waiting, inherited=(listener, woken, wake))


def _fork(
    asked: socket.socket, waiting: dict[int, socket.socket], *, inherited: Sequence[socket.socket]
) -> None:
    request = bytearray()
    while (part := asked.recv(_MAX_REQUEST_BYTES)) and len(request) < _MAX_REQUEST_BYTES:
        request += part
    wanted = json.loads(request)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        for one in (*inherited, asked, *waiting.values()):
            one.close()
        _become(wanted, parent)
    waiting[pid] = asked
    with suppress(OSError):
        asked.sendall(b"%d\n" % pid)


def _report_ended(waiting: dict[int, socket.socket]) -> None:
    for pid in list(waiting):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with waiting.pop(pid) as asked, suppress(OSError):
                asked.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(wanted: Mapping[str, Any], parent: int) -> NoReturn:
    """Be `python -m` of the module, and end with it."""
    _end_with(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for path, stream in ((wanted["log"], sys.stdout), (wanted["errors"], sys.stderr)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(file, stream.fileno())
        os.close(file)
    command, environment = wanted["command"], wanted["environment"]
    os.chdir(wanted["root"])
    if wanted["root"] != os.fspath(ROOT):
        os.execve(sys.executable, [sys.executable, "-m", *command], environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = command
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    sys.exit()


def _end_with(parent: int) -> None:
    """Linux kills this process when its parent ends, however that ends. If the parent has ended
    before that was said, this process ends here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
