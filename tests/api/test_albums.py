"""Albums through the API: images added in an order, any number of times."""

import asyncio

from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    DELETE_IMAGES,
    DELETE_VIEWER,
    SMALL,
    codes,
    conversation_with,
    samples,
)

UNKNOWN = "img_00000000000000000000000000"
ALBUM = """
fragment Album on Album { id title createdAt images(first: 50) { nodes { id } } }
"""
CREATE = (
    """
mutation Create($input: CreateAlbumInput!) {
  createAlbum(input: $input) { album { ...Album } userErrors { code message path } }
}
"""
    + ALBUM
)
UPDATE = (
    """
mutation Update($input: UpdateAlbumInput!) {
  updateAlbum(input: $input) { album { ...Album } userErrors { code message path } }
}
"""
    + ALBUM
)
DELETE_ALBUM = """
mutation Delete($id: ID!) {
  deleteAlbum(input: {albumId: $id}) { deletedAlbumId userErrors { code message path } }
}
"""
LIST = """
query List($first: Int, $after: String) { viewer { albums(first: $first, after: $after) {
  nodes { id title } pageInfo { hasNextPage endCursor }
} } }
"""
READ = "query Read($id: ID!) { node(id: $id) { ...Album } }" + ALBUM


async def create(client: GraphQLClient, title: str = "Boats", **input: object) -> Data:
    payload: Data = (await client(CREATE, input={"title": title, **input}))["createAlbum"]
    return payload


async def update(client: GraphQLClient, album_id: str, **input: object) -> Data:
    payload: Data = (await client(UPDATE, input={"albumId": album_id, **input}))["updateAlbum"]
    return payload


def ids_of(album: Data) -> list[str]:
    return [image["id"] for image in album["images"]["nodes"]]


async def pictures(client: GraphQLClient) -> list[str]:
    return [image["id"] for image in await samples(client)]


async def test_images_of_an_album_are_in_the_order_in_which_they_were_added(
    client: GraphQLClient,
) -> None:
    one, two, three, *_ = await pictures(client)

    made = await create(client, "  My\nboats ", imageIds=[two, one, two])
    album_id = made["album"]["id"]
    added = await update(client, album_id, addImageIds=[one, three])
    moved = await update(client, album_id, removeImageIds=[two, UNKNOWN], addImageIds=[two])
    renamed = await update(client, album_id, title="Ships", removeImageIds=[one])
    other = await create(client, "Other", imageIds=[three])

    assert made["userErrors"] == []
    assert made["album"]["title"] == "My boats"
    assert ids_of(made["album"]) == [two, one]
    assert ids_of(added["album"]) == [two, one, three]
    assert ids_of(moved["album"]) == [one, three, two]
    assert (renamed["album"]["title"], ids_of(renamed["album"])) == ("Ships", [three, two])
    assert (await client(READ, id=album_id))["node"] == renamed["album"]
    assert ids_of(other["album"]) == [three]


async def test_albums_and_their_images_are_paged(client: GraphQLClient) -> None:
    images = (await pictures(client))[:3]
    made = [(await create(client, f"{n}", imageIds=images))["album"]["id"] for n in range(3)]
    page = """query($id: ID!, $after: String) { node(id: $id) { ... on Album {
      images(first: 2, after: $after) { nodes { id favourite prompt }
        pageInfo { hasNextPage endCursor } } } } }"""

    first = (await client(LIST, first=2))["viewer"]["albums"]
    rest = (await client(LIST, after=first["pageInfo"]["endCursor"]))["viewer"]["albums"]
    two = (await client(page, id=made[0]))["node"]["images"]
    await client(DELETE_IMAGE, id=images[0])
    one = (await client(page, id=made[0], after=two["pageInfo"]["endCursor"]))["node"]["images"]

    assert [album["id"] for album in first["nodes"]] == made[:0:-1]
    assert [album["id"] for album in rest["nodes"]] == made[:1]
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert [image["id"] for image in two["nodes"]] == images[:2]
    assert [image["id"] for image in one["nodes"]] == images[2:]
    assert not one["pageInfo"]["hasNextPage"]


