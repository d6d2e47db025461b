"""What a run needs to know about a synchronous provider."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from domain.captions import CaptionRequest
from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.outputs import Usage
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


PartialT_co = TypeVar("PartialT_co", covariant=True)
"""What shows how far a run is."""


class Reply(Protocol[PartialT_co]):
    """The result of a run, as far as it has been answered."""

    @property
    def has_result(self) -> bool:
        """Whether what has been paid for has come."""

    @property
    def is_empty(self) -> bool:
        """Whether neither a result has come, nor a reason why there is none."""

    @property
    def is_whole(self) -> bool:
        """Whether a stream may end here, with its result or with the reason why there is none."""

    @property
    def is_ending(self) -> bool:
        """Whether it has said why it ends, and brings its result soon if it does."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come that is worth waiting for."""

    def take(self, document: InlineJson, fields: Fields, /) -> Iterable[PartialT_co]:
        """Take in an answer, or one of its events, and give the partial results in it.

        An event has a `type`, which is `message` where nothing is said. Raise `GenerationFailed`
        where it is an error, and has no result.
        """

    def end(self) -> None:
        """Take in that the stream has said that nothing more will come."""

    def failure(self) -> GenerationFailed:
        """Why there is no result."""


class PicturesReply(Reply[Partial], Protocol):
    """The result of a run that makes pictures."""

    @property
    def pictures(self) -> Sequence[bytes | str]:
        """The bytes of its pictures, or links to them: no more than were asked for."""

    def delivery(self, pictures: Sequence[bytes]) -> Delivery:
        """What is delivered with these pictures, those of the reply."""


class CaptionReply(Reply[str], Protocol):
    """The result of a run that writes a caption. Its partial results are all that is written so
    far.
    """

    @property
    def text(self) -> str:
        """What has been written, as it came; empty where the model has refused."""

    @property
    def is_cut(self) -> bool:
        """Whether the model had to stop before the end."""

    @property
    def usage(self) -> Usage | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How such providers differ, whatever they are asked for."""

    name: str
    key: str
    headers: Mapping[str, str]
    """With the key."""
    picture_names: frozenset[str] = frozenset()
    """The fields in which an answer has its pictures."""
    pause_seconds: float | None = None
    """How long an answer that has begun may be silent; None: until the deadline."""
    failure: Callable[[Answer, LeaveOut], GenerationFailed]
    """What an answer means that is not a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDialect(Dialect):
    """How they differ where they make pictures."""

    url: Callable[[GenerationRequest], str]
    sources: Sources
    """From where pictures may be fetched that an answer only names."""
    max_reference_bytes: int
    """Of one."""
    max_references_bytes: Callable[[GenerationRequest], int]
    """Of all together."""
    reference_types: Collection[str] | None = None
    """Their content types; None where any is taken."""
    body: Callable[[GenerationRequest, Sequence[Reference]], Body]
    reply: Callable[[GenerationRequest, LeaveOut], PicturesReply]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionDialect(Dialect):
    """How they differ where they write captions."""

    url: Callable[[CaptionRequest], str]
    body: Callable[[CaptionRequest, Sequence[Reference]], Fields]
    reply: Callable[[CaptionRequest, LeaveOut], CaptionReply]
