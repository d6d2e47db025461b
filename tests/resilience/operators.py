"""An operator who grants credits to every viewer who has run out of them, and always completes a
grant.
"""

import asyncio
import itertools
from typing import Final

from domain.errors import Overloaded
from domain.ids import ViewerId
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.database import Database
from tests.resilience.evidence import Grant

_MOST_TRIES: Final = 40
_PAUSE_SECONDS: Final = 0.5


class Operator:
    def __init__(self, database: Database) -> None:
        self.grants: list[Grant] = []
        self._accounts = MongoAccountRepository(database)
        self._numbers = itertools.count(1)

    async def grant(self, viewer_id: ViewerId, credits: int) -> None:
        """Under one key, twice at once, and again until there is an answer."""
        grant = Grant(viewer_id, f"grant {next(self._numbers)}", credits)
        self.grants.append(grant)
        for _ in range(_MOST_TRIES):
            answers = await asyncio.gather(
                *(self._accounts.grant(viewer_id, credits, key=grant.key) for _ in range(2)),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, Overloaded):
                    raise answer
            # A conflict is an answer as well: it has been given before.
            if not all(isinstance(answer, Overloaded) for answer in answers):
                grant.acknowledged = True
                return
            await asyncio.sleep(_PAUSE_SECONDS)
