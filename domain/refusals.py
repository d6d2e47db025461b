"""Collects what is wrong with a command, so that the client can show all of it together."""

from typing import NoReturn

from domain.errors import Refused, UserError, UserErrorCode


class Refusals:
    """Collects the user errors of one command."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    def add(self, code: UserErrorCode, message: str, *path: str) -> None:
        self.found.append(UserError(code, message, ("input", *path)))

    def raise_if_any(self) -> None:
        if self.found:
            raise Refused(self.found)


def refuse(code: UserErrorCode, message: str, *path: str) -> NoReturn:
    """Refuse a command for one reason that makes all further checks pointless."""
    refusals = Refusals()
    refusals.add(code, message, *path)
    raise Refused(refusals.found)
