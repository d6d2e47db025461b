"""What the readers of a share are shown: one table, attribute by attribute.

A shown value stands for a domain value. It has the attributes that the table names and no others,
and what they lead to is shown in the same way, so that nothing that is reached from a shared
conversation can say more than the table does. `tests/api/test_shares.py` holds the table against
every field that a client can select below a share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, cast

from domain.conversations import Conversation
from domain.ids import TurnId, as_turn_id, index_of_turn, parent_of_output, turn_id_of
from domain.images import Drift, Image, ImageRecord, Provenance
from domain.models import SQUARE, AspectRatio, Resolution
from domain.outputs import GenerationError, Output, Preview
from domain.parents import TurnOptions
from domain.references import Reference
from domain.shares import Share, ShareScope
from domain.turns import Turn, TurnUpdate

Value = TypeVar("Value")
Rule: TypeAlias = Callable[[Any, ShareScope], object]
"""What is shown of a value to the readers of a scope."""

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN: Final = (str, int, float, datetime, Enum, AspectRatio)
"""Classes of what has no parts that could say more."""


def _as_it_is(*names: str) -> dict[str, Rule]:
    return {name: _attribute(name) for name in names}


def _attribute(name: str) -> Rule:
    return lambda value, scope: show(getattr(value, name), scope)


def _with_prompts(name: str, *, otherwise: object) -> Rule:
    """Words of the viewer, or of a model that may repeat them."""
    shown = _attribute(name)
    return lambda value, scope: shown(value, scope) if scope.includes_prompts else otherwise


def _always(answer: object) -> Rule:
    return lambda _value, _scope: answer


def _within(name: str) -> Rule:
    """Read by our own code only."""
    return lambda value, _scope: getattr(value, name)


def _title(conversation: Conversation, scope: ShareScope) -> str:
    """An automatic title is the beginning of the first message."""
    return conversation.title if scope.includes_prompts or conversation.title_was_given else ""


TABLE: Final[Mapping[type, Mapping[str, Rule]]] = {
    Conversation: {
        # Its title and its turns. The other fields cannot be null, and say nothing.
        **_as_it_is("id"),
        "as_of": _within("as_of"),
        "title": _title,
        "source_image": _always(None),
        "aspect_ratio": _always(SQUARE),
        "resolution": _always(Resolution.ONE_K),
        "turn_count": _always(0),
        "created_at": _always(_NEVER),
        "updated_at": _always(_NEVER),
    },
    Turn: {
        **_as_it_is(
            *("id", "conversation_id", "turn_index", "references", "aspect_ratio", "resolution"),
            *("options", "status", "outputs", "error", "selected_model_ids"),
            *("created_at", "updated_at", "completed_at", "chosen_output"),
        ),
        "user_message": _with_prompts("user_message", otherwise=""),
        "output": lambda turn, scope: lambda slot: show(turn.output(slot), scope),
    },
    TurnOptions: {
        **_as_it_is("images_per_model", "previews", "quality", "format", "width", "height"),
        **_as_it_is("seed", "context"),
        "negative_prompt": _with_prompts("negative_prompt", otherwise=None),
        # What was asked for, drawn instead of written.
        **{
            name: _with_prompts(name, otherwise=None)
            for name in ("mask", "feather", "keep_outside")
        },
    },
    Output: {
        **_as_it_is(
            *("id", "turn_id", "requested_model_id", "model_id", "status", "unfinished"),
            *("progress", "queue_position", "preview", "image", "images", "references", "error"),
            *(
                "drift",
                "provider",
                "quality",
                "size",
                "attempt",
                "queued_at",
                "started_at",
                "completed_at",
            ),
            "chosen",
        ),
        "post_id": _always(None),
        "text": _with_prompts("text", otherwise=None),
        "usage": _always(None),
        "credits_reserved": _always(0),
        "credits_charged": _always(0),
    },
    GenerationError: _as_it_is("code", "message", "retryable"),
    Drift: _as_it_is("changed", "outside_mask"),
    Preview: _as_it_is("index", "key", "width", "height"),
    Reference: _as_it_is("image", "origin"),
    Image: {
        **_as_it_is(
            *("id", "key", "keys", "width", "height", "content_type", "byte_size", "thumbhash"),
            *("origin", "model_id", "seed", "output_id", "created_at", "provenance"),
        ),
        "key_at_least": _within("key_at_least"),
    },
    ImageRecord: {
        # Loaders find the records of images that the conversation's own turns have made, and no
        # others: not that of a reference from another conversation.
        "prompt": _with_prompts("prompt", otherwise=None),
        "favourite": _always(False),
        "made_from": _always(()),
    },
    Provenance: _as_it_is("digital_source_type", "content_credentials"),
}
"""By class and attribute. What is not named here is not shown."""


class Shown:
    """Stands for a value, as the readers of a scope may see it."""

    __slots__ = ("_scope", "_value")

    def __init__(self, value: object, scope: ShareScope) -> None:
        self._value, self._scope = value, scope

    def __getattr__(self, name: str) -> object:
        rule = _rules_of(_class_of(self._value)).get(name)
        if rule is None:
            raise AttributeError(f"{name!r} is not shown to the readers of a share.")
        return rule(self._value, self._scope)


def show(value: Value, scope: ShareScope) -> Value:
    """The value as the readers of the scope may see it. Raise TypeError if the table has no row
    for it.
    """
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        return cast(Value, tuple(show(item, scope) for item in value))
    _rules_of(_class_of(value))
    return cast(Value, Shown(value, scope))


def output_within(image: Image, scope: ShareScope) -> tuple[TurnId, int] | None:
    """The turn and the slot that have the image, if the conversation's own outputs have it.

    A fork has copies of turns, whose images are the original's: they have its index and slots.
    """
    parent_id, slot = parent_of_output(image.output_id) if image.output_id else (None, 0)
    turn_id = as_turn_id(parent_id) if parent_id else None
    if turn_id is None:
        return None
    return turn_id_of(scope.conversation_id, index_of_turn(turn_id)), slot


def show_update(update: TurnUpdate, scope: ShareScope) -> TurnUpdate:
    return TurnUpdate(
        turn=show(update.turn, scope),
        changed_outputs=show(update.changed_outputs, scope),
        bookmark=update.bookmark,
        cursor=update.cursor,
    )


def scope_of(value: object) -> ShareScope | None:
    """The scope that a value is shown to; None for one that is not shown by a share."""
    return value._scope if isinstance(value, Shown) else None


def without_scope(value: object) -> object:
    return value._value if isinstance(value, Shown) else value


def _class_of(value: Any) -> Any:
    return value.__class__


@cache
def _rules_of(kind: type) -> Mapping[str, Rule]:
    """Those of the domain class: a value that was read from the database is of a class below it."""
    for ancestor in kind.__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor]
    raise TypeError(f"{kind.__name__} is not shown to the readers of a share.")


@dataclass(frozen=True, slots=True)
class SharedConversation:
    """What a share's link leads to."""

    share: Share
    conversation: Conversation
    """As it is shown."""

    @property
    def title(self) -> str:
        return self.conversation.title

    @property
    def expires_at(self) -> datetime | None:
        return self.share.expires_at
