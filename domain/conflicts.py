"""Why a write did not happen, although nothing was wrong with it when it was planned."""

from enum import Enum, auto


class Conflict(Enum):
    """What a write depended on and found changed. Nothing was written."""

    KEY_USED = auto()
    """The idempotency key has been used: what was made under it is the answer."""
    STALE = auto()
    """What the write changes is not as it was read: it has moved on, or it is gone."""
    IMAGE_GONE = auto()
    """An image that it refers to has been deleted."""
    LIMIT_REACHED = auto()
    """The viewer has too few credits for it, or too much open or running: the service checks the
    limit again and says which one it is.
    """
