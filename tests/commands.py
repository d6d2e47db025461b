"""Runs an operator's command as a person would."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from settings import Settings
from tests.programs import environment_without_settings
from tests.resilience.preloaded import PRELOADED, ROOT

LIMIT_SECONDS: Final = 180
"""For a machine that has much else to do; on one that has not, it is about two."""


@dataclass(frozen=True)
class Ran:
    code: int
    said: str
    """On stdout and stderr, or on stdout alone."""
    complained: str = ""
    """On stderr, where that was read by itself."""


async def run_command(
    settings: Settings, name: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Ran:
    """`python -m commands.<name>` with these arguments, on a Darkroom with its own database and
    folder.
    """
    assert settings.mongodb_uri is not None
    environment = {
        **environment_without_settings(),
        "DARKROOM_DATA_DIR": os.fspath(settings.data_dir),
        "DARKROOM_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "DARKROOM_MONGODB_DATABASE": settings.mongodb_database,
        **(environ or {}),
    }
    return await run_with(environment, name, *arguments)


async def run_with(
    environment: Mapping[str, str], name: str, *arguments: str, separate: bool = False
) -> Ran:
    """The same in exactly this environment. `separate` reads stderr by itself."""
    with NamedTemporaryFile() as log, NamedTemporaryFile() as errors:
        process = await PRELOADED.spawn(
            [f"commands.{name}", *arguments],
            environment=environment,
            log=Path(log.name),
            errors=Path(errors.name) if separate else None,
            root=ROOT,
        )
        try:
            code = await asyncio.wait_for(process.wait(), LIMIT_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ran(code, log.read().decode(), errors.read().decode())
