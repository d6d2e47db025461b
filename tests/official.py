"""Providers' own SDKs, which show whether a simulator behaves like the provider.

Each runs in a process of its own, in the environment that has nothing but SDKs.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from tests.tools import need

FOLDER: Final = Path(__file__).parent / "sdks"
LIMIT_SECONDS: Final = 60.0


async def ask_sdk(
    provider: str, *arguments: str, limit_seconds: float = LIMIT_SECONDS, **environment: str
) -> Any:
    """What the script of `tests/sdks` prints, as JSON: what the SDK has understood.

    Skip the test where the SDKs are not installed; fail it with what the script complained of.
    """
    process = await asyncio.create_subprocess_exec(
        need("sdks"),
        # The scripts are called as the SDKs are, and must not be taken for them.
        "-P",
        FOLDER / f"{provider}.py",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, complaints = await asyncio.wait_for(process.communicate(), limit_seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaints.decode()
    return json.loads(printed)
