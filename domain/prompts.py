"""Prompts: the messages that a viewer has begun turns with, each text once."""

from dataclasses import dataclass
from datetime import datetime

from domain.ids import PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text that turns were begun with. It stays when those are deleted."""

    id: PromptId
    text: str
    uses: int
    """How many turns were begun with it. Running an output again is no use."""
    favourite: bool
    last_used_at: datetime
