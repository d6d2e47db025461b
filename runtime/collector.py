"""Python's garbage collector, set for a process that runs long and holds much."""

import gc
from typing import Final

_YOUNG: Final = 10_000
"""How many more objects are made than freed before the young ones are looked through."""
_OLDER: Final = 3
"""After how many times as much those that have survived are looked through, once more."""
_OLDEST: Final = 500
"""A full collection looks at every object of every subscriber, and stops the event loop for it."""


def settle() -> None:
    """Call once everything is open: what is there now stays, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLDER, _OLDEST)
