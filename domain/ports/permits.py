"""The permits of providers that limit the runs of all processes together."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from domain.claims import Permit
from domain.ids import OutputId


class PermitRepository(Protocol):
    """The permits of providers that limit the runs of all processes together. They are
    leased, by the database's clock.
    """

    async def take(
        self,
        provider: str,
        output_id: OutputId,
        attempt: int,
        *,
        at_most: int,
        lease: timedelta,
        expired: bool,
    ) -> Permit | None:
        """Take one of `at_most` permits, or return None if all are held.

        With `expired`, those whose leases have been over for a while are free too.
        """

    async def take_back(
        self,
        output_id: OutputId,
        attempt: int,
        *,
        limits: Mapping[str, int],
        lease: timedelta,
    ) -> Sequence[Permit]:
        """Take the permits that the process that has begun the attempt has left for whichever
        continues it. `limits`: how many there are, by provider.
        """

    async def renew(self, permits: Collection[Permit], *, lease: timedelta) -> None:
        """Renew the leases of permits, except those that another process has taken meanwhile."""

    async def give_back(self, permit: Permit, *, continues: bool) -> None:
        """Give back a permit. With `continues`, for a while only the process that continues its
        attempt can take it.
        """

    async def is_free(self, provider: str, *, at_most: int) -> bool:
        """Whether a permit of the provider is free, not counting those that have expired."""
