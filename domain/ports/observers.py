"""What is measured where no adapter can look in from outside.

Observers never wait and never fail.
"""

from collections.abc import Sequence
from typing import Protocol

from domain.credits import Movement
from domain.turns import Turn


class DatabaseObserver(Protocol):
    """Is notified of the calls to the database, and of what they have written."""

    def call_ended(self, repository: str, seconds: float, failure: BaseException | None) -> None:
        """A repository's call has ended, or has failed."""

    def credits_moved(self, movements: Sequence[Movement]) -> None:
        """These lines of the ledger have been committed."""


class UpdateObserver(Protocol):
    def pushed(self, turn: Turn) -> None:
        """An update of this turn was given to all subscribers that could take it."""


class Unobserved(DatabaseObserver, UpdateObserver):
    """For processes that nobody measures."""

    def call_ended(self, repository: str, seconds: float, failure: BaseException | None) -> None:
        pass

    def credits_moved(self, movements: Sequence[Movement]) -> None:
        pass

    def pushed(self, turn: Turn) -> None:
        pass
