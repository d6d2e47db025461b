"""Our own mongod: what it can do, and what becomes of it when somebody dies."""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from runtime.local_mongod import REPLICA_SET, Mongod, MongodFailed, find_mongod, run_mongod

ROOT = Path(__file__).parent.parent
Client = AsyncMongoClient[dict[str, Any]]

# Looks after a mongod until it is killed. Prints the process id of its mongod.
OWNER = """
import asyncio, sys
from pathlib import Path
from runtime.local_mongod import find_mongod, run_mongod

async def main():
    async with run_mongod(Path(sys.argv[1]), binary=find_mongod()) as mongod:
        print(mongod.pid, mongod.uri, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def binary() -> Path:
    found = find_mongod()
    assert found is not None
    return found


async def eventually(condition: Callable[[], bool], *, within: float = 15) -> None:
    async with asyncio.timeout(within):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


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


@asynccontextmanager
async def an_owner(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, str]]:
    """Another process that looks after the folder's mongod."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, data_dir, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        line = await asyncio.wait_for(owner.stdout.readline(), 30)
        pid, uri = line.decode().split()
        yield owner, int(pid), uri
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()


async def test_it_is_a_writable_primary_with_transactions_and_change_streams(
    binary: Path, tmp_path: Path
) -> None:
    async with run_mongod(tmp_path, binary=binary) as mongod, Client(mongod.uri) as client:
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


async def test_it_has_the_settings_that_matter(binary: Path, tmp_path: Path) -> None:
    async with run_mongod(tmp_path, binary=binary) as mongod, Client(mongod.uri) as client:
        config = (await client.admin.command("replSetGetConfig"))["config"]
        lifetime = await client.admin.command("getParameter", transactionLifetimeLimitSeconds=1)
        options = (await client.admin.command("getCmdLineOpts"))["parsed"]

    assert config["settings"]["electionTimeoutMillis"] == 2000
    assert lifetime["transactionLifetimeLimitSeconds"] == 3
    assert options["net"]["bindIp"] == "127.0.0.1"
    assert "zlib" not in options["net"]["compression"]["compressors"]


async def test_a_second_start_finds_the_data_on_the_same_port(binary: Path, tmp_path: Path) -> None:
    async with run_mongod(tmp_path, binary=binary) as first:
        await insert(first.uri, "kept")

    async with run_mongod(tmp_path, binary=binary) as second:
        assert second.uri == first.uri
        assert await values(second.uri) == ["kept"]


async def test_a_second_start_finds_the_data_on_another_port(binary: Path, tmp_path: Path) -> None:
    async with run_mongod(tmp_path, binary=binary) as first:
        await insert(first.uri, "kept")
    port = int(first.uri.partition("127.0.0.1:")[2].partition("/")[0])

    # By then somebody else listens there, who does not know what to say to a mongod.
    somebody = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with somebody, run_mongod(tmp_path, binary=binary) as second:
        assert second.uri != first.uri
        await insert(second.uri, "more")
        assert await values(second.uri) == ["kept", "more"]


async def test_a_killed_one_starts_again_on_its_port_with_what_it_acknowledged(
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


async def test_one_that_ends_by_itself_is_started_again(binary: Path, tmp_path: Path) -> None:
    async with run_mongod(tmp_path, binary=binary) as mongod, Client(mongod.uri) as client:
        await client.test.things.insert_one({"value": "before"})
        killed = mongod.pid
        assert killed is not None

        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: mongod.pid not in {None, killed})

        assert await values(mongod.uri) == ["before"]
        assert await client.test.things.count_documents({}) == 1


async def test_one_that_keeps_ending_is_given_up(binary: Path, tmp_path: Path) -> None:
    replaced = tmp_path / "mongod-binary"
    replaced.symlink_to(binary)
    async with run_mongod(tmp_path / "data", binary=replaced) as mongod:
        assert mongod.pid is not None
        replaced.unlink()
        replaced.symlink_to("/bin/false")

        os.kill(mongod.pid, signal.SIGKILL)

        with pytest.raises(MongodFailed, match=r"mongod keeps ending.*mongod\.log"):
            await asyncio.wait_for(mongod.ended(), 20)


async def test_one_that_does_not_start_says_where_its_log_is(tmp_path: Path) -> None:
    with pytest.raises(MongodFailed, match=r"ended with code 1; see .*mongod\.log"):
        async with run_mongod(tmp_path, binary=Path("/bin/false")):
            pytest.fail("it cannot have started")


async def test_stopping_leaves_no_process(binary: Path, tmp_path: Path) -> None:
    async with run_mongod(tmp_path, binary=binary) as mongod:
        pid = mongod.pid
        assert pid is not None

    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
async def test_it_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    async with an_owner(tmp_path) as (owner, pid, _):
        owner.kill()
        await owner.wait()

        await eventually(lambda: not is_alive(pid))


async def test_a_start_takes_care_of_what_a_killed_owner_left(binary: Path, tmp_path: Path) -> None:
    async with an_owner(tmp_path) as (owner, orphan, uri):
        await insert(uri, "kept")
        # Frozen, it does not hear that its owner is dead: as where nothing tells it.
        os.kill(orphan, signal.SIGSTOP)
        owner.kill()
        await owner.wait()
        assert is_alive(orphan)
        asyncio.get_running_loop().call_later(0.3, os.kill, orphan, signal.SIGCONT)

        async with run_mongod(tmp_path, binary=binary) as mongod:
            assert mongod.is_ours
            assert not is_alive(orphan)
            assert await values(mongod.uri) == ["kept"]


async def test_the_mongod_of_a_live_owner_is_shared_and_left_running(
    binary: Path, tmp_path: Path
) -> None:
    async with an_owner(tmp_path) as (_, pid, uri):
        async with run_mongod(tmp_path, binary=binary) as shared:
            assert not shared.is_ours
            assert shared.uri == uri
            await insert(shared.uri, "ours")

        assert is_alive(pid)
        assert await values(uri) == ["ours"]


async def test_who_shares_a_mongod_takes_it_over_when_its_owner_dies(
    binary: Path, tmp_path: Path
) -> None:
    async with (
        an_owner(tmp_path) as (owner, _, uri),
        run_mongod(tmp_path, binary=binary) as shared,
    ):
        await insert(uri, "kept")

        owner.kill()
        await owner.wait()
        await eventually(lambda: shared.pid is not None)

        assert shared.uri == uri
        assert await values(uri) == ["kept"]


async def test_a_folder_that_somebody_else_uses_is_left_alone(binary: Path, tmp_path: Path) -> None:
    lock_path = tmp_path / "mongod" / "mongod.lock"
    lock_path.parent.mkdir()
    lock_path.write_text(f"{os.getpid()}\n")
    with lock_path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(MongodFailed, match=f"Process {os.getpid()} uses .* is not ours"):
            async with run_mongod(tmp_path, binary=binary):
                pytest.fail("it cannot have started")


async def test_a_stale_lock_with_the_id_of_another_process_does_not_matter(
    binary: Path, tmp_path: Path
) -> None:
    lock_path = tmp_path / "mongod" / "mongod.lock"
    lock_path.parent.mkdir()
    lock_path.write_text(f"{os.getpid()}\n")

    async with run_mongod(tmp_path, binary=binary) as mongod:
        assert mongod.is_ours


def test_a_mongod_on_path_goes_first_if_it_runs(
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
