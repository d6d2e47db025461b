"""The built-in mongod: its abilities, its owner, and what happens if a process is killed."""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from runtime import mongod_owner
from runtime.local_mongod import REPLICA_SET, Mongod, MongodFailed, find_mongod
from runtime.mongod_owner import OwnedMongod, folder_owner, run_mongod
from tests.waits import eventually

ROOT = Path(__file__).parent.parent
Client = AsyncMongoClient[dict[str, Any]]

# Owns a folder and shares its mongod until it is killed.
OWNER = """
import asyncio, sys
from pathlib import Path
from runtime.local_mongod import find_mongod
from runtime.mongod_owner import folder_owner, run_mongod

async def main():
    with folder_owner(Path(sys.argv[1])) as owner:
        assert await owner.acquire(may_own=True) is None
        async with run_mongod(owner, binary=find_mongod(), shared=True) as mongod:
            print(mongod.uri, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def binary() -> Path:
    found = find_mongod()
    assert found is not None
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


async def insert(uri: str, value: str) -> None:
    async with Client(uri, serverSelectionTimeoutMS=10_000) as client:
        await client.test.things.insert_one({"value": value})


async def values(uri: str) -> list[str]:
    async with Client(uri, serverSelectionTimeoutMS=10_000) as client:
        return [thing["value"] async for thing in client.test.things.find().sort("_id")]


def pid_in(data_dir: Path) -> int:
    return int((data_dir / "mongod" / "mongod.lock").read_text())


@asynccontextmanager
async def owned(
    data_dir: Path, *, binary: Path, shared: bool = False
) -> AsyncIterator[OwnedMongod]:
    with folder_owner(data_dir) as owner:
        assert await owner.acquire(may_own=True) is None
        async with run_mongod(owner, binary=binary, shared=shared) as mongod:
            yield mongod


@asynccontextmanager
async def an_owner(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, str]]:
    """Another process that owns the folder."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, data_dir, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        line = await asyncio.wait_for(owner.stdout.readline(), 30)
        yield owner, pid_in(data_dir), line.decode().strip()
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()


async def test_it_is_a_writable_primary_with_transactions_and_change_streams(
    binary: Path, tmp_path: Path
) -> None:
    async with owned(tmp_path, binary=binary) as mongod, Client(mongod.uri) as client:
        hello = await client.admin.command("hello")
        assert hello["isWritablePrimary"]
        assert hello["setName"] == REPLICA_SET

        things = client.test.things
        async with await things.watch() as stream:
            async with client.start_session() as session, await session.start_transaction():
                await things.insert_one({"value": "a"}, session=session)
                await things.insert_one({"value": "b"}, session=session)
            seen = [(await asyncio.wait_for(anext(stream), 10))["fullDocument"] for _ in "ab"]
        assert [thing["value"] for thing in seen] == ["a", "b"]


async def test_it_has_the_required_settings(binary: Path, tmp_path: Path) -> None:
    async with owned(tmp_path, binary=binary) as mongod, Client(mongod.uri) as client:
        config = (await client.admin.command("replSetGetConfig"))["config"]
        lifetime = await client.admin.command("getParameter", transactionLifetimeLimitSeconds=1)
        options = (await client.admin.command("getCmdLineOpts"))["parsed"]

    assert config["settings"]["electionTimeoutMillis"] == 2000
    assert lifetime["transactionLifetimeLimitSeconds"] == 3
    assert options["net"]["bindIp"] == "127.0.0.1"
    assert "zlib" not in options["net"]["compression"]["compressors"]


async def test_a_second_start_finds_the_data_on_the_same_port(binary: Path, tmp_path: Path) -> None:
    async with owned(tmp_path, binary=binary) as first:
        await insert(first.uri, "kept")

    async with owned(tmp_path, binary=binary) as second:
        assert second.uri == first.uri
        assert await values(second.uri) == ["kept"]


async def test_a_second_start_finds_the_data_on_another_port(binary: Path, tmp_path: Path) -> None:
    async with owned(tmp_path, binary=binary) as first:
        await insert(first.uri, "kept")
    port = int(first.uri.partition("127.0.0.1:")[2].partition("/")[0])

    # Another program listens there then.
    other_server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with other_server, owned(tmp_path, binary=binary) as second:
        assert second.uri != first.uri
        await insert(second.uri, "more")
        assert await values(second.uri) == ["kept", "more"]


async def test_a_killed_mongod_restarts_on_its_port_with_all_acknowledged_writes(
    binary: Path, tmp_path: Path
) -> None:
    mongod = Mongod(tmp_path, binary=binary)
    await mongod.start()
    uri, pid = mongod.uri, mongod.pid
    try:
        await insert(uri, "acknowledged")
        await mongod.kill()
        assert mongod.pid is None

        await mongod.start()

        assert mongod.pid not in {None, pid}
        assert mongod.uri == uri
        assert await values(uri) == ["acknowledged"]
    finally:
        await mongod.stop()


