"""Seeds for providers that accept only numbers."""

import hashlib
from typing import Final

from domain.generation import GenerationRequest

MAX_SEED: Final = 2**31 - 1


def seed_of(request: GenerationRequest) -> int | None:
    """The number to send. Other texts result in a number too, always the same one."""
    if request.seed is None:
        return None
    text = request.seed.strip()
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_SEED:
        return int(text)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & MAX_SEED
