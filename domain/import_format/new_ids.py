"""What the ids of an export become, the same each time for one import."""

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
        if parse_conversation_id(old) is None:
            raise NotAnExport("A conversation's id is not valid.")
        return conversation_id_of(self.import_id, old)

    def post(self, old: str) -> PostId:
        if parse_post_id(old) is None:
            raise NotAnExport("A post's id is not valid.")
        return post_id_of(self.import_id, old)

    def album(self, old: str) -> AlbumId:
        if parse_album_id(old) is None:
            raise NotAnExport("An album's id is not valid.")
        return album_id_of(self.import_id, old)

    def image(self, old: str) -> ImageId:
        if parse_image_id(old) is None:
            raise NotAnExport("An image's id is not valid.")
        return image_id_of(self.import_id, old)

    def output(self, old: str | None) -> OutputId | None:
        """Leads nowhere where what made the image is not part of the export."""
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
