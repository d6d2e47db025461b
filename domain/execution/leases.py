"""Keeps a claim alive while its run continues."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from domain.background import cancel_all
from domain.claims import Claim
from domain.errors import Overloaded
from domain.ports.execution import ClaimRepository

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=15)
HEARTBEAT: Final = timedelta(seconds=5)


class LeaseLost(Exception):
    """The claim has ended: another worker has claimed the output, or it has ended or
    was deleted.
    """


class Lease:
    """Renews a claim while its body runs, and ends the body with LeaseLost once the claim is lost.

    While `may_interrupt` returns False, the body continues: it notices at its next write.
    """

    def __init__(
        self,
        claims: ClaimRepository,
        claim: Claim,
        *,
        lease: timedelta,
        heartbeat: timedelta,
        may_interrupt: Callable[[], bool],
    ) -> None:
        self._claims = claims
        self._claim = claim
        self._lease = lease
        self._heartbeat = heartbeat
        self._may_interrupt = may_interrupt
        self._lost = False

    async def __aenter__(self) -> Self:
        body = asyncio.current_task()
        assert body is not None
        self._body = body
        self._heartbeat_task = asyncio.create_task(
            self._renew_forever(), name=f"lease {self._claim.output.id}"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        body = self._body
        try:
            await cancel_all([self._heartbeat_task])
        except asyncio.CancelledError:
            if kind is not None or not self._lost or body.uncancel() > 0:
                raise
            return  # The body had already ended when the lease was lost.
        finally:
            # A cancelled task keeps its traceback, which refers to the lease. With the task, the
            # lease would hold itself and the whole run.
            del self._body, self._heartbeat_task
        if kind is asyncio.CancelledError and self._lost and body.uncancel() == 0:
            raise LeaseLost

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat.total_seconds())
            try:
                is_renewed = await self._claims.renew(self._claim, lease=self._lease)
            except Overloaded:
                continue  # The fence protects every write, however long this takes.
            except Exception:
                log.exception("lease not renewed", extra={"output_id": self._claim.output.id})
                continue
            if not is_renewed and self._may_interrupt():
                self._lost = True
                self._body.cancel()
                return
