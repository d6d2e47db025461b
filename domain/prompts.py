"""Prompts: the messages that a viewer has begun turns with, each text once."""

from dataclasses import dataclass
from datetime import datetime

from domain.ids import PromptId


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A message that turns were started with. It stays when those turns are deleted."""

    id: PromptId
    text: str
    uses: int
    """How many turns were started with it. Retries of outputs do not count."""
    favourite: bool
    last_used_at: datetime
