"""Real servers of the S3 API, each with its own data, ended by their pids."""

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pydantic import SecretStr

from storage.objects.bucket import Bucket
from tests.programs import end_process
from tests.serving import free_port
from tests.tools import need

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0

_KEY_ID: Final = "test"
_SECRET: Final = "test"
_CEPH: Final = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
auth allow insecure global id reclaim = false
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd objectstore = memstore
memstore device bytes = 1073741824
osd crush chooseleaf type = 0
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
"""


def bucket_at(url: str, name: str = "darkroom-test") -> Bucket:
    return Bucket(
        name=name,
        region="us-east-1",
        endpoint=url,
        public_endpoint=url,
        addressing="path",
        key_id=_KEY_ID,
        secret=_SECRET,
    )


def settings_of(bucket: Bucket) -> dict[str, Any]:
    """Those of a Darkroom that keeps its images there."""
    return {
        "s3_bucket": bucket.name,
        "s3_endpoint": bucket.endpoint,
        "s3_key_id": bucket.key_id,
        "s3_secret": SecretStr(bucket.secret),
    }


class S3Server(ABC):
    """Processes in a folder of their own, the last of which answers at `url`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._running: list[asyncio.subprocess.Process] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    async def start(self) -> None:
        """Start it and wait until it answers."""

    async def stop(self) -> None:
        for process in reversed(self._running):
            await end_process(process, seconds=STOP_SECONDS)

    def freeze(self) -> None:
        """Freeze it: connections stay open without responses."""
        self._running[-1].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running[-1].send_signal(signal.SIGCONT)

    async def _run(self, *command: str | Path, **environment: str) -> asyncio.subprocess.Process:
        with (self._folder / "output.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"] + ":/usr/sbin", **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    async def _until_it_answers(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not await self._answers():
                ended = [process for process in self._running if process.returncode is not None]
                assert not ended, (self._folder / "output.log").read_text()
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read(5)
        writer.close()
        return answer == b"HTTP/"


class Ministack(S3Server):
    """One Python process that keeps its objects in memory.

    With a session token, it takes the URLs only that are signed with it too.
    """

    def __init__(self, folder: Path, *, session_token: str = "") -> None:
        super().__init__(folder)
        self._session_token = session_token

    async def start(self) -> None:
        await self._run(
            *(need("ministack"), "-m", "ministack"),
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=str(self.port),
            SERVICES="s3",
            LOG_LEVEL="WARNING",
            TMPDIR=os.fspath(self._folder),
            AWS_ACCESS_KEY_ID=_KEY_ID,
            AWS_SECRET_ACCESS_KEY=_SECRET,
            AWS_SESSION_TOKEN=self._session_token,
        )
        await self._until_it_answers()


class Ceph(S3Server):
    """A cluster of one: a monitor, a store in memory, and the gateway that speaks S3."""

    async def start(self) -> None:
        need("radosgw")
        fsid, monitor_port = str(uuid4()), free_port()
        for folder in ("mon", "osd"):
            (self._folder / folder).mkdir()
        (self._folder / "ceph.conf").write_text(
            _CEPH.format(fsid=fsid, folder=self._folder, port=self.port, monitor_port=monitor_port)
        )
        rights = {
            "mon.": ("mon", "allow *"),
            "client.admin": ("mon", "allow *", "osd", "allow *"),
            "osd.0": ("mon", "allow *", "osd", "allow *"),
            "client.rgw": ("mon", "allow rw", "osd", "allow rwx"),
        }
        keyring: tuple[str, ...] = ("ceph-authtool", "--create-keyring")
        for name, allowed in rights.items():
            pairs = zip(allowed[::2], allowed[1::2], strict=True)
            caps = [word for what, how in pairs for word in ("--cap", what, how)]
            await self._do(*keyring, "keyring", "--gen-key", "-n", name, *caps)
            keyring = ("ceph-authtool",)
        address = f"[v2:127.0.0.1:{monitor_port}]"
        await self._do(
            *("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, "monmap")
        )
        await self._do(
            *("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        )
        await self._go_on("ceph-mon", "-i", "a", "-f")
        osd = str(uuid4())
        await self._do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        await self._do("ceph", "auth", "import", "-i", "keyring")
        await self._do("ceph", "osd", "create", osd)
        await self._go_on("ceph-osd", "-i", "0", "-f")
        keys = ("--access-key", _KEY_ID, "--secret", _SECRET)
        await self._do(
            *("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        )
        await self._go_on("radosgw", "-n", "client.rgw", "-f")
        await self._until_it_answers()

    async def _go_on(self, *command: str) -> None:
        await self._run(*command, CEPH_CONF=os.fspath(self._folder / "ceph.conf"))

    async def _do(self, *command: str) -> None:
        await self._go_on(*command)
        process = self._running.pop()
        async with asyncio.timeout(START_SECONDS):
            failed = await process.wait()
        assert not failed, (self._folder / "output.log").read_text()
