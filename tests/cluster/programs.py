"""Other people's programs as processes of a script."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2

from tests.programs import end_process, environment_without_settings

READY_SECONDS: Final = 120
STOP_SECONDS: Final = 30


@asynccontextmanager
async def running(
    name: str, command: Sequence[str | Path], folder: Path, *, environment: Mapping[str, str]
) -> AsyncIterator[None]:
    """A process that writes its log into the folder, and is asked to stop at the end."""
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**environment_without_settings(), **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this script, which stops them in order
        )
    try:
        yield
    finally:
        await end_process(process, seconds=STOP_SECONDS)


async def until_answered(url: str) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx2.AsyncClient(verify=False) as http:
        while True:
            try:
                if (await http.get(url)).is_success:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.1)
