"""The rate limit of a viewer."""

from datetime import datetime
from typing import ClassVar

import strawberry

from domain.rate_limits import RateLimitState


@strawberry.type(
    description="The bucket that the cost of a viewer's operations is taken from. It fills up "
    "again continuously. An operation that costs more than what is left is answered with the error "
    "RATE_LIMITED, whose `retryAfterSeconds` says when to try again."
)
class RateLimit:
    source: ClassVar[type] = RateLimitState

    limit: int = strawberry.field(description="What the full bucket contains.")
    remaining: int = strawberry.field(
        description="What is left after this operation. Other operations of the viewer that run at "
        "the same time may be missing."
    )
    cost: int = strawberry.field(description="What this operation costs.")
    reset_at: datetime = strawberry.field(
        description="When the bucket is full again, if no other operation runs before."
    )
