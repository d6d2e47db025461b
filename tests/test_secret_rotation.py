"""Two processes side by side while DARKROOM_SECRET is being replaced: each accepts what the other
has signed.
"""

from pydantic import SecretStr

from tests.api.test_shares import READ, share
from tests.clients import GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import FOLLOW, GALLERY, conversation_with
from tests.uploads import a_picture, create, declared, send_file

OLD, NEW = SecretStr("old-" * 10), SecretStr("new-" * 10)


async def test_each_process_accepts_what_the_other_has_signed(
    start_darkroom: StartDarkroom,
) -> None:
    prepared = await start_darkroom(secret=OLD, other_secret=NEW)
    switched = await start_darkroom(secret=NEW, other_secret=OLD)
    before, after = prepared.client("ana"), switched.client("ana")

    await _accepts(after, signed_by=before)
    await _accepts(before, signed_by=after)


async def _accepts(client: GraphQLClient, *, signed_by: GraphQLClient) -> None:
    """Cursors, links to images, uploads and shares."""
    started = await conversation_with(signed_by)
    conversation_id = started["conversation"]["id"]
    async with client.subscribe(FOLLOW, id=conversation_id, after=started["cursor"]) as updates:
        assert (await updates.next())["turnUpdated"]["turn"]["id"] == started["turn"]["id"]

    page = (await signed_by(GALLERY, first=1))["viewer"]["images"]
    following = await client(GALLERY, first=1, after=page["pageInfo"]["endCursor"])
    assert page["nodes"][0]["id"] not in {
        one["id"] for one in following["viewer"]["images"]["nodes"]
    }
    image = await client.http.get(page["nodes"][0]["url"].removeprefix(signed_by.url))
    assert image.status_code == 200

    data = a_picture()
    [upload] = await create(signed_by, declared(data))
    presigned = {**upload, "url": upload["url"].replace(signed_by.url, client.url)}
    assert (await send_file(presigned, data)).is_success

    token = (await share(signed_by, conversation_id))["token"]
    assert (await client(READ, token=token))["shared"]["turns"]["nodes"]