async def test_deleted_images_leave_albums_and_deleted_albums_keep_images(
    client: GraphQLClient,
) -> None:
    one, two, three, *_ = await pictures(client)
    albums = [(await create(client, imageIds=[one, two, three]))["album"]["id"] for _ in range(2)]

    await client(DELETE_IMAGE, id=one)
    await client(DELETE_IMAGES, ids=[three])
    seen = [ids_of((await client(READ, id=album_id))["node"]) for album_id in albums]
    deleted = (await client(DELETE_ALBUM, id=albums[0]))["deleteAlbum"]
    again = (await client(DELETE_ALBUM, id=albums[0]))["deleteAlbum"]

    assert seen == [[two], [two]]
    assert deleted == {"deletedAlbumId": albums[0], "userErrors": []}
    assert codes(again) == [("NOT_FOUND", "albumId")]
    assert (await client(READ, id=albums[0]))["node"] is None
    assert two in await pictures(client)
    assert ids_of((await client(READ, id=albums[1]))["node"]) == [two]


async def test_an_image_in_an_album_outlives_its_conversation(client: GraphQLClient) -> None:
    started = await conversation_with(client, options={**SMALL, "imagesPerModel": 2})
    kept, gone = started["turn"]["outputs"][0]["images"]
    album_id = (await create(client, imageIds=[kept["id"]]))["album"]["id"]

    await client(DELETE, id=started["conversation"]["id"])

    assert ids_of((await client(READ, id=album_id))["node"]) == [kept["id"]]
    assert (await client.http.get(kept["url"])).status_code == 200
    assert (await client.http.get(gone["url"])).status_code == 404


async def test_all_user_errors_of_an_album_are_returned_at_once(client: GraphQLClient) -> None:
    (one, *_) = await pictures(client)
    album_id = (await create(client))["album"]["id"]

    refused = await create(client, " ", imageIds=[one, UNKNOWN, "nonsense"])
    unchanged = await update(client, album_id, title="x" * 121, addImageIds=[UNKNOWN, one])
    missing = await update(client, "album_" + UNKNOWN[4:], title="")
    too_many = await client.execute(CREATE, input={"title": "Many", "imageIds": [UNKNOWN] * 101})

    assert codes(refused) == [
        ("TITLE_INVALID", "title"),
        ("NOT_FOUND", "imageIds.1"),
        ("NOT_FOUND", "imageIds.2"),
    ]
    assert codes(unchanged) == [("TITLE_INVALID", "title"), ("NOT_FOUND", "addImageIds.0")]
    assert codes(missing) == [("TITLE_INVALID", "title"), ("NOT_FOUND", "albumId")]
    assert too_many["errors"][0]["extensions"] == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "imageIds",
        "max": 100,
        "actual": 101,
    }
    assert ids_of((await client(READ, id=album_id))["node"]) == []
    assert len((await client(LIST))["viewer"]["albums"]["nodes"]) == 1


async def test_concurrent_changes_of_an_album_are_all_applied(client: GraphQLClient) -> None:
    images = await pictures(client)
    album_id = (await create(client))["album"]["id"]

    await asyncio.gather(*(update(client, album_id, addImageIds=[one]) for one in images * 2))

    album = (await client(READ, id=album_id))["node"]
    assert sorted(ids_of(album)) == sorted(images)


