"""`python -m serve`, as a person runs it: what it prints, and how it ends."""

import asyncio
import fcntl
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from pymongo import AsyncMongoClient

from domain.ids import viewer_id_of
from edge.dev_tokens import ISSUER, DevelopmentIssuer
from tests.clients import GraphQLClient
from tests.edge.streams import streaming
from tests.http import open_http
from tests.operations import start
from tests.serving import free_port
from tests.waits import START_SECONDS

ROOT = Path(__file__).parent.parent
CONVERSATION = "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }"
STOP_SECONDS = 30
LONG_GRACE = "60"
"""Longer than any test waits for the end of a process."""

# An application with which `serve` is tested: one response takes as long as requested.
SLOW_APP = """
import asyncio
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def healthz(request):
    return PlainTextResponse("ok")

async def slow(request):
    print("begun", flush=True)
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("done")

def create_app(settings, *, grace_left, is_ending, metrics_listener):
    @asynccontextmanager
    async def lifespan(app):
        yield
        print("services closed, seconds left:", grace_left(), flush=True)

    return Starlette(routes=[Route("/healthz", healthz), Route("/slow", slow)], lifespan=lifespan)
"""

BROKEN_APP = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette

def create_app(settings, *, grace_left, is_ending, metrics_listener):
    @asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("broken")
        yield

    return Starlette(lifespan=lifespan)
"""


class Serving:
    """A process, and its output so far."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, data_dir: Path) -> None:
        self.process, self.port, self.data_dir = process, port, data_dir
        self.url = f"http://127.0.0.1:{port}"
        self.output = self.errors = ""

    async def until(self, pattern: str) -> str:
        """The first group of what it prints, once it does."""
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while not (found := re.search(pattern, self.output)):
                line = await self.process.stdout.readline()
                assert line, f"It ended instead of saying {pattern}."
                self.output += line.decode()
        return found.group(found.re.groups and 1)

    async def end(self, *signals: signal.Signals) -> int:
        """Send the signals, wait for its end, and return the exit code. Without signals, it is a
        process that ends by itself, and may still be starting.
        """
        for number in signals:
            self.process.send_signal(number)
        limit = STOP_SECONDS if signals else START_SECONDS + STOP_SECONDS
        output, errors = await asyncio.wait_for(self.process.communicate(), limit)
        self.output += output.decode()
        self.errors += errors.decode()
        assert self.process.returncode is not None
        return self.process.returncode

    def mongod_runs(self) -> bool:
        lock = self.data_dir / "mongod" / "mongod.lock"
        if not lock.exists():
            return False
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@asynccontextmanager
async def serve(
    data_dir: Path,
    *,
    folder: Path = ROOT,
    port: int | None = None,
    starter: Sequence[str] = (),
    **environ: str,
) -> AsyncIterator[Serving]:
    """Run it in the folder whose `app.py` is wanted, by a command that starts it."""
    port = port or free_port()
    process = await asyncio.create_subprocess_exec(
        *starter,
        sys.executable,
        "-m",
        "serve",
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DARKROOM_DATA_DIR": str(data_dir),
            "DARKROOM_PORT": str(port),
            **environ,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Serving(process, port, data_dir)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def slow_app(tmp_path: Path) -> Path:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "app.py").write_text(SLOW_APP)
    return folder


async def test_it_answers_and_prints_how_to_send_a_request(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        open_http(base_url=served.url) as http,
    ):
        token = await served.until(r"\n(eyJ\S+)\n")
        link = await served.until(r"\n(http://\S+/studio/)#token=" + re.escape(token))
        command = await served.until(r"\n(curl [\s\S]* -d '.*')\n")

        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get(link)).status_code == 200
        authenticator = DevelopmentIssuer(tmp_path).authenticator()
        viewer_id = viewer_id_of(ISSUER, "ana")
        assert (await authenticator.authenticate(token)).id == viewer_id

        curl, silently, url, *options = shlex.split(command.replace("\\\n", ""))
        assert (curl, silently) == ("curl", "-s")
        given = list(zip(options[::2], options[1::2], strict=True))
        headers = dict(value.split(": ") for option, value in given if option == "-H")
        (body,) = (value for option, value in given if option == "-d")
        answer = await http.post(url, content=body, headers=headers)
        assert answer.json() == {"data": {"viewer": {"id": viewer_id}}}

        assert await served.end(signal.SIGTERM) == 0
        assert not served.mongod_runs()
        assert token not in served.errors
        assert "Traceback" not in served.errors


