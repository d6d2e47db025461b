"""Node: whatever has an id of its own and can be fetched again by it."""

import strawberry


@strawberry.interface(description="An object that can be fetched again by its id.")
class Node:
    id: strawberry.ID = strawberry.field(
        description="Globally unique and prefixed: `conv_01jd…`, `turn_01jd…_0003`, "
        "`out_01jd…_0003_1`, `img_01jd…`, `prompt_…`, `user_…`. All but a prompt's and a "
        "viewer's sort by age."
    )
