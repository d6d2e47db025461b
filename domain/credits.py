"""Credits: what a viewer has, what is reserved for unfinished outputs, and every movement between.

The ledger is the account: summed up, its lines give `balance` and `reserved` at every instant. An
attempt of an output is reserved once, and then captured once or released once.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol

from domain.ids import OutputId, ViewerId


class Priced(Protocol):
    """Something that is to be paid for."""

    @property
    def credits(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Account:
    """What a viewer owns, how much of it is reserved, and how many outputs are unfinished."""

    viewer_id: ViewerId
    balance: int
    reserved: int
    active_outputs: int
    daily_limit: int | None = None
    """What operators let the viewer spend on a day, by UTC; None: all that is there."""
    spent_today: int | None = None
    """What was reserved today and is not free again; None where there is no limit."""

    @property
    def available(self) -> int:
        return self.balance - self.reserved

    @property
    def left_today(self) -> int | None:
        """What of the limit is left. None where there is none."""
        if self.daily_limit is None:
            return None
        return max(self.daily_limit - (self.spent_today or 0), 0)


class MovementKind(StrEnum):
    GRANT = "GRANT"
    RESERVE = "RESERVE"
    CAPTURE = "CAPTURE"
    RELEASE = "RELEASE"
    FORFEIT = "FORFEIT"


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the ledger: what it adds to an account."""

    kind: MovementKind
    cause: str
    """What was moved for: with the kind, the line's id, so that none is written twice."""
    balance: int
    reserved: int
    active_outputs: int


def granted(credits: int, *, key: str) -> Movement:
    """`key` is the operator's: the same grant again is no second one."""
    return Movement(MovementKind.GRANT, key, credits, 0, 0)


def reserved(output_id: OutputId, attempt: int, credits: int) -> Movement:
    return Movement(MovementKind.RESERVE, _cause(output_id, attempt), 0, credits, 1)


def captured(output_id: OutputId, attempt: int, credits: int, *, charged: int) -> Movement:
    """Pay for what was delivered; the rest of what was reserved is free again."""
    return Movement(MovementKind.CAPTURE, _cause(output_id, attempt), -charged, -credits, -1)


def released(output_id: OutputId, attempt: int, credits: int) -> Movement:
    return Movement(MovementKind.RELEASE, _cause(output_id, attempt), 0, -credits, -1)


def settled(
    output_id: OutputId, attempt: int, credits: int, *, delivered: int, asked: int
) -> Movement:
    """Of an output that ends before it has delivered all: pay for what it has."""
    if not delivered:
        return released(output_id, attempt, credits)
    charged = charge_for(credits, delivered=delivered, asked=asked)
    return captured(output_id, attempt, credits, charged=charged)


def forfeited(account: Account, *, key: str) -> Movement:
    """Everything that is left in the account of a viewer who is deleted."""
    return Movement(
        MovementKind.FORFEIT, key, -account.balance, -account.reserved, -account.active_outputs
    )


def charge_for(credits: int, *, delivered: int, asked: int) -> int:
    """The share of what was reserved for `asked` images that as many as were delivered cost."""
    return credits * min(delivered, asked) // asked


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditsOfDay:
    """What was moved in a viewer's account on one day, by UTC."""

    day: date
    granted: int
    reserved: int
    charged: int
    released: int
    """Reserved credits that are free again, also where only a part was charged."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """An account that does not agree with its ledger or its outputs."""

    viewer_id: ViewerId
    what: str
    account: int
    elsewhere: int


@dataclass(frozen=True, slots=True)
class Proof:
    """Accounts held against ledger and outputs, all as of one moment."""

    accounts: int
    movements: int
    balance: int
    reserved: int
    active_outputs: int
    discrepancies: tuple[Discrepancy, ...]


def _cause(output_id: OutputId, attempt: int) -> str:
    return f"{output_id} {attempt}"
