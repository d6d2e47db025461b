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
"""The body: JSON, or a form."""
LeaveOut = tuple[str, ...]
"""Texts that must not get into a log."""


@dataclass(frozen=True, slots=True)
class Partial:
    """An image that shows how far a run is."""

    data: bytes
    progress: float | None = None
    """The progress from 0 to 1, if it is known."""


PartialT_co = TypeVar("PartialT_co", covariant=True)
"""A partial result of a run."""


class Reply(Protocol[PartialT_co]):
    """The result of a run, as far as it has arrived."""

    @property
    def has_result(self) -> bool:
        """Whether the result that has been paid for has arrived."""

    @property
    def is_empty(self) -> bool:
        """Whether neither a result has arrived, nor a reason why there is none."""

    @property
    def is_whole(self) -> bool:
        """Whether a stream may end here, with its result or with the reason why there is none."""

    @property
    def is_ending(self) -> bool:
        """Whether it has said why it ends: its result comes soon, if it has one."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come that is worth waiting for."""

    def take(self, document: InlineJson, fields: Fields, /) -> Iterable[PartialT_co]:
        """Take in a response, or one of its events, and return the partial results in it.

        An event has a `type`, which is `message` if the stream gives none. Raise `GenerationFailed`
        where it is an error, and has no result.
        """

    def end(self) -> None:
        """Note that the stream has said that nothing more will come."""

    def failure(self) -> GenerationFailed:
        """Why there is no result."""


class PicturesReply(Reply[Partial], Protocol):
    """The result of a run that makes images."""

    @property
    def pictures(self) -> Sequence[bytes | str]:
        """The bytes of its images, or links to them: no more than were requested."""

    def delivery(self, pictures: Sequence[bytes]) -> Delivery:
        """The delivery with these images, which are those of the reply."""


class CaptionReply(Reply[str], Protocol):
    """The result of a run that writes a caption. Each of its partial results is all that is written
    so far.
    """

    @property
    def text(self) -> str:
        """The text as it came; empty where the model has refused."""

    @property
    def is_cut(self) -> bool:
        """Whether the model had to stop before the end."""

    @property
    def usage(self) -> Usage | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The differences between such providers, for all kinds of requests."""

    name: str
    key: str
    headers: Mapping[str, str]
    """The headers with the key."""
    picture_names: frozenset[str] = frozenset()
    """The fields in which an answer has its images."""
    pause_seconds: float | None = None
    """How long a response that has begun may be silent; None: until the deadline."""
    failure: Callable[[Answer, LeaveOut], GenerationFailed]
    """The meaning of a response that is not a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDialect(Dialect):
    """The differences in making images."""

    url: Callable[[GenerationRequest], str]
    sources: Sources
    """The hosts that images may be fetched from, if an answer only names them."""
    max_reference_bytes: int
    """Of one."""
    max_references_bytes: Callable[[GenerationRequest], int]
    """The size of all references together."""
    reference_types: Collection[str] | None = None
    """The content types of references; None where any is accepted."""
    body: Callable[[GenerationRequest, Sequence[Reference]], Body]
    reply: Callable[[GenerationRequest, LeaveOut], PicturesReply]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionDialect(Dialect):
    """The differences in writing captions."""

    url: Callable[[CaptionRequest], str]
    body: Callable[[CaptionRequest, Sequence[Reference]], Fields]
    reply: Callable[[CaptionRequest, LeaveOut], CaptionReply]
