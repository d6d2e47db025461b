"""What a run needs to know about a synchronous provider."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest
from providers.http import Answer, Form
from providers.lenient import Fields
from providers.references import Reference
from providers.safe_http import Sources
from providers.streaming_json import InlineJson

Body = Fields | Form
"""What is sent: as JSON, or as a form."""
LeaveOut = tuple[str, ...]
"""What must not get into a log."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A picture that shows how far a run is."""

    data: bytes
    progress: float | None = None
    """0 to 1, where it is known."""


class Reply(Protocol):
    """The result of a run, as far as it has been answered."""

    @property
    def pictures(self) -> Sequence[bytes | str]:
        """The bytes of its pictures, or links to them: no more than were asked for."""

    @property
    def is_empty(self) -> bool:
        """Whether neither a picture has come, nor a reason why there is none."""

    @property
    def is_whole(self) -> bool:
        """Whether a stream may end here, with its result or with the reason why there is none."""

    @property
    def is_ending(self) -> bool:
        """Whether it has said why it ends, and brings its picture soon if it does."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come that is worth waiting for."""

    def take(self, document: InlineJson, fields: Fields) -> Iterable[Partial]:
        """Take in an answer, or one of its events, and give the partial pictures in it.

        An event has a `type`, which is `message` where nothing is said. Raise `GenerationFailed`
        where it is an error, and has no picture.
        """

    def failure(self) -> GenerationFailed:
        """Why there are no pictures."""

    def delivery(self, pictures: Sequence[bytes]) -> Delivery:
        """What is delivered with these pictures, those of the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How such providers differ."""

    name: str
    key: str
    headers: Mapping[str, str]
    """With the key."""
    url: Callable[[GenerationRequest], str]
    picture_names: frozenset[str]
    """The fields in which an answer has its pictures."""
    sources: Sources
    """From where pictures may be fetched that an answer only names."""
    max_reference_bytes: int
    """Of one."""
    max_references_bytes: Callable[[GenerationRequest], int]
    """Of all together."""
    reference_types: Collection[str] | None = None
    """Their content types; None where any is taken."""
    pause_seconds: float | None = None
    """How long an answer that has begun may be silent; None: until the deadline."""
    body: Callable[[GenerationRequest, Sequence[Reference]], Body]
    reply: Callable[[GenerationRequest, LeaveOut], Reply]
    failure: Callable[[Answer, LeaveOut], GenerationFailed]
    """What an answer means that is not a success."""
