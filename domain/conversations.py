"""A conversation: a source image or none, a title, and the defaults for its next turn."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.changes import ClusterTime
from domain.ids import ConversationId, ViewerId
from domain.images import Image
from domain.models import AspectRatio, Resolution
from domain.turns import TurnRequest

MAX_TITLE_LENGTH: Final = 120
_AUTOMATIC_TITLE_LENGTH: Final = 60
_TURNING: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Unicode's classes of characters that change the direction of text."""


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
    created_at: datetime
    updated_at: datetime
    as_of: ClusterTime


@dataclass(frozen=True, slots=True)
class StartConversation:
    """Ask for a conversation and its first turn, from a picture or from words alone."""

    turn: TurnRequest
    source_image_id: str | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None


def title_from(message: str) -> str:
    """A title made from a first message: its first words, on one line."""
    line = clean_line(message)
    if len(line) <= _AUTOMATIC_TITLE_LENGTH:
        return line
    head = line[: _AUTOMATIC_TITLE_LENGTH - 1]
    words = head.rpartition(" ")[0]
    if len(words) < _AUTOMATIC_TITLE_LENGTH // 2:
        words = head  # one long word: better cut than gone
    while words and unicodedata.category(words[-1]) in ("Cf", "Mn", "Me"):
        words = words[:-1]  # what joins or marks a letter is nothing without the next
    return f"{words.rstrip(' ,.;:–—-')}…"


def clean_line(text: str) -> str:
    """The text on one line, without surplus blanks and what would turn the text around it."""
    plain = "".join(c for c in text if unicodedata.bidirectional(c) not in _TURNING)
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in plain)
    return re.sub(r"\s+", " ", visible).strip()


def is_blank(text: str) -> bool:
    """True where nothing could be seen: blanks, control and zero-width characters only."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in text)
