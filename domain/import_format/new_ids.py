"""What the ids of an export become, the same each time for one import."""

from collections.abc import Callable
from dataclasses import dataclass

from domain.ids import (
    AlbumId,
    ConversationId,
    ImageId,
    ImportId,
    OutputId,
    PostId,
    album_id_of,
    as_post_id,
    as_turn_id,
    conversation_id_of,
    conversation_of_turn,
    image_id_of,
    index_of_turn,
    output_id_of,
    parent_of_output,
    parse_album_id,
    parse_conversation_id,
    parse_image_id,
    parse_output_id,
    parse_post_id,
    post_id_of,
    turn_id_of,
)
from domain.import_format.facts import NotAnExport


@dataclass(frozen=True, slots=True)
class NewIds:
    import_id: ImportId

    def conversation(self, old: str) -> ConversationId:
        return conversation_id_of(
            self.import_id, _check("A conversation", old, parse_conversation_id)
        )

    def post(self, old: str) -> PostId:
        return post_id_of(self.import_id, _check("A post", old, parse_post_id))

    def album(self, old: str) -> AlbumId:
        return album_id_of(self.import_id, _check("An album", old, parse_album_id))

    def image(self, old: str) -> ImageId:
        return image_id_of(self.import_id, _check("An image", old, parse_image_id))

    def output(self, old: str | None) -> OutputId | None:
        """The id of the output that an image is from. There may be no such output: an export can
        have an image without the turn or post that it was made for.
        """
        parsed = parse_output_id(old) if old is not None else None
        if parsed is None:
            return None
        parent_id, slot = parent_of_output(parsed)
        post_id, turn_id = as_post_id(parent_id), as_turn_id(parent_id)
        if post_id is not None:
            return output_id_of(self.post(post_id), slot)
        assert turn_id is not None
        conversation_id = self.conversation(conversation_of_turn(turn_id))
        return output_id_of(turn_id_of(conversation_id, index_of_turn(turn_id)), slot)


def _check(noun: str, old: str, parse: Callable[[str], object]) -> str:
    if parse(old) is None:
        raise NotAnExport(f"{noun}'s id is not valid.")
    return old