async def test_a_second_start_finds_the_data_of_the_first(tmp_path: Path) -> None:
    async with serve(tmp_path) as first:
        uri = await first.until(r"(mongodb://\S+?),")
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            await client.test.things.insert_one({"value": "kept"})
        assert await first.end(signal.SIGTERM) == 0

    async with serve(tmp_path) as second:
        uri = await second.until(r"(mongodb://\S+?),")
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            found = await client.test.things.find_one({})
        assert found is not None
        assert found["value"] == "kept"
        assert await second.end(signal.SIGTERM) == 0


async def test_a_second_process_uses_the_mongod_of_the_first(tmp_path: Path) -> None:
    async with serve(tmp_path) as first:
        uri = await first.until(r"(mongodb://\S+), started by this process")
        async with serve(tmp_path) as second:
            assert await second.until(r"(mongodb://\S+), started by another process") == uri

            assert await second.end(signal.SIGTERM) == 0

        assert first.mongod_runs()
        assert await first.end(signal.SIGTERM) == 0
        assert not first.mongod_runs()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_lets_a_request_finish_before_stopping_the_rest(
    slow_app: Path, tmp_path: Path, number: signal.Signals
) -> None:
    async with serve(tmp_path, folder=slow_app) as served, open_http() as http:
        await served.until("Try the API")
        asking = asyncio.create_task(http.get(f"{served.url}/slow?seconds=1", timeout=20))
        await served.until("begun")

        assert await served.end(number) == 0

        assert (await asking).text == "done"
        assert "services closed" in served.output
        assert not served.mongod_runs()


async def test_a_signal_closes_streams_that_would_not_end(tmp_path: Path) -> None:
    """Without an end of their own, after which a client would not come back."""
    async with serve(tmp_path, DARKROOM_GRACE=LONG_GRACE) as served:
        token = await served.until(r"\n(eyJ\S+)\n")
        client = GraphQLClient(served.url, token)
        conversation_id = (await start(client))["conversation"]["id"]
        async with streaming(client, CONVERSATION, id=conversation_id) as body:
            await body.next()

            assert await served.end(signal.SIGTERM) == 0

            with pytest.raises(httpx2.RemoteProtocolError):
                await body.rest()
        await client.aclose()
        assert "error" not in served.errors.lower()
        assert not served.mongod_runs()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_with_nohup_in_the_background_only_a_hangup_is_ignored(
    slow_app: Path, tmp_path: Path, number: signal.Signals
) -> None:
    ignoring = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
    async with serve(tmp_path, folder=slow_app, starter=ignoring) as served:
        await served.until("Try the API")
        served.process.send_signal(signal.SIGHUP)
        async with open_http() as http:
            assert (await http.get(f"{served.url}/slow?seconds=0.2")).status_code == 200

        assert await served.end(number) == 0

        assert "SIGHUP" not in served.errors
        assert not served.mongod_runs()


async def test_a_request_can_take_no_longer_than_the_grace_period(
    slow_app: Path, tmp_path: Path
) -> None:
    async with (
        serve(tmp_path, folder=slow_app, DARKROOM_GRACE="1") as served,
        open_http() as http,
    ):
        await served.until("Try the API")
        asking = asyncio.create_task(http.get(f"{served.url}/slow?seconds=60", timeout=20))
        await served.until("begun")

        assert await served.end(signal.SIGTERM) == 0

        assert "services closed, seconds left: 0.0" in served.output
        await asyncio.wait([asking])


async def test_a_second_ctrl_c_stops_it_at_once(slow_app: Path, tmp_path: Path) -> None:
    async with (
        serve(tmp_path, folder=slow_app, DARKROOM_GRACE=LONG_GRACE) as served,
        open_http() as http,
    ):
        await served.until("Try the API")
        asking = asyncio.create_task(http.get(f"{served.url}/slow?seconds=60", timeout=60))
        await served.until("begun")

        served.process.send_signal(signal.SIGINT)
        await _until_it_takes_no_more(served)
        assert await served.end(signal.SIGINT) == 1

        assert "Traceback" not in served.errors
        assert not served.mongod_runs()
        await asyncio.wait([asking])


