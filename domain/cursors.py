"""Cursors: opaque to clients, signed, and valid only for the list or stream that they came from.

A cursor must outlive the process that made it, so nothing in it refers to memory or to a
connection.
"""

import json
from dataclasses import dataclass
from typing import Final

from domain.changes import Bookmark, ClusterTime
from domain.errors import BadUserInput, InvalidCursor
from domain.ids import ConversationId
from domain.pages import Position
from domain.signing import Signer

_TURNS_VERSION: Final = 1
_write_position: Final = json.JSONEncoder(separators=(",", ":")).encode
"""As `json.dumps`, which makes an encoder at each call."""


@dataclass(frozen=True, slots=True)
class TurnCursors:
    """Cursors of the updates of a conversation's turns."""

    signer: Signer

    def make(self, conversation_id: ConversationId, bookmark: Bookmark) -> str:
        cluster_time = bookmark.cluster_time
        known = [number for pair in bookmark.versions for number in pair]
        numbers = (_TURNS_VERSION, cluster_time.seconds, cluster_time.increment, *known)
        payload = ".".join(map(str, numbers))
        return self.signer.sign(_turns_of(conversation_id), payload.encode())

    def read(self, conversation_id: ConversationId, cursor: str) -> Bookmark:
        """Read a cursor. Raise InvalidCursor unless this deployment has made it for this
        conversation.
        """
        payload = self.signer.verify(_turns_of(conversation_id), cursor)
        if payload is None:
            raise InvalidCursor
        version, *numbers = map(int, payload.decode().split("."))
        if version != _TURNS_VERSION:
            raise InvalidCursor
        seconds, increment, *known = numbers
        versions = tuple(zip(known[::2], known[1::2], strict=True))
        return Bookmark(ClusterTime(seconds, increment), versions)


@dataclass(frozen=True, slots=True)
class PageCursors:
    """Cursors of one list of one viewer. `name` identifies the list, its filters included."""

    signer: Signer

    def make(self, name: str, position: Position) -> str:
        return self.signer.sign(f"page {name}", _write_position(position).encode())

    def read(self, name: str, cursor: str) -> Position:
        """Read a cursor. Raise BadUserInput unless it was made for this list."""
        payload = self.signer.verify(f"page {name}", cursor)
        if payload is None:
            raise BadUserInput("The cursor is not valid for this list.")
        return tuple(json.loads(payload))


def _turns_of(conversation_id: ConversationId) -> str:
    return f"turns of {conversation_id}"
