"""Observers of what cannot be measured from outside. They never wait and never fail."""

from collections.abc import Sequence
from typing import Protocol

from domain.credits import Movement
from domain.turns import Turn


class DatabaseObserver(Protocol):
    """Is notified of calls to the database, and of committed movements of credits."""

    def call_ended(self, repository: str, seconds: float, failure: BaseException | None) -> None:
        """A call of a repository has ended, or has failed."""

    def credits_moved(self, movements: Sequence[Movement]) -> None:
        """These entries of the ledger have been committed."""


class UpdateObserver(Protocol):
    def pushed(self, turn: Turn) -> None:
        """An update of this turn was given to all subscribers that had room for it."""


class Unobserved(DatabaseObserver, UpdateObserver):
    """For processes without metrics."""

    def call_ended(self, repository: str, seconds: float, failure: BaseException | None) -> None:
        pass

    def credits_moved(self, movements: Sequence[Movement]) -> None:
        pass

    def pushed(self, turn: Turn) -> None:
        pass
