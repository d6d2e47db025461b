"""The credentials for a bucket: a key from the settings, or what the platform gives and renews.

The platform's credentials are found as AWS' own tools find them: in the environment, in files, by
the identity of a pod, a container or a machine. They expire, and are replaced before they do.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiobotocore.session import AioSession

from domain.background import run_in_background
from domain.errors import StoreUnavailable

LOOK_SECONDS: Final = 30.0
"""Between two checks for newer ones. The library fetches those 15 minutes before the end."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """What was signed with them is valid until then, at most."""


async def find_credentials(session: AioSession) -> Any:
    """The platform's, as the library keeps them. Raise StoreUnavailable if there are none."""
    found = await session.get_credentials()
    if found is None:
        raise StoreUnavailable("no credentials: neither settings nor the platform have any")
    return found


async def read_credentials(kept: Any) -> Credentials:
    """The current credentials, renewed if they end soon."""
    frozen = await kept.get_frozen_credentials()
    expires_at = getattr(kept, "_expiry_time", None)  # There is no public attribute.
    return Credentials(
        frozen.access_key,
        frozen.secret_key,
        frozen.token,
        expires_at.astimezone(UTC) if expires_at else None,
    )


@asynccontextmanager
async def renewing(
    kept: Any, use: Callable[[Credentials], None], *, look_seconds: float = LOOK_SECONDS
) -> AsyncIterator[None]:
    """Call `use` with each newer credentials, until the block ends."""

    async def follow() -> None:
        known: Credentials | None = None
        while True:
            await asyncio.sleep(look_seconds)
            try:
                found = await read_credentials(kept)
            except Exception as error:
                log.warning("credentials not renewed", error=type(error).__name__)
                continue
            if found != known:
                use(found)
                known = found

    async with run_in_background(follow(), name="credentials of the bucket"):
        yield
