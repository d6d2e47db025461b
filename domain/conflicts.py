"""Why a write did not happen, although its plan was valid."""

from enum import Enum, auto


class Conflict(Enum):
    """What a write depended on, and found changed. Nothing was written."""

    KEY_USED = auto()
    """The idempotency key has been used: the result that is stored under it is the answer."""
    STALE = auto()
    """What the write was to change has changed since it was read, or was deleted."""
    IMAGE_GONE = auto()
    """An image that the write refers to has been deleted."""
    LIMIT_REACHED = auto()
    """The viewer has too few credits, or too many open uploads or running outputs: the service
    checks the limits again, and says which one it is. Or a grant would make too many credits.
    """