async def test_albums_are_visible_to_their_owner_only(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    (mine, *_), other = await pictures(client), darkroom.client()
    (theirs, *_) = await pictures(other)
    album_id = (await create(client, imageIds=[mine]))["album"]["id"]

    assert (await other(READ, id=album_id))["node"] is None
    assert (await other(LIST))["viewer"]["albums"]["nodes"] == []
    assert codes(await update(other, album_id, title="Mine")) == [("NOT_FOUND", "albumId")]
    assert codes((await other(DELETE_ALBUM, id=album_id))["deleteAlbum"]) == [
        ("NOT_FOUND", "albumId")
    ]
    assert codes(await create(other, imageIds=[mine])) == [("NOT_FOUND", "imageIds.0")]
    assert codes(await update(client, album_id, addImageIds=[theirs])) == [
        ("NOT_FOUND", "addImageIds.0")
    ]
    await update(client, album_id, removeImageIds=[theirs])
    assert ids_of((await client(READ, id=album_id))["node"]) == [mine]
    for query, variables in (
        (CREATE, {"input": {"title": "x"}}),
        (DELETE_ALBUM, {"id": album_id}),
        (READ, {"id": album_id}),
        (LIST, {}),
    ):
        answer = await darkroom.anonymous().execute(query, **variables)
        assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_deleting_a_viewer_deletes_albums_and_statistics(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client("ana")
    await conversation_with(client)
    await create(client, imageIds=await pictures(client))
    viewer = (await client("{ viewer { id } }"))["viewer"]["id"]

    deleted = (await client(DELETE_VIEWER, id=viewer))["deleteViewer"]

    assert deleted["userErrors"] == []
    again = await client("{ viewer { albums { nodes { id } } modelStats { asked } } }")
    assert again["viewer"] == {"albums": {"nodes": []}, "modelStats": []}


SEARCH = """
query Search($search: String, $favourite: Boolean, $after: String) {
  viewer { images(first: 2, search: $search, favourite: $favourite, after: $after) {
    nodes { prompt } pageInfo { hasNextPage endCursor } } }
}
"""


async def test_images_are_found_by_words_of_their_prompts(client: GraphQLClient) -> None:
    for words in ("A red Bôat", "A red house", "Boats at sea"):
        await conversation_with(client, userMessage=words)

    async def found(search: str | None, **more: object) -> list[str]:
        page = (await client(SEARCH, search=search, **more))["viewer"]["images"]
        return [image["prompt"] for image in page["nodes"]]

    assert await found("boat") == ["Boats at sea", "A red Bôat"]
    assert await found("BOA RED") == ["A red Bôat"]
    assert await found("oat") == await found("$where") == await found("red sea") == []
    assert await found("boat", favourite=True) == []
    first = (await client(SEARCH, search="a"))["viewer"]["images"]
    rest = await found("a", after=first["pageInfo"]["endCursor"])
    assert [image["prompt"] for image in first["nodes"]] == ["Boats at sea", "A red house"]
    assert rest[0] == "A red Bôat"
    other = await client.execute(SEARCH, search="red", after=first["pageInfo"]["endCursor"])
    assert other["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


SET_FAVOURITES = """
mutation Set($ids: [ID!]!, $favourite: Boolean!) {
  setFavourites(input: {ids: $ids, favourite: $favourite}) {
    images { id favourite } prompts { id favourite } userErrors { code message path }
  }
}
"""


async def test_all_images_of_a_request_are_marked_or_none(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    await conversation_with(client)
    images = await pictures(client)
    prompts = (await client("{ viewer { prompts { nodes { id } } } }"))["viewer"]["prompts"]
    prompt = prompts["nodes"][0]["id"]
    theirs = (await pictures(darkroom.client()))[0]

    async def mark(ids: list[str], favourite: bool = True) -> Data:
        payload: Data = (await client(SET_FAVOURITES, ids=ids, favourite=favourite))[
            "setFavourites"
        ]
        return payload

    refused = await mark([images[0], theirs, "nonsense", prompt])
    favourites = "{ viewer { images(favourite: true) { nodes { id } } } }"
    none = (await client(favourites))["viewer"]["images"]["nodes"]
    marked = await mark([*images, prompt, images[0]])
    unmarked = await mark(images[1:], favourite=False)
    too_many = await client.execute(SET_FAVOURITES, ids=[images[0]] * 101, favourite=True)

    assert codes(refused) == [("NOT_FOUND", "ids.1"), ("NOT_FOUND", "ids.2")]
    assert refused["images"] == refused["prompts"] == none == []
    assert marked["images"] == [{"id": one, "favourite": True} for one in images]
    assert marked["prompts"] == [{"id": prompt, "favourite": True}]
    assert unmarked["images"] == [{"id": one, "favourite": False} for one in images[1:]]
    assert (await client(favourites))["viewer"]["images"]["nodes"] == [{"id": images[0]}]
    assert too_many["errors"][0]["extensions"]["limit"] == "ids"
