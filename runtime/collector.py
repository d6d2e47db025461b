"""Python's garbage collector, set for a process that runs long and holds much."""

import gc
from typing import Final

_YOUNG: Final = 20_000
"""How many more objects are made than freed before the young ones are looked through."""
_OLDER: Final = 4
"""A pass over what has survived looks at this many times as much: it stops the event loop for about
20 ms while many connect at once, instead of 100 ms with 20.
"""
_OLDEST: Final = 250
"""A full collection looks at every object of every subscriber, and stops the event loop for it."""


def settle() -> None:
    """Call once everything is open: what is there now stays, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLDER, _OLDEST)
