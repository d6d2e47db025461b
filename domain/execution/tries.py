"""How often a write is tried that somebody else may come before."""

import asyncio
import random
from typing import Final

TRIES: Final = 20


async def back_off(tries: int) -> None:
    """Longer each time, so that a crowd on one conversation or one account thins out."""
    await asyncio.sleep(random.uniform(0, min(0.02 * 2**tries, 0.6)))
