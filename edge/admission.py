"""Who a request or socket is for: its id in the logs, and its scope by its token."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

import structlog

from domain.errors import Overloaded
from domain.services.viewers import ViewerService
from edge.auth import Authenticator, parse_authorization
from schema.context import NOBODY, Scope

ADMISSION_SECONDS: Final = 10.0


class Admission:
    def __init__(self, authenticator: Authenticator, viewers: ViewerService) -> None:
        self._authenticator = authenticator
        self._viewers = viewers

    async def admit(self, authorization: str | None) -> Scope:
        """Find the scope for an `Authorization` header: nobody where there is none.

        Raise Unauthenticated for what is not a valid bearer token, and Overloaded where it cannot
        be verified at the moment.
        """
        token = parse_authorization(authorization)
        if token is None:
            return NOBODY
        try:
            async with asyncio.timeout(ADMISSION_SECONDS):
                viewer = await self._authenticator.authenticate(token)
                await self._viewers.greet(viewer)
        except TimeoutError as error:
            raise Overloaded from error
        structlog.contextvars.bind_contextvars(viewer_id=viewer.id)
        return Scope(viewer)


@contextmanager
def identify_request() -> Iterator[str]:
    """Give a request or socket an id, which every log line within it has."""
    request_id = uuid4().hex
    structlog.contextvars.bind_contextvars(request_id=request_id)
    try:
        yield request_id
    finally:
        structlog.contextvars.unbind_contextvars("request_id", "viewer_id")
