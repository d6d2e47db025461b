"""Where a change stream is to be continued."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError

from domain.changes import ClusterTime

_BEGINS_WITH_TIME: Final = re.compile("82[0-9A-F]{16}")
_HISTORY_LOST_CODES: Final = frozenset({280, 286})
"""The stream's position is not in the oplog, or not any more."""

_CURSOR_NOT_FOUND: Final = 43


@dataclass(frozen=True, slots=True)
class Point:
    """A point in the stream, and the partition of the change there. Without a token, it is where
    the stream begins.
    """

    token: Mapping[str, Any] | None
    partition: str | None
    ended_there: bool = False
    """Whether the stream was invalidated there."""

    def is_before(self, other: "Point") -> bool:
        """Whether it comes before the other one, in the order of the tokens' data. After the end
        of a stream everything is read again, so nothing comes before such a point.
        """
        if self.token is None or other.token is None or other.ended_there:
            return False
        return bool(self.token["_data"] < other.token["_data"])


class Position:
    """Where to continue in the stream. At most one of the tokens is set; none means from now on."""

    def __init__(self) -> None:
        self.token: Mapping[str, Any] | None = None
        self.invalidated_token: Mapping[str, Any] | None = None
        self.lost = False
        self.partition: str | None = None
        """Of the last change: the token may belong to it."""
        self._failed_token: Mapping[str, Any] | None = None

    @property
    def time(self) -> ClusterTime | None:
        return time_of(self.token)

    @property
    def point(self) -> Point:
        ended_there = self.token is None and self.invalidated_token is not None
        return Point(self.token or self.invalidated_token, self.partition, ended_there)

    def go_to(self, point: Point) -> None:
        self.token = None if point.ended_there else point.token
        self.invalidated_token = point.token if point.ended_there else None
        self.partition = point.partition

    def follow(self, token: Mapping[str, Any] | None) -> None:
        """Move to this token. None: the stream has none yet."""
        if token is not None:
            self.token, self.invalidated_token = token, None

    def mark_invalidated(self) -> None:
        """The stream has ended: open another one after the event that ended it."""
        self.token, self.invalidated_token = None, self.token
        self.lost = True

    def continue_after(self, error: PyMongoError) -> None:
        """Continue from the same token; from now on where there is none, or it has failed twice."""
        server_refused = (
            isinstance(error, OperationFailure)
            and error.code != _CURSOR_NOT_FOUND
            and not error.has_error_label("ResumableChangeStreamError")
        )
        token = self.token or self.invalidated_token
        forgotten = isinstance(error, OperationFailure) and error.code in _HISTORY_LOST_CODES
        if token is None or forgotten or (server_refused and token == self._failed_token):
            # The events in between are lost, or cannot be read: listeners read the state again.
            self.token = self.invalidated_token = None
            self.lost = True
        self._failed_token = token if server_refused else None


def time_of(token: Mapping[str, Any] | None) -> ClusterTime | None:
    """The cluster time in a token: it follows the first byte in all versions of MongoDB so far.
    None if the token has another form.
    """
    data = str(token["_data"]) if token is not None else ""
    if not _BEGINS_WITH_TIME.match(data):
        return None
    return ClusterTime(int(data[2:10], 16), int(data[10:18], 16))
