"""The life of a process: settings, the database, signals, exit codes.

What must stay true: when a process ends in order, its work ends first and mongod last; and a
problem that a person can fix is explained in a sentence, not in a traceback.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from domain.errors import Overloaded
from runtime.local_mongod import NO_MONGOD, MongodFailed, find_mongod
from runtime.logs import configure_logs
from runtime.mongod_owner import OwnedMongod, folder_owner, run_mongod
from settings import Settings, SettingsError, read_settings

STOPPED: Final = 0
FAILED: Final = 1
CANNOT_START: Final = 2

PROBE_MILLISECONDS: Final = 3_000
_PAUSE_SECONDS: Final = 0.5
_AUTHENTICATION_FAILED: Final = 18
DATABASE_AWAY: Final = "The database became unreachable while Darkroom was starting."
FORCED_SECONDS: Final = 0.5
CANCELLED_SECONDS: Final = 5.0
"""How long cancelled work has to close what it opened."""

log = structlog.get_logger(__name__)


class CannotStart(Exception):
    """A problem that a person can fix, in a sentence."""


def run_process(work: Callable[[Settings], Coroutine[Any, Any, int]]) -> int:
    """Read the settings and work until a signal; return the exit code."""
    try:
        settings = read_settings()
        configure_logs(settings)
        _make_data_dir(settings.data_dir)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work(settings))
    except (SettingsError, CannotStart) as error:
        print_error(error)
        return CANNOT_START
    except MongodFailed as error:
        print_error(error)
        return FAILED
    except Overloaded:
        print_error(DATABASE_AWAY)
        return FAILED
    except asyncio.CancelledError:
        return STOPPED  # By a signal, before the work began.
    except Exception:
        log.exception("failed")
        return FAILED


def print_error(problem: object) -> None:
    with suppress(OSError):
        print(problem, file=sys.stderr, flush=True)


class Stop:
    """How a process stops: the first signal requests an orderly end, a second Ctrl-C an immediate
    one.
    """

    def __init__(self, *, grace_seconds: float, close_seconds: float) -> None:
        self.forced = False
        self._grace_seconds = grace_seconds
        self._limit_seconds = grace_seconds + close_seconds
        self._stop_requested_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._work: asyncio.Task[Any] | None = None
        self._end: Callable[[], None] | None = None
        self._hurry: Callable[[], None] | None = None
        self._is_ending = False
        self._limit_reached = asyncio.Event()

    def grace_left(self) -> float:
        """Seconds until everything that is running must have ended: all share one grace period."""
        if self._stop_requested_at is None:
            return self._grace_seconds
        return max(self._grace_seconds - (self._loop.time() - self._stop_requested_at), 0.0)

    def is_ending(self) -> bool:
        """Whether a signal, or the end of mongod, has asked for the end."""
        return self._is_ending

    @contextmanager
    def at_signals(self) -> Iterator[None]:
        # A background job of a script inherits an ignored SIGINT: Ctrl-C must stop it all the same.
        signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            signals.append(signal.SIGHUP)
        for number in signals:
            self._loop.add_signal_handler(number, self._at_signal, number)
        try:
            yield
        finally:
            for number in signals:
                self._loop.remove_signal_handler(number)

    async def watch(
        self,
        work: asyncio.Task[Any],
        mongod: OwnedMongod | None,
        *,
        end: Callable[[], None],
        hurry: Callable[[], None] | None = None,
    ) -> None:
        """Wait until the work has ended; on a signal, `end` asks it to end.

        A signal before this call cancels the start. Work that does not end within the limit is
        asked to hurry, then cancelled, then abandoned; `forced` says so. Raise the exception with
        which the work or mongod ended.
        """
        self._work, self._end, self._hurry = work, end, hurry
        mongod_end = asyncio.create_task(
            _wait_for_mongod(mongod), name="wait for the end of mongod"
        )
        limit = asyncio.create_task(self._limit_reached.wait(), name="limit of the end")
        try:
            await asyncio.wait([work, mongod_end, limit], return_when=asyncio.FIRST_COMPLETED)
            if mongod_end.done() and not work.done():
                log.error("stopping because mongod keeps ending")
                self._begin_stop()
                await asyncio.wait([work, limit], return_when=asyncio.FIRST_COMPLETED)
        finally:
            mongod_end.cancel()
            limit.cancel()
            await asyncio.wait([mongod_end, limit])
        if not mongod_end.cancelled():
            mongod_end.result()
        if work.done() and not work.cancelled():
            work.result()

    def _begin_stop(self) -> None:
        if self._is_ending:
            return
        self._is_ending = True
        self._stop_requested_at = self._loop.time()
        if self._end is not None:
            self._end()
            self._loop.call_later(self._limit_seconds, self._force)
        elif self._main is not None:
            self._main.cancel()

    def _at_signal(self, number: int) -> None:
        if not self._is_ending:
            log.info("stopping", signal=signal.Signals(number).name)
            self._begin_stop()
        elif number == signal.SIGINT:
            self._force()

    def _force(self) -> None:
        if self._work is not None and not self._work.done():
            self.forced = True
            if self._hurry is not None:
                self._hurry()
            self._loop.call_later(FORCED_SECONDS, self._work.cancel)
            self._loop.call_later(FORCED_SECONDS + CANCELLED_SECONDS, self._limit_reached.set)


async def _wait_for_mongod(mongod: OwnedMongod | None) -> None:
    if mongod is None:
        await asyncio.Event().wait()
    else:
        await mongod.wait_until_ended()


def exit_code(stop: Stop, code: int) -> int:
    """The exit code of the process. Call this last: it exits at once if work was abandoned, which
    would keep the loop from closing.
    """
    if stop.forced:
        print_error("Stopped without waiting any longer.")
        os._exit(FAILED)
    return code


@asynccontextmanager
async def provide_database(
    settings: Settings, *, starts_mongod: bool = True, shares_mongod: bool = False
) -> AsyncIterator[tuple[Settings, OwnedMongod | None]]:
    """Find or start a MongoDB. Yield the settings with its URI, and the mongod, if it was started
    here.

    Without DARKROOM_MONGODB_URI, that is the mongod that another process shares in the data folder,
    or one that this process starts.
    """
    if settings.mongodb_uri is not None:
        await wait_for_database(settings.mongodb_uri.get_secret_value(), settings.start_seconds)
        yield settings, None
        return
    with folder_owner(settings.data_dir) as owner:
        uri = await owner.acquire(may_own=starts_mongod)
        if uri is not None:
            await wait_for_database(uri, settings.start_seconds)
            yield _with_mongodb(settings, uri), None
            return
        binary = await asyncio.to_thread(find_mongod)
        if binary is None:
            raise CannotStart(NO_MONGOD)
        async with run_mongod(owner, binary=binary, shared=shares_mongod) as mongod:
            yield _with_mongodb(settings, mongod.uri), mongod


def _with_mongodb(settings: Settings, uri: str) -> Settings:
    return settings.model_copy(update={"mongodb_uri": SecretStr(uri)})


async def wait_for_database(uri: str, seconds: float) -> None:
    """Wait until a primary answers. Raise CannotStart where none does, or it cannot be used."""
    ends_at = monotonic() + seconds
    while not await _answers(uri):
        if monotonic() >= ends_at:
            raise CannotStart(
                f"The MongoDB of DARKROOM_MONGODB_URI does not answer ({seconds:g} seconds, "
                "DARKROOM_START_SECONDS); compose.yaml starts one."
            )
        log.warning("waiting for the database", at_most_seconds=round(ends_at - monotonic(), 1))
        await asyncio.sleep(_PAUSE_SECONDS)


async def _answers(uri: str) -> bool:
    client: AsyncMongoClient[dict[str, Any]]
    milliseconds = PROBE_MILLISECONDS
    try:
        async with AsyncMongoClient(
            uri,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            timeoutMS=milliseconds,
        ) as client:
            hello = await client.admin.command("hello")
    except (PyMongoError, ValueError) as error:
        reason = _reason_to_give_up(error)
        if reason is None:
            return False
    else:
        if "setName" in hello:
            return True
        reason = (
            "is not a replica set, which transactions and change streams need; compose.yaml starts "
            "one"
        )
    raise CannotStart(f"The MongoDB of DARKROOM_MONGODB_URI {reason}.")


def _reason_to_give_up(error: PyMongoError | ValueError) -> str | None:
    """None where another try may succeed. The driver's message is not shown, since it may contain
    parts of the URI, and so a password.
    """
    if isinstance(error, ConnectionFailure):
        if "certificate verify failed" in str(error):
            return "has a certificate that is not trusted here; see DARKROOM_MONGODB_CA_FILE"
        return None
    if isinstance(error, PyMongoError) and error.timeout:
        return None
    if isinstance(error, OperationFailure) and error.code == _AUTHENTICATION_FAILED:
        return "does not accept the user name or the password"
    return f"cannot be used ({type(error).__name__})"


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"DARKROOM_DATA_DIR={path} cannot be created: {error.strerror}."
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise CannotStart(f"DARKROOM_DATA_DIR={path} cannot be written.")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
