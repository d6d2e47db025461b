"""Custom scalars, and how an omitted input is read."""

from datetime import UTC, datetime
from typing import Final, TypeVar

import strawberry
from strawberry.types.scalar import ScalarDefinition

from domain.models import AspectRatio

Value = TypeVar("Value")


def given(value: Value | None) -> Value | None:
    """An input's value; None if it was omitted or null."""
    return None if value is strawberry.UNSET else value


def write_instant(value: datetime) -> str:
    """Write a time in ISO 8601. One without a time zone, as a database may return it, is in UTC."""
    zone = value.tzinfo
    if zone is not None:
        value = (value if zone is UTC else value.astimezone(UTC)).replace(tzinfo=None)
    return value.isoformat(timespec="milliseconds") + "Z"


def _read_instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("An instant is written as text, ISO 8601.")
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("An instant lies within the years 1 to 9999.") from None


def _read_ratio(value: object) -> AspectRatio:
    if not isinstance(value, str):
        raise ValueError('An aspect ratio is written as text, such as "16:9".')
    return AspectRatio.parse(value)


SCALARS: Final[dict[object, ScalarDefinition]] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A date and time in ISO 8601, in UTC, e.g. `2026-01-31T12:00:00.000Z`.",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=write_instant,
        parse_value=_read_instant,
    ),
    AspectRatio: strawberry.scalar(
        name="AspectRatio",
        description="A ratio of width to height, e.g. `16:9`. As an input it has to be a ratio "
        "that the selected models support.",
        serialize=str,
        parse_value=_read_ratio,
    ),
}
