"""What the API and downloaded files say about how an image was made."""

import pytest

from domain.images import DigitalSourceType, Rendition
from storage.imaging.containers import read_container
from tests.api.test_deleting_viewer import database_of
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import FOLLOW, a_sample, conversation_with, start
from tests.storage.pictures import CANARY, exif
from tests.storage.test_provenance import said_by
from tests.uploads import a_picture, uploaded

IMAGE = """query($id: ID!) { image(id: $id) {
  contentType width byteSize url small: url(width: 256)
  provenance { digitalSourceType contentCredentials }
} }"""
TRAINED = "TRAINED_ALGORITHMIC_MEDIA"
COMPOSITE = "COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA"


async def shown(client: GraphQLClient, image_id: str) -> Data:
    image: Data = (await client(IMAGE, id=image_id))["image"]
    return image


async def said(client: GraphQLClient, url: str) -> str:
    """The digital source type in a file, as the API names it."""
    response = await client.http.get(url)
    response.raise_for_status()
    container = read_container(response.content, max_pixels=10_000_000)
    rendition = Rendition(
        data=response.content,
        content_type=container.content_type,
        width=container.width,
        height=container.height,
    )
    return DigitalSourceType(said_by(rendition)).name


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
async def test_every_file_of_a_generated_image_says_that_it_was_generated(
    client: GraphQLClient, image_format: str
) -> None:
    options = {"width": 512, "height": 512, "format": image_format, "previews": 0}
    made = await conversation_with(client, turns=1, options=options)
    [image] = made["turn"]["outputs"][0]["images"]
    edited = await conversation_with(client, sourceImageId=image["id"], options=options)
    [edit] = edited["turn"]["outputs"][0]["images"]

    for image_id, expected in ((image["id"], TRAINED), (edit["id"], COMPOSITE)):
        found = await shown(client, image_id)
        assert found["provenance"] == {"digitalSourceType": expected, "contentCredentials": False}
        assert found["contentType"] == f"image/{image_format.lower()}"
        assert found["url"] != found["small"]
        assert await said(client, found["url"]) == expected
        assert await said(client, found["small"]) == expected
        assert len((await client.http.get(found["url"])).content) == found["byteSize"]


async def test_previews_say_that_they_were_generated(client: GraphQLClient) -> None:
    started = await start(client, selectedModels=["rehearsal-slow"], options={"previews": 3})
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        seen = await updates.until(
            lambda data: data["turnUpdated"]["turn"]["outputs"][0]["preview"]
        )

    preview = seen[-1]["turnUpdated"]["turn"]["outputs"][0]["preview"]
    assert await said(client, preview["url"]) == TRAINED


async def test_samples_say_that_they_were_generated_and_uploads_do_not(
    client: GraphQLClient,
) -> None:
    sample = await shown(client, (await a_sample(client))["id"])
    data = a_picture((600, 400), format="JPEG", exif=exif(1), xmp=CANARY, comment=CANARY)
    upload = await shown(client, (await uploaded(client, data, "image/jpeg"))["id"])

    assert sample["provenance"] == {"digitalSourceType": TRAINED, "contentCredentials": False}
    assert await said(client, sample["url"]) == TRAINED
    assert await said(client, sample["small"]) == TRAINED
    assert upload["provenance"] is None
    for url in (upload["url"], upload["small"]):
        content = (await client.http.get(url)).content
        assert CANARY not in content
        assert b"xmp" not in content.lower()
        assert b"Exif" not in content


async def test_images_stored_before_provenance_have_none(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    """Their records have no such field."""
    sample = await a_sample(client)
    async with database_of(darkroom) as stored:
        await stored.images.update_one({"_id": sample["id"]}, {"$unset": {"provenance": ""}})

    assert (await shown(client, sample["id"]))["provenance"] is None
