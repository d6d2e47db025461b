"""Node: the interface of objects that can be fetched by their id."""

from typing import ClassVar

import strawberry

from schema.companions import without_companion


@strawberry.interface(description="An object that can be fetched again by its id.")
class Node:
    source: ClassVar[type]
    """The domain class whose values answer the fields: a field without a resolver is the value's
    attribute of the same name. Types that are no nodes name theirs in the same way.
    """

    id: strawberry.ID = strawberry.field(
        description="A globally unique id with a prefix: `conv_01jd…`, `turn_01jd…_0003`, "
        "`out_01jd…_0003_1`, `post_01jd…`, `pout_01jd…_1`, `img_01jd…`, `album_01jd…`, "
        "`prompt_…`, `exp_…`, `imp_…` or `user_…`. Ids sort by creation time, except those of "
        "prompts, viewers, imports and what was imported."
    )

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(without_companion(value), cls.source)
