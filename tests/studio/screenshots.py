"""Screenshots of every view of the studio, for review: `make screenshots OUT=folder`.

Views on a desktop, a tablet, a phone and a narrow phone (in Portuguese, whose words are longer),
light and dark, in the states that people meet: loading, empty, half landed, failed, complete. It
needs Chromium, and starts a Darkroom of its own.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, Page, async_playwright

from runtime.local_mongod import Mongod
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, darkrooms
from tests.operations import conversation_with, samples, send, start, until_finished
from tests.serving import free_port
from tests.studio.conftest import ARGUMENTS
from tests.studio.steps import wait_until_true
from tests.tools import need, need_mongod

SIZES: Final = {
    "desktop": (1440, 900),
    "tablet": (820, 1180),
    "phone": (390, 844),
    "narrow": (320, 640),
}
SCHEMES: Final = ("light", "dark")
MODELS: Final = ["local-silver", "local-ink", "rehearsal-lands-last"]
BROWSERS: Final = 4
"""How many scenes are set at once: most of the time each waits for something."""
SETTLED_MILLISECONDS: Final = 400
SEEN: Final = """[...document.images].every((image) => {
  const { top, bottom } = image.getBoundingClientRect();
  return image.complete || bottom < 0 || top > innerHeight;
})"""
"""All images on the screen are there."""
LANDING_MILLISECONDS: Final = 180_000
Act = Callable[[Page], Awaitable[object]]
MAKE: Final = """
mutation Make($post: GeneratePostInput!, $album: CreateAlbumInput!, $share: CreateShareInput!) {
  generatePost(input: $post) { post { id } }
  createAlbum(input: $album) { album { id } }
  createShare(input: $share) { share { url } }
}
"""


@dataclass(frozen=True)
class Scene:
    """What a browser shows once `act` has been done at this address."""

    name: str
    path: str = ""
    act: Act | None = None
    viewer: str | None = "ana"
    loading: bool = False
    """The API never answers."""


@dataclass(frozen=True)
class World:
    """What there is to look at."""

    client: GraphQLClient
    done: Data
    failed: Data
    post: str
    album: str
    share: str
    """The paths of a post, an album and a shared conversation."""


async def build(darkroom: Darkroom) -> World:
    client = darkroom.client("ana")
    newest = (await samples(client))[0]["id"]
    large: Data = {"options": {}}
    done = await conversation_with(
        client,
        userMessage="Make it night, with a golden frame",
        selectedModels=MODELS,
        sourceImageId=newest,
        **large,
    )
    sent = await send(
        client,
        done["conversation"]["id"],
        userMessage='Warm light in the windows, like @Image1, and the words "Good night"',
        selectedModels=MODELS[:2],
        **large,
    )
    await until_finished(client, sent["turn"])
    failed = await conversation_with(
        client,
        userMessage="Make it warmer",
        selectedModels=["rehearsal-fails", "rehearsal-refuses"],
        **large,
    )
    pictures = [image["id"] for image in await samples(client)]
    made = await client(
        MAKE,
        post={"userMessage": "A weekend at the lighthouse", "selectedModels": MODELS[:2]},
        album={"title": "Lighthouses", "imageIds": pictures},
        share={"conversationId": done["conversation"]["id"], "includePrompts": True},
    )
    return World(
        client,
        done,
        failed,
        post=f"posts/{made['generatePost']['post']['id']}",
        album=f"albums/{made['createAlbum']['album']['id']}",
        share=f"shared/{made['createShare']['share']['url'].rsplit('/', 1)[1]}",
    )


async def start_half_landed(client: GraphQLClient) -> str:
    models = ["local-ink", "rehearsal-slow", "rehearsal-hangs"]
    newest = (await samples(client))[0]["id"]
    started = await start(
        client,
        userMessage="Make it warmer, with a golden frame",
        selectedModels=models,
        sourceImageId=newest,
        options={},
    )
    return path_of(started)


def path_of(payload: Data) -> str:
    return f"conversations/{payload['conversation']['id']}"


def click(*names: str) -> Act:
    async def act(page: Page) -> None:
        for name in names:
            button = page.get_by_role("button", name=re.compile(name)).first
            await button.click(force=True)
            await page.wait_for_timeout(300)

    return act


async def paint(page: Page) -> None:
    await click("^(Mask|Máscara)$")(page)
    await wait_until_true(page, SEEN)
    # It has its size once it can be pointed at.
    await page.locator("dialog canvas").hover()
    box = await page.locator("dialog canvas").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    await page.mouse.down()
    for step in range(8):
        x, y = 0.3 + step * 0.06, 0.3 + (step % 2) * 0.1
        await page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    await page.mouse.up()


async def wait_until_half_landed(page: Page) -> None:
    await page.locator('[data-status="COMPLETED"]').first.wait_for()
    await page.locator(".preview").first.wait_for()


async def to_the_top(page: Page) -> None:
    await page.locator('[data-turn="1"] [data-status="COMPLETED"]').first.wait_for()
    await page.wait_for_timeout(600)
    await page.evaluate("scrollTo(0, 0)")


async def only_uploads(page: Page) -> None:
    await page.locator("figure").first.wait_for()
    await page.get_by_role("radio", name=re.compile("^(Uploads|Enviadas)$")).check(force=True)


def scenes(world: World, half_landed: str) -> list[Scene]:
    done, failed = path_of(world.done), path_of(world.failed)
    return [
        Scene("conversation-half-landed", half_landed, wait_until_half_landed),
        Scene("sign-in", viewer=None),
        Scene("gallery"),
        Scene("welcome", viewer="newcomer"),
        Scene("conversations-empty", "conversations", viewer="newcomer"),
        Scene("gallery-loading", loading=True),
        Scene("gallery-empty", act=only_uploads),
        Scene("start", act=click("^(Edit|Editar) ")),
        Scene("models", act=click("^(Edit|Editar) ", "^(Models|Modelos)$")),
        Scene("lightbox", act=click("^(Open|Abrir) ")),
        Scene("conversations", "conversations"),
        Scene("conversation", done, to_the_top),
        Scene("conversation-end", done),
        Scene("conversation-loading", done, loading=True),
        Scene("conversation-failed", failed),
        Scene("conversation-options", done, click("^(More|Mais)$")),
        Scene("references", done, click("^Refer(ences|ências)$")),
        Scene("mask", done, paint),
        Scene(
            "compare", done, click("^(Compare the images of edit|Comparar as imagens da edição) 1")
        ),
        Scene("lost", "conversations/conv_none"),
        Scene("posts", "posts"),
        Scene("post", world.post),
        Scene("post-new", "posts", click("^(New post|Nova publicação)")),
        Scene("albums", "albums"),
        Scene("album", world.album),
        Scene(
            "album-selecting", world.album, click("^(Select|Selecionar)$", "^(Select|Selecionar) “")
        ),
        Scene("shared", world.share, to_the_top, viewer=None),
        Scene("statistics", "statistics"),
        Scene("settings", act=click("^(Settings|Configurações)$")),
    ]


async def shoot(
    browser: Browser, darkroom: Darkroom, scene: Scene, *, size: str, scheme: str, folder: Path
) -> None:
    width, height = SIZES[size]
    options: dict[str, Any] = {
        "viewport": {"width": width, "height": height},
        "color_scheme": scheme,
        "locale": "pt-BR" if size == "narrow" else "en-US",
        "has_touch": size != "desktop",
        "reduced_motion": "reduce",
    }
    context = await browser.new_context(**options)
    context.set_default_timeout(LANDING_MILLISECONDS)
    page = await context.new_page()
    if scene.loading:
        await page.add_init_script("window.fetch = () => new Promise(() => {})")
    token = f"#token={darkroom.token(scene.viewer)}" if scene.viewer else ""
    await page.goto(f"{darkroom.url}/studio/{scene.path}{token}")
    await settle(page)
    if scene.act:
        await scene.act(page)
    await settle(page)
    await page.screenshot(path=folder / f"{scene.name}-{size}-{scheme}.png")
    await context.close()


async def settle(page: Page) -> None:
    await page.wait_for_timeout(SETTLED_MILLISECONDS)
    await wait_until_true(page, SEEN)
    await page.wait_for_timeout(SETTLED_MILLISECONDS)


@contextlib.asynccontextmanager
async def a_darkroom() -> AsyncIterator[Darkroom]:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "mongod").mkdir()
        mongod = Mongod(folder / "mongod", binary=need_mongod(), preferred_port=free_port())
        await mongod.start()
        try:
            async with darkrooms(mongod.uri, folder) as start_darkroom:
                yield await start_darkroom()
        finally:
            await mongod.stop()


async def main(folder: Path, only: str, sizes: list[str], schemes: list[str]) -> None:
    async with a_darkroom() as darkroom, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        world = await build(darkroom)
        limit = asyncio.Semaphore(BROWSERS)

        async def take(scene: Scene, size: str, scheme: str) -> None:
            async with limit:
                await shoot(browser, darkroom, scene, size=size, scheme=scheme, folder=folder)

        for size, scheme in itertools.product(sizes, schemes):
            half_landed = await start_half_landed(world.client)
            async with asyncio.TaskGroup() as tasks:
                for scene in scenes(world, half_landed):
                    if re.search(only, scene.name):
                        tasks.create_task(take(scene, size, scheme))
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a pattern of names of scenes")
    parser.add_argument("--size", choices=SIZES, action="append")
    parser.add_argument("--scheme", choices=SCHEMES, action="append")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(
        main(given.folder, given.only, given.size or list(SIZES), given.scheme or list(SCHEMES))
    )
