"""How much of everything: a small count in `make test`, the full one in `make resilience`."""

import os
from typing import Final
from uuid import uuid4

KILLS: Final = int(os.environ.get("DARKROOM_TEST_KILLS", "0"))
"""Of everything together, in all storms; 0 leaves each storm its own small count."""
THOROUGH: Final = KILLS > 0
WHY_NOT: Final = "takes long; `make resilience` runs it"
SEED: Final = os.environ.get("DARKROOM_TEST_SEED") or (uuid4().hex[:8] if THOROUGH else "darkroom")
"""Decides what is done, and what is hurt; the machine decides when. `make test` always does the
same, `make resilience` something else each time.
"""


def load_factor() -> float:
    """How many processes want to run for each processor, at least 1: by so much may a time be
    longer than on a machine that has nothing else to do.
    """
    return max(1.0, *(load / (os.cpu_count() or 1) for load in os.getloadavg()))


def kills(small: int, *, share: float) -> int:
    """A storm's count: its share of all of them, or the small one."""
    return round(KILLS * share) if THOROUGH else small