async def test_a_mongod_that_ends_unexpectedly_is_restarted(binary: Path, tmp_path: Path) -> None:
    async with owned(tmp_path, binary=binary) as mongod, Client(mongod.uri) as client:
        await client.test.things.insert_one({"value": "before"})
        killed = pid_in(tmp_path)

        os.kill(killed, signal.SIGKILL)

        assert await values(mongod.uri) == ["before"]
        assert await client.test.things.count_documents({}) == 1
        assert pid_in(tmp_path) != killed


async def test_a_mongod_that_keeps_ending_is_given_up(binary: Path, tmp_path: Path) -> None:
    replaced = tmp_path / "mongod-binary"
    replaced.symlink_to(binary)
    async with owned(tmp_path / "data", binary=replaced) as mongod:
        replaced.unlink()
        replaced.symlink_to("/bin/false")

        os.kill(pid_in(tmp_path / "data"), signal.SIGKILL)

        with pytest.raises(MongodFailed, match=r"mongod keeps ending.*mongod\.log"):
            await asyncio.wait_for(mongod.wait_until_ended(), 20)


async def test_a_mongod_that_does_not_start_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(MongodFailed, match=r"ended with code 1; see .*mongod\.log"):
        async with owned(tmp_path, binary=Path("/bin/false")):
            pytest.fail("it cannot have started")


async def test_stopping_leaves_no_process_behind(binary: Path, tmp_path: Path) -> None:
    async with owned(tmp_path, binary=binary):
        pid = pid_in(tmp_path)

    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
async def test_it_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    async with an_owner(tmp_path) as (owner, pid, _):
        owner.kill()
        await owner.wait()

        await eventually(lambda: not is_alive(pid), what=f"{pid} has ended")


async def test_starting_ends_the_mongod_of_a_killed_owner(binary: Path, tmp_path: Path) -> None:
    async with an_owner(tmp_path) as (owner, orphan, uri):
        await insert(uri, "kept")
        # Frozen, it is not ended with its owner: as on a system that does not tie them.
        os.kill(orphan, signal.SIGSTOP)
        owner.kill()
        await owner.wait()
        assert is_alive(orphan)

        async with owned(tmp_path, binary=binary) as mongod:
            assert not is_alive(orphan)
            assert mongod.uri == uri
            assert await values(mongod.uri) == ["kept"]


@pytest.mark.parametrize("may_own", [False, True])
async def test_a_second_process_uses_the_uri_that_the_owner_shares(
    tmp_path: Path, may_own: bool
) -> None:
    async with an_owner(tmp_path) as (_, pid, uri):
        with folder_owner(tmp_path) as second:
            assert await second.acquire(may_own=may_own) == uri
            await insert(uri, "second's")

        assert is_alive(pid)
        assert await values(uri) == ["second's"]


async def test_a_process_waits_for_an_owner_that_has_not_shared_its_uri(
    binary: Path, tmp_path: Path
) -> None:
    with folder_owner(tmp_path) as second:
        async with owned(tmp_path, binary=binary):
            waiting = asyncio.create_task(second.acquire(may_own=True))
            await asyncio.sleep(0.3)
            assert not waiting.done()

        assert await asyncio.wait_for(waiting, 10) is None


async def test_waiting_for_an_owner_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod_owner, "WAIT_SECONDS", 0.3)
    with folder_owner(tmp_path) as first, folder_owner(tmp_path) as second:
        with pytest.raises(MongodFailed, match="start `make run`, or set DARKROOM_MONGODB_URI"):
            await second.acquire(may_own=False)

        assert await first.acquire(may_own=True) is None
        first.write()

        with pytest.raises(MongodFailed, match=f"Process {os.getpid()} has not shared the mongod"):
            await second.acquire(may_own=True)


async def test_the_folder_of_another_mongod_is_left_unchanged(binary: Path, tmp_path: Path) -> None:
    lock_path = tmp_path / "mongod" / "mongod.lock"
    lock_path.parent.mkdir()
    lock_path.write_text(f"{os.getpid()}\n")
    with lock_path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(MongodFailed, match=f"Process {os.getpid()} uses .* did not start it"):
            async with owned(tmp_path, binary=binary):
                pytest.fail("it cannot have started")


async def test_a_stale_lock_with_the_id_of_another_process_is_ignored(
    binary: Path, tmp_path: Path
) -> None:
    lock_path = tmp_path / "mongod" / "mongod.lock"
    lock_path.parent.mkdir()
    lock_path.write_text(f"{os.getpid()}\n")

    async with owned(tmp_path, binary=binary) as mongod:
        assert await values(mongod.uri) == []


def test_a_mongod_on_path_is_preferred_if_it_runs(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = tmp_path / "mongod"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    on_path.write_text("#!/bin/sh\nexit 127\n")
    on_path.chmod(0o755)
    assert find_mongod() != on_path

    on_path.write_text("#!/bin/sh\necho db version v4.4.29\n")
    assert find_mongod() != on_path

    on_path.write_text("#!/bin/sh\necho db version v8.0.17\n")
    assert find_mongod() == on_path
