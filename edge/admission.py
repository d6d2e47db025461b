"""Finds the scope of a request or socket from its token."""

import asyncio
from typing import Final

import structlog

from domain.errors import Forbidden, Overloaded
from domain.services.blocked_viewers import BlockedViewers
from domain.services.viewers import ViewerService
from domain.viewers import Viewer
from edge.auth import Authenticator, TokenRefused, parse_authorization
from schema.context import Scope

ADMISSION_SECONDS: Final = 9.0
"""How long verifying a token may take. A failure is still answered within 10 seconds."""

log = structlog.get_logger(__name__)


class Admission:
    def __init__(
        self, authenticator: Authenticator, viewers: ViewerService, blocked: BlockedViewers
    ) -> None:
        self._authenticator = authenticator
        self._blocked = blocked
        self._viewers = viewers

    async def admit(self, authorization: str | None, *, address: str) -> Scope:
        """Find the scope for an `Authorization` header: an anonymous one if there is none.

        Raise Unauthenticated for what is not a valid bearer token, Forbidden for a viewer who is
        blocked, and Overloaded where it cannot be verified at the moment.
        """
        viewer = None if authorization is None else await self.admit_viewer(authorization)
        return Scope(viewer, address)

    async def admit_viewer(self, authorization: str | None) -> Viewer:
        """Find the viewer for an `Authorization` header. Raise as `admit` does, and Unauthenticated
        where there is no header.

        The reason of a refusal is logged, since the client is not shown it.
        """
        try:
            token = parse_authorization(authorization)
            if token is None:
                raise TokenRefused("no token")
            async with asyncio.timeout(ADMISSION_SECONDS):
                viewer = await self._authenticator.authenticate(token)
                if viewer.id in self._blocked:
                    log.info("viewer is blocked", viewer_id=viewer.id)
                    raise Forbidden
                await self._viewers.give_samples(viewer)
        except TokenRefused as refused:
            log.info("token refused", reason=refused.reason)
            raise
        except TimeoutError as error:
            raise Overloaded from error
        structlog.contextvars.bind_contextvars(viewer_id=viewer.id)
        return viewer


class logging_viewer:  # noqa: N801 (a context manager: `with logging_viewer():`)
    """Let every log line within the block name the viewer who is admitted in it.

    `admit_viewer` binds the viewer; the end of the block unbinds it.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        structlog.contextvars.unbind_contextvars("viewer_id")
