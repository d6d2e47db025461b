"""Domain values that keep the record they were read from, and decode an attribute when it is read.

A stored value is a value of its domain class: it has the same attributes, and is equal to one that
was made in another way. `fields` says how each attribute is stored, once for all who need to know:
the value itself, a projection of a database's read, and the compiler of selections.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar, cast

Record: TypeAlias = dict[str, Any]
"""A stored document, decoded as far as its database's driver does. It belongs to its value."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Attributes that will be read, each with those of its own values that will be. None: all."""

    attributes: Mapping[str, "Wanted | None"]
    projections: dict[type, dict[str, int] | None] = field(default_factory=dict, compare=False)
    """What `projection` has made of it."""

    def merged(self, other: "Wanted") -> "Wanted":
        """What either will read."""
        merged = dict(self.attributes)
        for name, inner in other.attributes.items():
            known = merged.get(name, inner)
            merged[name] = None if known is None or inner is None else known.merged(inner)
        return Wanted(merged)


@dataclass(frozen=True, slots=True)
class Key:
    """Stored as it is. `default` is for records that were written before there was such a key."""

    name: str
    default: object = None
    required: bool = True

    def __call__(self, record: Record) -> Any:
        return record[self.name] if self.required else record.get(self.name, self.default)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Instant:
    """A time in UTC, which is stored without its zone; or None."""

    name: str

    def __call__(self, record: Record) -> Any:
        value: datetime | None = record[self.name]
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Coded:
    """An enum's member, stored as its value."""

    name: str
    kind: type[Enum]

    def __call__(self, record: Record) -> Any:
        value = record[self.name]
        return None if value is None else self.kind(value)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Written:
    """Stored as the text that `str` makes of the value."""

    name: str
    parse: Callable[[str], object]

    def __call__(self, record: Record) -> Any:
        return self.parse(record[self.name])

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Listed:
    """A tuple of what needs no decoding."""

    name: str

    def __call__(self, record: Record) -> Any:
        return tuple(record[self.name])

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class One:
    """A record inside the record, or None. A projection inside it leaves out what is not one."""

    name: str
    kind: type["Stored"]

    def __call__(self, record: Record) -> Any:
        found = record.get(self.name)
        return None if found is None else self.kind.of(found)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Many:
    """Records inside the record, without the first `skip`. Each is given what it needs of the outer
    one: `inherits` maps its keys to the outer one's.
    """

    name: str
    kind: type["Stored"]
    inherits: tuple[tuple[str, str], ...] = ()
    skip: int = 0

    def records(self, record: Record) -> Iterator[Record]:
        for found in record[self.name][self.skip :]:
            for key, outer in self.inherits:
                found[key] = record[outer]
            yield found

    def __call__(self, record: Record) -> Any:
        return tuple(map(self.kind.of, self.records(record)))

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.name, *(outer for _, outer in self.inherits))


@dataclass(frozen=True, slots=True)
class Derived:
    """Made from the record's `keys`."""

    make: Callable[[Record], object]
    keys: tuple[str, ...]

    def __call__(self, record: Record) -> Any:
        return self.make(record)


@dataclass(frozen=True, slots=True)
class Same:
    """The same record, as a value of another kind, of which `keys` are read."""

    kind: type["Stored"]
    keys: tuple[str, ...]

    def __call__(self, record: Record) -> Any:
        return self.kind.of(record)


@dataclass(frozen=True, slots=True)
class Property:
    """Not stored: a property of the domain class, which reads these keys."""

    keys: tuple[str, ...]

    def __call__(self, _record: Record) -> Any:
        raise AttributeError  # Python asks only after the property itself has raised it.


Field: TypeAlias = Key | Instant | Coded | Written | Listed | One | Many | Derived | Same | Property


class Stored:
    """To be inherited before the domain class, with the slots `record` and `companion`."""

    __slots__ = ()
    kind: ClassVar[type]
    """The domain class."""
    fields: ClassVar[Mapping[str, Field]]
    """Of each attribute of the domain class, and of properties where that is faster."""
    identity: ClassVar[str | None] = None
    """Of a record that never changes once it is written: the key of its id."""
    changing: ClassVar[frozenset[str]] = frozenset()
    """The attributes of such a record that change all the same."""
    record: Record
    companion: object

    @classmethod
    def of(cls, record: Record) -> Self:
        value = cls.__new__(cls)
        _set(value, "record", record)
        return value

    def __getattr__(self, name: str) -> Any:
        """Called where the attribute's slot is empty."""
        stored = self.fields.get(name)
        if stored is None:
            if name == "companion":
                return None
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        value = stored(self.record)
        _set(self, name, value)
        return value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, self.kind):
            return NotImplemented
        names = self.kind.__dataclass_fields__  # type: ignore[attr-defined]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self) -> int:
        names = self.kind.__dataclass_fields__  # type: ignore[attr-defined]
        return hash(tuple(getattr(self, name) for name in names))


_set: Final = object.__setattr__
Value = TypeVar("Value")


class StoredValues(Sequence[Value], Generic[Value]):
    """The values of records, each made when it is read: most selections read the records only."""

    __slots__ = ("kind", "records")

    def __init__(self, kind: type[Stored], records: Sequence[Record]) -> None:
        self.kind = kind
        self.records = records

    def each(self, name: str) -> "StoredValues[Any]":
        """An attribute of each of them, which is the same record."""
        same = self.kind.fields[name]
        assert isinstance(same, Same)
        return StoredValues(same.kind, self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Value:  # type: ignore[override]
        value: Any = self.kind.of(self.records[index])
        return cast("Value", value)


def projection(kind: type[Stored], wanted: Wanted | None) -> dict[str, int] | None:
    """The keys of the records that the wanted attributes are made from. None: all."""
    if wanted is None:
        return None
    if kind not in wanted.projections:
        paths = _paths(kind, wanted)
        keys = None if paths is None else dict.fromkeys(_outermost(paths), 1)
        wanted.projections[kind] = keys
    return wanted.projections[kind]


def _paths(kind: type[Stored], wanted: Wanted) -> set[str] | None:
    # A cached answer is found by the record's id, whether that is selected or not.
    paths: set[str] = {kind.identity} if kind.identity else set()
    for name, inner in wanted.attributes.items():
        stored = kind.fields.get(name)
        if stored is None:
            return None
        if isinstance(stored, One | Many) and inner is not None:
            paths.update(stored.keys[1:])
            below = _paths(stored.kind, inner)
            if below:
                inherited = (
                    {key for key, _ in stored.inherits} if isinstance(stored, Many) else set()
                )
                paths.update(f"{stored.name}.{path}" for path in below - inherited)
                continue
        paths.update(stored.keys)
    return paths


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without paths inside others: a projection must not have both."""
    kept: list[str] = []
    for path in sorted(paths):
        if not (kept and path.startswith(f"{kept[-1]}.")):
            kept.append(path)
    return kept
