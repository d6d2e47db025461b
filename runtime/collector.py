"""Python's garbage collector, set for a process that runs long and holds much."""

import gc
from typing import Final

_YOUNG: Final = 10_000
"""How many more objects are made than freed before a collection of the young ones."""
_OLDER: Final = 3
"""How many of these there are before a collection of the objects that survived them."""
_OLDEST: Final = 500
"""A full collection looks at every object of every subscriber, and stops the event loop for it."""


def settle() -> None:
    """Freeze what exists: later collections skip it. Call this once everything is open."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLDER, _OLDEST)
