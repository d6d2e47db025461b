"""A conversation: a source image or none, a title, and the defaults for its next turn."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.changes import ClusterTime
from domain.ids import ConversationId, ViewerId
from domain.images import Image
from domain.models import AspectRatio, Resolution
from domain.text import balance_directions, one_line, shorten
from domain.turns import TurnRequest

MAX_TITLE_LENGTH: Final = 120
MAX_DELETED_LISTED: Final = 100
_AUTOMATIC_TITLE_LENGTH: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as it stood at the moment `as_of`."""

    id: ConversationId
    owner_id: ViewerId
    title: str
    source_image: Image | None
    aspect_ratio: AspectRatio
    resolution: Resolution
    turn_count: int
    """The number of turns, without deleted ones."""
    created_at: datetime
    updated_at: datetime
    as_of: ClusterTime
    deleted_turns: int = 0

    @property
    def next_turn_index(self) -> int:
        """The number of deleted turns. An index is never used again, since the ids of turns contain
        it.
        """
        return self.turn_count + self.deleted_turns

    title_was_given: bool = False
    """Whether the viewer gave the title. Otherwise it is the beginning of the first message."""


@dataclass(frozen=True, slots=True)
class ForkConversation:
    """Begin a conversation with copies of a turn and of all before it."""

    turn_id: str
    title: str | None = None
    idempotency_key: str | None = None

    @property
    def max_credits(self) -> int | None:
        """None: a fork costs nothing."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedConversation:
    """A conversation that was deleted, and can be restored."""

    id: ConversationId
    title: str
    turn_count: int
    restorable_until: datetime


@dataclass(frozen=True, slots=True)
class StartConversation:
    """Ask for a conversation and its first turn, from an image or from a message alone."""

    turn: TurnRequest
    source_image_id: str | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None


def title_from(message: str) -> str:
    """A title made from a first message: its first words, on one line."""
    line = one_line(message)
    if len(line) <= _AUTOMATIC_TITLE_LENGTH:
        return line
    head = shorten(line, _AUTOMATIC_TITLE_LENGTH - 1)
    words = head.rpartition(" ")[0]
    if len(words) < _AUTOMATIC_TITLE_LENGTH // 2:
        words = head  # A single long word is cut.
    return f"{balance_directions(words.rstrip(' ,.;:–—-'))}…"
