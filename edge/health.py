"""Answers probes: whether the process is alive, and whether it can work."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain.errors import Overloaded


class HealthRoutes:
    """The routes of probes. `ping` raises Overloaded while the database cannot be reached."""

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping

    @property
    def routes(self) -> Sequence[Route]:
        return [Route("/healthz", self._healthz), Route("/readyz", self._readyz)]

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _: Request) -> Response:
        try:
            await self._ping()
        except Overloaded:
            return JSONResponse({"status": "the database cannot be reached"}, status_code=503)
        return JSONResponse({"status": "ok"})
