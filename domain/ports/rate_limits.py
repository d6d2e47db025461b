"""What rate limits need from the database."""

from typing import Protocol

from domain.rate_limits import Allowance, Amount, Taken


class RateLimitRepository(Protocol):
    async def take(
        self, client: str, *, minimum: Amount, maximum: Amount, allowance: Allowance
    ) -> Taken:
        """Take whole amounts from a client's bucket: as much of what is wanted as there is, or
        nothing where there is less than is needed. A client that is not known has a full bucket.
        """
