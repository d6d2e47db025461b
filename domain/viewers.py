"""The person who is asking."""

from dataclasses import dataclass
from datetime import datetime

from domain.ids import ViewerId


@dataclass(frozen=True, slots=True)
class Viewer:
    id: ViewerId
    expires_at: datetime | None = None
    """When the token that vouched for this viewer ends."""
    valid_until: datetime | None = None
    """Until when the token is accepted: a little longer, since clocks differ."""
