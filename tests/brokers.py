"""A real nats-server with JetStream that tests can stop and kill, in its own folder, ended by its
pid.
"""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Final

from tests.programs import end_process
from tests.serving import free_port

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0


class NatsServer:
    """It keeps its port and its files from start to start."""

    def __init__(self, folder: Path, *, binary: Path, authorization: str = "") -> None:
        self.port = free_port()
        self._binary = binary
        self._folder = folder
        self._authorization = authorization
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        configuration = self._folder / "nats.conf"
        configuration.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f"jetstream: {{ store_dir: {os.fspath(self._folder)!r} }}\n"
            f"{self._authorization}\n"
        )
        with (self._folder / "nats.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                *("--config", configuration),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self._listens():
                assert self.pid is not None, (self._folder / "nats.log").read_text()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it in order."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def lose_everything(self) -> None:
        """End it and remove its files."""
        await self.kill()
        await asyncio.to_thread(shutil.rmtree, self._folder / "jetstream")

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        await end_process(self._process, number, seconds=STOP_SECONDS)

    async def _listens(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        greeting = await reader.readline()
        writer.close()
        return greeting.startswith(b"INFO")