async def _until_it_takes_no_more(served: Serving) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)


async def test_it_can_be_stopped_during_startup(slow_app: Path, tmp_path: Path) -> None:
    async with serve(tmp_path, folder=slow_app) as served:
        async with asyncio.timeout(START_SECONDS):
            while True:
                if served.mongod_runs():
                    break
                await asyncio.sleep(0.01)

        assert await served.end(signal.SIGTERM) == 0

        assert not served.mongod_runs()
        assert "Traceback" not in served.errors


async def test_a_killed_mongod_is_restarted(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        open_http(base_url=served.url) as http,
    ):
        await served.until("Try the API")
        lock = tmp_path / "mongod" / "mongod.lock"
        killed = lock.read_text().strip()

        os.kill(int(killed), signal.SIGKILL)

        async with asyncio.timeout(30):
            while True:
                restarted = lock.read_text().strip() not in {"", killed}
                if restarted and (await http.get("/readyz", timeout=20)).status_code == 200:
                    break
                await asyncio.sleep(0.05)
        assert await served.end(signal.SIGTERM) == 0


async def test_a_port_in_use_is_reported_in_a_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serve(tmp_path, port=port) as served:
            assert await served.end() == 2

    assert served.errors == (
        f"Port {port} of 127.0.0.1 is in use: set DARKROOM_PORT to another one.\n"
    )


async def test_invalid_settings_are_reported_in_messages(tmp_path: Path) -> None:
    async with serve(tmp_path, DARKROOM_GRACE="long", DARKROOM_PROT="1") as served:
        assert await served.end() == 2

    assert served.errors.splitlines() == [
        "DARKROOM_PROT is not a setting of Darkroom. Did you mean DARKROOM_PORT?",
        "DARKROOM_GRACE should be a valid number.",
    ]


async def test_a_missing_mongod_is_reported_in_a_helpful_message(
    slow_app: Path, tmp_path: Path
) -> None:
    # Found before the installed package of that name, and it brings no mongod.
    (slow_app / "fiftyone.py").touch()

    async with serve(tmp_path, folder=slow_app, PATH="/nowhere") as served:
        assert await served.end() == 2

    assert "compose.yaml" in served.errors
    assert len(served.errors.splitlines()) == 1


async def test_a_mongodb_that_does_not_answer_is_reported_in_a_message(
    slow_app: Path, tmp_path: Path
) -> None:
    uri = f"mongodb://user:canary@127.0.0.1:{free_port()}/"

    async with serve(
        tmp_path, folder=slow_app, DARKROOM_MONGODB_URI=uri, DARKROOM_START_SECONDS="0"
    ) as served:
        assert await served.end() == 2

    assert "DARKROOM_MONGODB_URI does not answer" in served.errors
    assert "canary" not in served.errors
    assert len(served.errors.splitlines()) == 1


async def test_a_data_folder_that_cannot_be_created_is_reported_in_a_message(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()

    async with serve(tmp_path / "file" / "data") as served:
        assert await served.end() == 2

    assert served.errors.startswith("DARKROOM_DATA_DIR=")
    assert len(served.errors.splitlines()) == 1


async def test_services_that_cannot_be_opened_leave_no_mongod_running(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "app.py").write_text(BROKEN_APP)

    async with serve(tmp_path, folder=folder) as served:
        assert await served.end() == 1

    assert "RuntimeError: broken" in served.errors
    assert not served.mongod_runs()


async def test_it_runs_if_nobody_reads_its_output(slow_app: Path, tmp_path: Path) -> None:
    async with serve(tmp_path, folder=slow_app) as served, open_http() as http:
        transport = served.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()

        async with asyncio.timeout(START_SECONDS):
            while True:
                if await _is_healthy(http, served.url):
                    break
                await asyncio.sleep(0.05)

        assert await served.end(signal.SIGTERM) == 0


async def _is_healthy(http: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/healthz")).status_code == 200
    except httpx2.TransportError:
        return False
