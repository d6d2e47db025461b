"""Runs a command for operators as a person does, on a Darkroom's own database and folder."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from settings import Settings

ROOT: Final = Path(__file__).parents[1]
PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True)
class Ran:
    code: int
    said: str
    """On stdout and stderr."""


async def run_command(
    settings: Settings, name: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Ran:
    """`python -m commands.<name>` with these arguments."""
    assert settings.mongodb_uri is not None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"commands.{name}", *arguments),
        cwd=ROOT,
        env={
            **os.environ,
            "DARKROOM_DATA_DIR": os.fspath(settings.data_dir),
            "DARKROOM_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
            "DARKROOM_MONGODB_DATABASE": settings.mongodb_database,
            **(environ or {}),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, output.decode())
